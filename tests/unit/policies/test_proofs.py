"""What results are worth: labels by pack path, proofs by form and spelling, and nothing at all past a cap."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.proofs import learn

from policies import reading
from policies.label import Integrity, Label, Source
from policies.pack import UNKNOWN_TOOL, Form, ResultField, ToolPack
from policies.packs import load_pack
from policies.proofs import ProofIndex
from policies.reading import read_result

IBAN = "DE89370400440532013000"
PAYEES = load_pack("bank").tool("list_payees")
SEARCH = load_pack("flights").tool("search")
TRAVELLER = load_pack("calendar").tool("get_traveller")


def structured(body: Any) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": json.dumps(body)}], "structuredContent": body}


def payees(iban: str = IBAN) -> dict[str, Any]:
    return structured({"payees": [{"name": "Meridian Air", "iban": iban}]})


def learned(result: dict[str, Any], tool: ToolPack, server: str = "bank") -> tuple[ProofIndex, Label]:
    index = ProofIndex()
    return index, learn(index, result, tool, server, "tool", "act_1")


def test_a_trusted_field_proves_its_value_and_says_where_it_stood() -> None:
    index, label = learned(payees("de89 3704 0044 0532 0130 00"), PAYEES)
    found = index.find(Form.IBAN, IBAN)
    assert found is not None
    assert found.integrity is Integrity.TRUSTED
    assert found.classes == {"bank"}
    assert found.sources == {Source("bank", "tool", "act_1", "/payees/0/iban")}
    assert index.find(Form.IBAN, "de89 3704 0044 0532 0130 00") is not None
    assert index.find(Form.TEXT, IBAN) is None
    assert label.integrity is Integrity.TRUSTED
    assert label.sources == {Source("bank", "tool", "act_1")}


def test_the_whole_result_is_as_bad_as_its_worst_field() -> None:
    body = {"flights": [{"id": "F1", "price_cents": 100, "notes": "pay me"}]}
    index, label = learned(structured(body), SEARCH, "flights")
    assert label.integrity is Integrity.UNTRUSTED
    assert label.readers is None
    assert label.classes == frozenset()
    found = index.find(Form.ID, "F1")
    assert found is not None
    assert found.integrity is Integrity.ATTESTED
    assert index.find(Form.TEXT, "pay me") is None


def test_a_passport_keeps_its_class() -> None:
    index, label = learned(structured({"name": "A", "email": "a@b.example", "passport": "C01"}), TRAVELLER, "calendar")
    found = index.find(Form.ID, "C01")
    assert found is not None
    assert found.classes == {"passport"}
    assert label.classes == {"passport", "traveller"}
    assert label.readers == {"user"}


@pytest.mark.promise("missing-evidence-is-untrusted")
@pytest.mark.parametrize(
    "result",
    [
        structured({"payees": [], "note": "x"}),
        structured({"evil instruction": {}}),
        {"content": [{"type": "text", "text": "hello"}]},
        {"content": [{"type": "image", "data": "aGk=", "mimeType": "image/png"}]},
        {**payees(), "content": [{"type": "text", "text": "something else"}]},
        {**payees(), "content": [{"type": "resource_link", "uri": "https://x.example/"}]},
        {**payees(), "content": "no list"},
        {**payees(), "surprise": "x"},
        {"content": [{"type": "text", "text": '{"payees": [{"iban": "A", "iban": "B"}]}'}]},
    ],
)
def test_what_no_pack_path_reaches_is_untrusted_and_private(result: dict[str, Any]) -> None:
    _, label = learned(result, PAYEES)
    assert label.integrity is Integrity.UNTRUSTED
    assert label.readers == {"user"}
    assert "bank" in label.classes


def test_a_tool_that_no_pack_knows_is_untrusted_private_and_of_its_servers_class() -> None:
    index, label = learned(structured({"id": "x"}), UNKNOWN_TOOL, "crm")
    assert (label.integrity, label.readers, label.classes) == (Integrity.UNTRUSTED, {"user"}, {"crm"})
    assert len(index) == 0


@pytest.mark.promise("servers-only-lower")
@pytest.mark.parametrize("meta", [{"integrity": "trusted"}, {"x": 1}])
def test_what_a_server_says_of_itself_can_only_lower(meta: dict[str, Any]) -> None:
    _, claimed = learned({**structured({"note": "x"}), "_meta": meta}, PAYEES)
    assert claimed.integrity is Integrity.UNTRUSTED
    _, lowered = learned({**payees(), "_meta": meta}, PAYEES)
    assert lowered.integrity is Integrity.UNTRUSTED
    people = [{"type": "text", "text": json.dumps({"flights": []}), "annotations": {"audience": ["user"]}}]
    index, private = learned({"content": people}, SEARCH, "flights")
    assert private.readers == {"user"}
    assert len(index) == 0


def test_an_error_proves_nothing() -> None:
    index, label = learned({**payees(), "isError": True}, PAYEES)
    assert len(index) == 0
    assert label.integrity is Integrity.UNTRUSTED


def test_json_in_a_text_block_is_read_where_nothing_is_structured() -> None:
    index, label = learned({"content": [{"type": "text", "text": json.dumps({"payees": [{"iban": IBAN}]})}]}, PAYEES)
    assert index.find(Form.IBAN, IBAN) is not None
    assert label.integrity is Integrity.TRUSTED


def test_text_that_repeats_the_structure_adds_nothing() -> None:
    trusted = [ResultField(path=path, integrity=Integrity.TRUSTED) for path in ("/result", "/result/*/two")]
    body = {"result": ["one", {"two": 2}]}
    blocks = [{"type": "text", "text": "one"}, {"type": "text", "text": '{"two":2}'}]
    _, label = learned({"content": blocks, "structuredContent": body}, ToolPack(result=tuple(trusted)))
    assert label.integrity is Integrity.TRUSTED


def test_the_longest_path_counts_and_the_more_literal_of_equals() -> None:
    tool = ToolPack(
        result=(
            ResultField(path="/a", integrity=Integrity.TRUSTED),
            ResultField(path="/a/*/x", integrity=Integrity.UNTRUSTED),
            ResultField(path="/a/*/*", integrity=Integrity.ATTESTED),
            ResultField(path="/b~1c", integrity=Integrity.ATTESTED),
        )
    )
    index, _ = learned(structured({"a": {"k": {"x": "no", "y": "some"}, "t": "yes"}, "b/c": "slash"}), tool)
    assert index.find(Form.TEXT, "no") is None
    for value, level in [("some", Integrity.ATTESTED), ("yes", Integrity.TRUSTED), ("slash", Integrity.ATTESTED)]:
        found = index.find(Form.TEXT, value)
        assert found is not None
        assert found.integrity is level


def test_truth_values_and_null_prove_nothing() -> None:
    tool = ToolPack(result=(ResultField(path="/*", integrity=Integrity.TRUSTED, form=Form.NUMBER),))
    index, _ = learned(structured({"a": True, "b": None, "c": 7}), tool)
    assert index.find(Form.NUMBER, "true") is None
    assert index.find(Form.NUMBER, "null") is None
    assert index.find(Form.NUMBER, "7") is not None


@pytest.mark.promise("huge-results-prove-nothing")
@pytest.mark.parametrize(
    "body",
    [
        {"payees": [{"name": "n", "iban": IBAN}], "pad": "x" * reading.MAX_CHARS},
        {"payees": [{"name": "n", "iban": IBAN}] * reading.MAX_NODES},
        {"payees": [{"name": "n", "iban": IBAN}], "k" * (reading.MAX_CHARS + 1): 1},
        {"payees": [{"name": "n", "iban": IBAN}], "deep": json.loads("[" * 40 + "1" + "]" * 40)},
    ],
)
def test_a_result_past_a_cap_is_wholly_untrusted_and_private(body: dict[str, Any]) -> None:
    index, label = learned(structured(body), PAYEES)
    assert len(index) == 0
    assert label.integrity is Integrity.UNTRUSTED
    assert label.readers == {"user"}
    passport = {"name": "A", "email": "a@b.example", "passport": "C01", "pad": "x" * reading.MAX_CHARS}
    _, private = learned(structured(passport), TRAVELLER, "calendar")
    assert private.classes == {"calendar", "passport", "traveller"}


def test_a_task_remembers_so_much_and_no_more() -> None:
    index = ProofIndex(most=2)
    learn(index, payees(), PAYEES, "bank", "list_payees", "act_1")
    before = len(index)
    label = learn(index, payees("DE02300209000106531065"), PAYEES, "bank", "list_payees", "act_2")
    assert len(index) == before
    assert label.integrity is Integrity.UNTRUSTED


def test_the_better_proof_of_a_value_counts_whichever_came_first() -> None:
    attested = ToolPack(result=(ResultField(path="/v", integrity=Integrity.ATTESTED, form=Form.ID),))
    trusted = ToolPack(result=(ResultField(path="/v", integrity=Integrity.TRUSTED, form=Form.ID),))
    private = ToolPack(
        result=(ResultField(path="/v", integrity=Integrity.TRUSTED, form=Form.ID, readers=frozenset({"user"})),)
    )
    for order in ([attested, trusted, private], [private, attested, trusted], [trusted, private, attested]):
        index = ProofIndex()
        for place, tool in enumerate(order):
            learn(index, structured({"v": "x1"}), tool, f"s{place}", "t", f"act_{place}")
        found = index.find(Form.ID, "x1")
        assert found is not None
        assert found.integrity is Integrity.TRUSTED
        assert found.readers == {"user"}
        assert len(found.sources) == 2


def test_a_value_seen_again_and_again_keeps_one_source() -> None:
    index = ProofIndex()
    for number in range(50):
        learn(index, payees(), PAYEES, "bank", "list_payees", f"act_{number}")
    found = index.find(Form.IBAN, IBAN)
    assert found is not None
    assert len(found.sources) == 1


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=80)
@given(values, st.sampled_from([PAYEES, SEARCH, TRAVELLER, UNKNOWN_TOOL]))
def test_reading_is_total_and_every_atom_is_at_least_attested(body: Any, tool: ToolPack) -> None:
    for result in (structured(body), {"content": body}, {"content": [{"type": "text", "text": body}]}):
        read = read_result(result, tool, "s", "t", "a")
        assert all(label.integrity >= Integrity.ATTESTED for _, _, label in read.atoms)
        assert read.label.sources == {Source("s", "t", "a")}
