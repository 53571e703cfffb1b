"""A bundle decides like its engine without a memory, says what it was asked, and gives way only to a good one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.policy import app
from policies import bundle as bundles
from policies.action import Action, Kind, Subject
from policies.bundle import KERNEL_RULES, InForce, load
from policies.case import Argument, Case, Snapshot
from policies.document import document, shape
from policies.engine import Decision, PolicyError, read_decision
from policies.grant import Grant
from policies.label import CLEAN, Integrity, Label
from policies.pack import ArgumentSpec, Effect, Role, ToolPack
from policies.proofs import ProofIndex
from policies.rego_engine import run_tests

KERNEL = load()
LIMITS = """package operator.limits

deny contains "two" if count(input.arguments) > 1

ask contains reason if {
	input.spends.amount > 100
	reason := sprintf("%d %s", [input.spends.amount, input.spends.currency])
}

obligations contains "log" if "secret" in input.carries.classes
"""

subject = Subject(principal="ana", agent="agt_1", task="task_1", holder="agt_1", root="tok_1", token="tok_1")
seen = Snapshot(
    now=1.0, task="task_1", task_version=1, grant=Grant(rules=()), revoked=False, mark=CLEAN, proofs=ProofIndex()
)


def case(*arguments: Argument, effect: Effect = Effect.WRITE, **known: Any) -> Case:
    action = Action(id="act_1", kind=Kind.CALL_TOOL, subject=subject, server="bank", name="pay", arguments={})
    return Case(action=action, seen=seen, tool=ToolPack(effect=effect), arguments=arguments, **known)


labels = st.builds(
    Label,
    integrity=st.sampled_from(Integrity),
    readers=st.none() | st.frozensets(st.sampled_from(["ana", "bank"])),
    classes=st.frozensets(st.sampled_from(["secret", "passport"])),
)
arguments = st.builds(
    Argument,
    path=st.sampled_from(["/to", "/a~1b", "/x/0"]),
    value=st.integers(-5, 5) | st.text(max_size=3) | st.none() | st.lists(st.booleans(), max_size=2),
    spec=st.builds(ArgumentSpec, role=st.sampled_from(Role)),
    label=labels,
    proof=st.sampled_from(["", "grant:0", "result"]),
)
cases = st.builds(
    lambda arguments, mark, effect, spends: replace(
        case(*arguments, effect=effect, spends=spends), seen=replace(seen, mark=mark)
    ),
    st.lists(arguments, max_size=3),
    labels,
    st.sampled_from(Effect),
    st.none() | st.tuples(st.just("EUR"), st.integers(0, 200)),
)


@pytest.fixture(scope="module")
def limits(tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    file = tmp_path_factory.mktemp("limits") / "limits.rego"
    file.write_text("# pratique: values\n" + LIMITS)
    return load([file])


@pytest.mark.promise("caches-invisible-policy")
@settings(max_examples=60)
@given(st.lists(st.tuples(cases, st.booleans()), min_size=1, max_size=4))
def test_a_twin_without_memory_decides_the_same(limits: bundles.Bundle, asked: list[tuple[Case, bool]]) -> None:
    for one, without in asked * 2:
        given_ = document(one, without=KERNEL_RULES if without else frozenset(), values=True)
        assert limits.evaluate(given_) == limits.engine.evaluate(given_)


@given(cases, st.booleans())
@settings(max_examples=60)
def test_the_document_has_exactly_the_shape_that_policies_may_read(one: Case, values: bool) -> None:
    given_ = document(one, values=values)
    assert given_.keys() == shape(values=values).keys()
    assert ("value" in json.dumps(shape(values=values))) is values
    for argument in given_["arguments"]:
        assert argument.keys() == shape(values=values)["arguments"][0].keys()  # type: ignore[index,union-attr]
    for label in (given_["mark"], given_["carries"]):
        assert label.keys() == shape(values=False)["mark"].keys()  # type: ignore[union-attr]
    assert json.loads(json.dumps(given_)) == given_


def test_equal_situations_give_equal_documents_whatever_the_values() -> None:
    to = Argument(path="/to", value="a", spec=ArgumentSpec(role=Role.DEST), label=CLEAN, proof="grant:3")
    other = replace(to, value="b", proof="grant:0")
    assert document(case(to)) == document(case(other))
    assert document(case(to), values=True) != document(case(other), values=True)


@pytest.mark.promise("spend-and-destroy-ask")
@settings(max_examples=60)
@given(cases)
def test_spending_and_destroying_always_ask(one: Case) -> None:
    asks = KERNEL.evaluate(document(one)).ask
    assert bool(asks) is (one.tool.effect in (Effect.SPEND, Effect.DESTRUCTIVE))


@pytest.mark.promise("untrusted-command-denied")
@settings(max_examples=60)
@given(cases)
def test_a_command_that_nothing_vouches_for_is_denied(one: Case) -> None:
    hostile = any(a.spec.role is Role.COMMAND and a.label.integrity is Integrity.UNTRUSTED for a in one.arguments)
    assert bool(KERNEL.evaluate(document(one)).deny) is hostile


@settings(max_examples=60)
@given(cases, st.frozensets(st.sampled_from(sorted(KERNEL_RULES))))
def test_switching_a_kernel_rule_off_silences_it_alone(one: Case, without: frozenset[str]) -> None:
    full, less = KERNEL.evaluate(document(one)), KERNEL.evaluate(document(one, without=without))

    def silenced(reasons: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(reason for reason in reasons if reason.partition(":")[0] not in without)

    assert less == Decision(deny=silenced(full.deny), ask=silenced(full.ask), obligations=full.obligations)


@pytest.mark.promise("bundles-only-tighten")
@settings(max_examples=60)
@given(cases)
def test_an_operators_bundle_only_adds_to_the_kernel(limits: bundles.Bundle, one: Case) -> None:
    kernel, both = KERNEL.evaluate(document(one)), limits.evaluate(document(one, values=True))
    assert set(kernel.deny) <= set(both.deny)
    assert set(kernel.ask) <= set(both.ask)
    assert ("two" in both.deny) is (len(one.arguments) > 1)
    assert ("log" in both.obligations) is any("secret" in a.label.classes for a in one.arguments)


def test_a_rule_to_switch_off_must_exist() -> None:
    with pytest.raises(PolicyError, match="no kernel rule is called spends"):
        load(without=frozenset({"spends"}))


def test_every_kernel_rule_has_its_name_in_the_kernel() -> None:
    kernel = KERNEL.sources.modules["kernel/kernel.rego"]
    for name in KERNEL_RULES:
        assert f'not "{name}" in input.without' in kernel
        assert f"# {name}: " in kernel
    assert kernel.count(" in input.without") == len(KERNEL_RULES)


def test_the_revision_is_of_everything_that_decides(tmp_path: Path) -> None:
    file = tmp_path / "limits.rego"
    file.write_text(LIMITS)
    first = load([file])
    assert load([file]).revision == first.revision != KERNEL.revision
    assert load(without=frozenset({"spend"})).revision != KERNEL.revision
    file.write_text(LIMITS.replace("> 1\n", "> 2\n"))
    assert load([file]).revision != first.revision


@pytest.mark.promise("bad-bundle-leaves-last-good")
def test_a_bad_bundle_leaves_the_last_good_one_in_force(tmp_path: Path) -> None:
    file = tmp_path / "limits.rego"
    file.write_text(LIMITS)
    in_force = InForce(load([file], without=frozenset({"spend"})))
    good = in_force.bundle
    file.write_text(LIMITS.replace("input.arguments", "input.argumnts"))
    error = in_force.reload([file])
    assert isinstance(error, PolicyError)
    assert error.line == 3
    assert in_force.bundle is good
    file.write_text(LIMITS.replace('"two"', '"more"'))
    assert in_force.reload([file]) is None
    assert in_force.bundle.without == {"spend"}
    two = case(*[Argument(path="/a", value=1, spec=ArgumentSpec(role=Role.BODY), label=CLEAN)] * 2)
    assert (good.evaluate(document(two)).deny, in_force.bundle.evaluate(document(two)).deny) == (("two",), ("more",))


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "REMEMBERED", 2)
    fresh = load()
    for amount in (1, 2, 3, 1):
        fresh.evaluate(document(case(spends=("EUR", amount))))
    assert len(fresh._decided) == 2


@pytest.mark.promise("policy-cannot-fail-open")
@pytest.mark.parametrize(
    "answer",
    [
        None, True, [], {}, {"a": {"deny": []}}, {"a": {"deny": [], "ask": []}, "b": {"deny": []}},
        {"a": {"deny": [], "allow": []}}, {"a": {"deny": [], "ask": {}}}, {"a": {"deny": [], "ask": ["x", 3]}},
        {"a": {"deny": [""], "ask": []}}, {"a": {"deny": ["x" * 2_000], "ask": []}}, {"a": []},
    ],
)  # fmt: skip
def test_an_answer_that_is_no_exact_decision_denies(answer: object) -> None:
    assert read_decision(answer, {"a": ("deny", "ask")}).deny[0].startswith("the policy could not be evaluated")


def test_an_exact_decision_is_read() -> None:
    answer = {"a": {"deny": ["y", "x"], "ask": []}, "b": {"deny": ["x"]}}
    assert read_decision(answer, {"a": ("deny", "ask"), "b": ("deny",)}) == Decision(deny=("x", "y"))


def test_the_kernels_own_tests_pass() -> None:
    results = list(run_tests(KERNEL.sources.modules, KERNEL.sources.tests))
    assert len(results) >= 6
    assert [path for _, path, passed in results if not passed] == []


def ran(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        app(arguments)
    return int(end.value.code or 0)


def test_the_command_line_checks_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "limits.rego"
    file.write_text(LIMITS)
    assert ran("check", str(file)) == 0
    assert capsys.readouterr().out.startswith("ok: 2 files, revision ")
    file.write_text(LIMITS.replace("input.arguments", "input.argumnts"))
    assert ran("check", str(file)) == 1
    assert "limits.rego:3: input.argumnts is not given to policies: did you mean arguments?" in capsys.readouterr().out
    assert ran("check", str(file), "--json") == 1
    assert json.loads(capsys.readouterr().out)["line"] == 3


def test_the_command_line_runs_the_tests_of_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "limits.rego").write_text(LIMITS)
    tests = tmp_path / "limits_test.rego"
    tests.write_text(
        "package operator.x_test\n\ntest_two if count(data.operator.limits.deny) == 1 with input.arguments as [1, 2]\n"
    )
    assert ran("test", str(tmp_path)) == 0
    assert "pass  operator.x_test.test_two" in capsys.readouterr().out
    tests.write_text(tests.read_text().replace("[1, 2]", "[1]"))
    assert ran("test", str(tmp_path)) == 1
    assert "FAIL  operator.x_test.test_two" in capsys.readouterr().out
    tests.write_text("package x\n\ntest_x if {\n")
    assert ran("test", str(tmp_path)) == 1
    assert "limits_test.rego:3: " in capsys.readouterr().out
