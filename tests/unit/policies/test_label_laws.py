"""The lattice of labels: joining is a least upper bound, and `flows_to` is its order."""

from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st

from policies.label import CLEAN, Integrity, Label, Source, join_all

names = st.sampled_from(["user", "bank", "mail.send", "passport", "secret"])
sources = st.builds(Source, names, names, st.sampled_from(["", "act_1"]), st.sampled_from(["", "/a"]))
labels = st.builds(
    Label,
    integrity=st.sampled_from(list(Integrity)),
    readers=st.none() | st.frozensets(names, max_size=3),
    classes=st.frozensets(names, max_size=3),
    sources=st.frozensets(sources, max_size=3),
)
few = settings(max_examples=60)


@few
@given(labels, labels, labels)
def test_joining_is_associative_commutative_and_idempotent(a: Label, b: Label, c: Label) -> None:
    assert a.join(b.join(c)) == a.join(b).join(c)
    assert a.join(b) == b.join(a)
    assert a.join(a) == a


@few
@given(labels, labels)
def test_flows_to_is_the_order_of_the_join(a: Label, b: Label) -> None:
    assert a.flows_to(b) == (a.join(b) == b)


@few
@given(labels, labels, labels)
def test_the_join_is_the_least_label_that_both_flow_to(a: Label, b: Label, c: Label) -> None:
    both = a.join(b)
    assert a.flows_to(both)
    assert b.flows_to(both)
    if a.flows_to(c) and b.flows_to(c):
        assert both.flows_to(c)


@few
@given(labels)
def test_the_bottom_flows_everywhere_and_changes_nothing(a: Label) -> None:
    assert CLEAN.flows_to(a)
    assert CLEAN.join(a) == a
    assert join_all([]) == CLEAN


@few
@given(st.lists(labels, max_size=4))
def test_the_join_of_all_is_one_join_after_another(some: list[Label]) -> None:
    assert join_all(some) == reduce(Label.join, some, CLEAN)


@few
@given(labels, labels)
def test_leaving_sources_out_never_changes_the_rest(a: Label, b: Label) -> None:
    assert a.join(b).bare() == a.bare().join(b.bare())
    assert a.join(b).coarse() == a.coarse().join(b.coarse())


def test_joining_never_widens_who_may_read() -> None:
    public = Label(integrity=Integrity.TRUSTED)
    private = Label(integrity=Integrity.TRUSTED, readers=frozenset({"user"}))
    assert public.join(private).readers == frozenset({"user"})
    assert private.join(Label(integrity=Integrity.TRUSTED, readers=frozenset({"bank"}))).readers == frozenset()
