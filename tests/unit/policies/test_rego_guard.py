"""Every way in which Rego, or this engine of it, would silently let a call pass: refused at load, by file and line."""

from pathlib import Path

import pytest

from policies.bundle import load
from policies.engine import PolicyError
from policies.rego_engine import RegoEngine, run_tests

UNBOUND = "bound nowhere"


def refusal(folder: Path, *rules: str) -> PolicyError:
    file = folder / "rules.rego"
    file.write_text("\n".join(["package operator.limits", "", *rules, ""]))
    with pytest.raises(PolicyError) as error:
        load([folder])
    assert error.value.file == str(file)
    assert str(error.value).startswith(f"{file}:{error.value.line}: ")
    return error.value


@pytest.mark.promise("policy-cannot-fail-open")
@pytest.mark.parametrize(
    ("rule", "why"),
    [
        # a function that is silently undefined
        ('deny contains "x" if not net.cidr_contains("10.0.0.0/8", input.tool)', "net.cidr_contains"),
        ('deny contains "x" if json.match_schema({}, {})[0]', "json.match_schema is no function"),
        ('deny contains "x" if nosuch(1)', "nosuch is no function"),
        ('deny contains "x" if data.operator.other.f(1)', "data.operator.other.f is no function"),
        # an answer that depends on more than the call
        ('deny contains "x" if time.now_ns() > 1', "time.now_ns depends on more"),
        ('deny contains "x" if rand.intn("a", 3) == 1', "rand.intn depends on more"),
        ('deny contains "x" if http.send({}).status_code == 200', "http.send depends on more"),
        ('deny contains "x" if uuid.rfc4122("a") == "b"', "uuid.rfc4122 depends on more"),
        ('deny contains "x" if opa.runtime().env', "opa.runtime depends on more"),
        ('deny contains "x" if { print(input.tool) }', "print writes"),
        # a name that is misspelt
        ('deny contains "x" if inptu.effect == "spend"', UNBOUND),
        ('deny contains "x" if not inptu.effect', UNBOUND),
        ('deny contains "x" if { some a in input.arguments; b.role == "dest" }', UNBOUND),
        ('deny contains "x" if data.operator.limits.nosuch', "no rule of this bundle"),
        ('deny contains "x" if data[input.tool]', "no rule of this bundle"),
        ('dney contains "x" if input.effect == "spend"', "nothing asks for operator.limits.dney"),
        ("default allow := true", "nothing asks for operator.limits.allow"),
        ('f(x) := f(x)\ndeny contains "x" if f(1)', "depends on itself"),
        # a decision that may be absent
        ('deny if input.effect == "spend"', "deny contains REASON"),
        ('deny := {"x"} if input.effect == "spend"', "deny contains REASON"),
        ('deny[reason] { reason := "x" }', "deny contains REASON"),
        ("obligations := input.mark.classes", "obligations contains REASON"),
        # a path that is not given
        ('deny contains "x" if input.nosuch', "input.nosuch is not given"),
        ('deny contains "x" if input.mark.integrty == "a"', "did you mean integrity?"),
        ('deny contains "x" if input.effect.name == "a"', "input.effect is a single value"),
        ('deny contains "x" if input[input.tool] == 3', "name the field"),
        ('deny contains "x" if object.get(input, "valu", 1) == 1', "input.valu is not given"),
        ('deny contains "x" if { some a in input.arguments; a.roel == "x" }', "did you mean role?"),
        ('deny contains "x" if { every a in input.arguments { a.roel == "x" } }', "did you mean role?"),
        ('deny contains "x" if { x := [a | some a in input.arguments]; x[0].roel == "x" }', "did you mean role?"),
        ('deny contains "x" if { x := {"k": input.mark}; x.k.roel == "x" }', "input.mark.roel is not given"),
        ('deny contains "x" if { x := array.concat(input.arguments, []); x[0].roel == 1 }', "did you mean role?"),
        ('whole := input\ndeny contains "x" if whole.efect == 1', "did you mean effect?"),
        ('f(a) if a.roel == "x"\ndeny contains "x" if { some a in input.arguments; f(a) }', "did you mean role?"),
        ('deny contains "x" if walk(input, [["tool"], 3])', "input.agent is a single value"),
        ('deny contains "x" if input.arguments[_].value == "a"', "# pratique: values"),
        ('deny contains "x" if input.pure with input as {"pure": true}', "`with` belongs in tests"),
    ],
)
def test_what_would_silently_pass_is_refused(rule: str, why: str, tmp_path: Path) -> None:
    assert why in str(refusal(tmp_path, rule))


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        (['deny contains "x" if {', "\tinput.pure", "", "\tinput.idempotnt", "}"], 6),
        (["# ä", 'deny contains "ä" if {', "\tnosuch(input.tool)", "}"], 5),
        (['deny contains "x" if {', "\tinput.pure"], 3),
        (['deny contains "x" if input.effect = = 3'], 3),
        (["f(a) := a", 'deny contains "x" if f(input.arguments[_])'], 4),
        (
            [
                'deny contains "with" if input.pure  # with',
                "deny contains `with",
                "` if { input.pure with input.pure as true }",
            ],
            5,
        ),
    ],
)
def test_the_line_is_the_line(rules: list[str], line: int, tmp_path: Path) -> None:
    assert refusal(tmp_path, *rules).line == line


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "rules.rego").write_text('package operator.a\n\ndeny contains "a" if input.pure\n')
    (tmp_path / "b" / "rules.rego").write_text('package operator.b\n\ndeny contains "b" if nosuch(1)\n')
    with pytest.raises(PolicyError, match=r"b/rules\.rego:3: nosuch"):
        load([tmp_path])


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "package pratique.kernel\n", "package operatorx\n", 'package operator["x"]\n']
)
def test_a_file_outside_the_operators_packages_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.rego").write_text(text)
    with pytest.raises(PolicyError, match=r"x\.rego:1: begin the file with `package operator`"):
        load([tmp_path])


def test_a_bundle_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"no \*\.rego file"):
        load([tmp_path])
    with pytest.raises(PolicyError, match="cannot be read"):
        load([tmp_path / "nosuch.rego"])
    (tmp_path / "x.rego").write_bytes(b"\xff")
    with pytest.raises(PolicyError, match="cannot be read"):
        load([tmp_path])


def test_ordinary_rego_loads(tmp_path: Path) -> None:
    (tmp_path / "x.rego").write_text("""# limits of our own
package operator.limits

import data.operator.places

limit := 3

names := {"deny": {"z": 1}}

deny contains "many" if count(input.arguments) > limit

deny contains reason if {
	some i, a in input.arguments
	places.is_far(a)
	object.get(a, "role", "") == "dest"
	input.mark.classes[_] == "secret"
	reason := sprintf("%d goes far", [i])
}

ask contains "readers" if {"dest"} & {r | some a in input.arguments; r := a.role} == {"dest"}

ask contains "spends" if input.spends.amount > names.deny.z

default calm := false

calm if input.effect == "read"

else := true if input.pure

ask contains "not calm" if not calm

obligations contains "log" if [r | r := input.arguments[_].role][0] == "body"
""")
    (tmp_path / "y.rego").write_text(
        'package operator.places\n\nis_far(a) if startswith(a.path, "/far")\n\nunused(a) := a\n'
    )
    load([tmp_path])


def test_an_evaluation_error_denies(tmp_path: Path) -> None:
    for rule in (
        "to_number(input.tool) == 1",
        "input.rules / 0 == 1",
        'regex.match("(", input.tool)',
        "sum(input.tool) > 1",
    ):
        (tmp_path / "x.rego").write_text(f'package operator.x\n\ndeny contains "x" if {rule}\n')
        decision = load([tmp_path]).evaluate(
            {"tool": "pay", "rules": 1, "arguments": [], "without": [], "effect": "read"}
        )
        assert decision.deny == ("the policy could not be evaluated: its answer is not a decision",)


@pytest.mark.promise("policy-cannot-fail-open")
@pytest.mark.parametrize(
    "value", ["a\0b", 2**64 + 5, -(2**63) - 1, float("nan"), float("inf"), "\ud800", {"a\0": 1}, (1,), object()]
)
def test_a_value_that_the_engine_would_not_see_as_it_is_denies(value: object, tmp_path: Path) -> None:
    (tmp_path / "x.rego").write_text(
        '# pratique: values\npackage operator.x\n\ndeny contains "x" if input.arguments[0].value == 5\n'
    )
    bundle = load([tmp_path])
    calm = {"effect": "read", "without": []}
    argument = {"path": "/a", "role": "body", "integrity": "untrusted"}
    assert bundle.evaluate(calm | {"arguments": [argument | {"value": 6}]}).deny == ()
    assert bundle.evaluate(calm | {"arguments": [argument | {"value": 5}]}).deny == ("x",)
    for engine in (bundle, bundle.engine):
        assert (
            engine.evaluate(calm | {"arguments": [argument | {"value": value}]})
            .deny[0]
            .startswith("the policy could not")
        )


def test_the_guard_reads_what_a_language_of_its_own_would_not_show() -> None:
    """A plain test of the engine's own trap: the same module, unguarded, lets the call pass."""
    from regopy import Input, Interpreter

    unguarded = Interpreter()
    unguarded.add_module("x.rego", 'package x\n\ndeny contains "x" if inptu.effect == "spend"\n')
    unguarded.set_input(Input({"effect": "spend"}))
    assert unguarded.query("data.x.deny").results[0].expressions == [[]]
    with pytest.raises(PolicyError, match=UNBOUND):
        RegoEngine(
            {"x.rego": 'package operator\n\ndeny contains "x" if inptu.effect == "spend"\n'},
            frozenset({"operator"}),
            {"effect": None},
        )


def test_a_test_that_is_undefined_or_errs_fails() -> None:
    tests = 'package t\n\ntest_a if 1 == 1\n\ntest_b if 1 == 2\n\ntest_c if to_number("x") == 1\n\ntest_d := 3\n'
    assert [(path, passed) for _, path, passed in run_tests({}, {"t.rego": tests})] == [
        ("t.test_a", True), ("t.test_b", False), ("t.test_c", False), ("t.test_d", False)
    ]  # fmt: skip
    with pytest.raises(PolicyError, match=r"t\.rego:2: write `with input\.FIELD"):
        list(run_tests({}, {"t.rego": "package t\ntest_a if input.x with input as {}\n"}))
    assert list(run_tests({"m.rego": "package m\n"}, {})) == []
