"""The load guard: what Rego, and this engine of it, would silently let pass is refused here.

In Rego whatever is undefined is merely not true, so a misspelt name makes a `deny` that never fires. This reads the
compiled plan, where names are resolved and every read is one statement, and refuses, by file and line:

    a function that the engine lacks, or whose answer depends on the time, on chance or on the network
    a variable that nothing binds, a rule that does not exist, a rule that nothing asks for
    a path of the input that is not given (`document.shape`)
    a contribution that is not a set (`deny contains REASON if ...`), and `with` outside tests
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from typing import TypeAlias

from policies.document import ANY, Shape
from policies.engine import CONTRIBUTIONS, PolicyError
from policies.regoplan import DATA, INPUT, Function, Statement

IMPURE = ("time.", "rand.", "http.", "net.", "uuid.", "opa.", "rego.", "io.jwt.decode_verify")
"""Built-ins, by prefix, whose answer depends on more than their arguments, or that speak to the outside."""

Made: TypeAlias = int
"""A list, set or object that the policy builds, by the local it is built in."""
Path: TypeAlias = tuple[str, ...]
"""A place in the input; `*` is any element."""


def check_functions(
    functions: Mapping[str, Function], shape: Shape, *, entry: str, is_builtin: Callable[[str], bool]
) -> None:
    """Refuse a compiled bundle that could fail open. `entry` is the path of the rule that is asked.

    Raises:
        PolicyError: what, and where.
    """
    for function in functions.values():
        if function.path.rpartition(".")[2] in CONTRIBUTIONS and not function.is_set:
            word = function.path.rpartition(".")[2]
            raise PolicyError(f"write `{word} contains REASON if ...`: only a set always answers", *_place(function))
        for statement in function.statements:
            _check_statement(statement, functions, is_builtin)
    _check_bound(functions)
    _check_asked(functions, entry)
    _Reads(functions, shape).check()


def refuse_unseen(file: str, source: str, *, test: bool = False) -> None:
    """Refuse what the plan does not show: `with`, on which rego-cpp 1.5.2 may abort the process, and `print`.

    In a `test`, `with input.FIELD as VALUE` passes: it works.

    Raises:
        PolicyError: where it stands.
    """
    code = _TEXT.sub(lambda text: re.sub(r"[^\n]", " ", text[0]), source)
    if found := (_WITH_OTHER if test else _WITH).search(code):
        why = "write `with input.FIELD as VALUE`, field by field" if test else "`with` belongs in tests"
        raise PolicyError(why, file, code.count("\n", 0, found.start()) + 1)
    if found := _PRINT.search(code):
        raise PolicyError(
            f"{found[1]} writes to the outside: it is not allowed", file, code.count("\n", 0, found.start()) + 1
        )


_TEXT = re.compile(r'"(?:[^"\\\n]|\\.)*"|`[^`]*`|#[^\n]*')
_WITH = re.compile(r"\bwith\b")
_WITH_OTHER = re.compile(r"\bwith\b(?!\s+input\.[A-Za-z_])")
_PRINT = re.compile(r"(?<![\w.])(print|trace)\s*\(")

_WRITES = {
    "AssignIntStmt": ("target",),
    "AssignVarOnceStmt": ("target",),
    "AssignVarStmt": ("target",),
    "CallStmt": ("result",),
    "DotStmt": ("target",),
    "LenStmt": ("target",),
    "MakeArrayStmt": ("target",),
    "MakeNullStmt": ("target",),
    "MakeNumberIntStmt": ("target",),
    "MakeNumberRefStmt": ("target",),
    "MakeObjectStmt": ("target",),
    "MakeSetStmt": ("target",),
    "ObjectMergeStmt": ("target",),
    "ScanStmt": ("key", "value"),
}
_FILLS = {
    "ArrayAppendStmt": "array",
    "SetAddStmt": "set",
    "ObjectInsertStmt": "object",
    "ObjectInsertOnceStmt": "object",
}
_MAKES = {"MakeArrayStmt", "MakeSetStmt", "MakeObjectStmt", "ObjectMergeStmt"}
_TESTS = {
    "BlockStmt",
    "BreakStmt",
    "EqualStmt",
    "IsArrayStmt",
    "IsDefinedStmt",
    "IsObjectStmt",
    "IsSetStmt",
    "IsUndefinedStmt",
    "NopStmt",
    "NotEqualStmt",
    "NotStmt",
    "ResetLocalStmt",
    "ReturnLocalStmt",
}


def _check_statement(
    statement: Statement, functions: Mapping[str, Function], is_builtin: Callable[[str], bool]
) -> None:
    if statement.kind in ("WithStmt", "WithCallStmt"):
        raise PolicyError("`with` belongs in tests", *_place(statement))
    if not (statement.kind in _WRITES or statement.kind in _FILLS or statement.kind in _TESTS):
        raise PolicyError("this cannot be checked: name what is read", *_place(statement))
    called = statement.body["func"] if statement.kind == "CallStmt" else ""
    if called and called not in functions:
        if called.startswith(IMPURE):
            raise PolicyError(f"{called} depends on more than the call: it is not allowed", *_place(statement))
        if not is_builtin(called):
            raise PolicyError(f"{called} is no function of this engine", *_place(statement))
    passed = called in functions
    for name, operand in statement.reads.items():
        if operand.local == DATA and not (passed and name == "1"):
            key = statement.reads.get("key")
            more = f".{key.text}..." if key and key.text else ""
            raise PolicyError(f"data{more} is no rule of this bundle", *_place(statement))


def _check_bound(functions: Mapping[str, Function]) -> None:
    bound = {INPUT, DATA}
    for function in functions.values():
        bound.update(function.parameters)
        for statement in function.statements:
            bound.update(statement.local(name) for name in _WRITES.get(statement.kind, ()))
    for statement in _statements(functions):
        for operand in statement.reads.values():
            if operand.local is not None and operand.local not in bound:
                raise PolicyError("a variable is bound nowhere: is it misspelt?", *_place(statement))


def _check_asked(functions: Mapping[str, Function], entry: str) -> None:
    calls = {
        name: {s.body["func"] for s in function.statements if s.kind == "CallStmt"} & functions.keys()
        for name, function in functions.items()
    }
    try:
        order = list(TopologicalSorter(calls).static_order())
    except CycleError as error:
        function = functions[error.args[1][0]]
        raise PolicyError(f"{function.path} depends on itself", *_place(function)) from error
    asked = {name for name, function in functions.items() if function.path == entry}
    for name in reversed(order):  # callers before what they call
        if name in asked:
            asked |= calls[name]
    for name, function in functions.items():
        if name not in asked and not function.parameters:
            raise PolicyError(f"nothing asks for {function.path}: is it a misspelt deny or ask?", *_place(function))


@dataclass(slots=True)
class _Reads:
    """Which places of the input each local may hold, and whether every place that is read is given."""

    functions: Mapping[str, Function]
    shape: Shape
    holds: defaultdict[int, set[Path | Made]] = field(default_factory=lambda: defaultdict(set))
    inside: defaultdict[Made, set[Path | Made]] = field(default_factory=lambda: defaultdict(set))

    def check(self) -> None:
        self.holds[INPUT] = {()}
        while self._spread():
            pass
        for statement in _statements(self.functions):
            if statement.kind in ("DotStmt", "ScanStmt"):
                self._parts(statement, strict=True)
            elif statement.kind == "CallStmt" and statement.body["func"] == "object.get":
                self._got(statement, strict=True)

    def _spread(self) -> bool:
        """One pass of the flow; whether it learned anything."""
        before = sum(map(len, self.holds.values())) + sum(map(len, self.inside.values()))
        for statement in _statements(self.functions):
            self._flow(statement)
        return sum(map(len, self.holds.values())) + sum(map(len, self.inside.values())) > before

    def _flow(self, statement: Statement) -> None:
        kind = statement.kind
        if kind in _MAKES:
            made = statement.local("target")
            self.holds[made].add(made)
            for name in statement.reads:
                self.inside[made] |= set(self._within(self._held(statement, name)))
        elif kind in _FILLS:
            for one in self.holds[statement.local(_FILLS[kind])]:
                if isinstance(one, int):
                    self.inside[one] |= self._held(statement, "value")
        elif kind == "CallStmt":
            self._call(statement)
        elif kind == "ScanStmt":
            self.holds[statement.local("value")] |= self._parts(statement)
        elif kind == "DotStmt":
            self.holds[statement.local("target")] |= self._parts(statement)
        elif kind in ("AssignVarStmt", "AssignVarOnceStmt"):
            self.holds[statement.local("target")] |= self._held(statement, "source")

    def _call(self, statement: Statement) -> None:
        result = self.holds[statement.local("result")]
        function = self.functions.get(statement.body["func"])
        if function:
            for place, parameter in enumerate(function.parameters, 2):
                self.holds[parameter] |= self._held(statement, str(place))
            result |= self.holds[function.result]
        elif statement.body["func"] == "object.get":
            result |= self._got(statement)
        else:
            for name in statement.reads:  # whatever it does with them, it may hand on what they hold
                result |= {h for h in self._held(statement, name) if isinstance(h, int) or self._at(h) is not None}

    def _held(self, statement: Statement, name: str) -> set[Path | Made]:
        local = statement.reads[name].local
        return set(self.holds[local]) if local is not None else set()

    def _got(self, statement: Statement, *, strict: bool = False) -> set[Path | Made]:
        """What `object.get(object, key, default)` may answer."""
        found: set[Path | Made] = set()
        for held in sorted(self._held(statement, "0"), key=str):
            found |= self._step(held, statement.reads["1"].text, statement, strict=strict)
        return found | self._held(statement, "2")

    def _parts(self, statement: Statement, *, strict: bool = False) -> set[Path | Made]:
        """What one step into a local may reach."""
        key = statement.reads.get("key")
        found: set[Path | Made] = set()
        for held in sorted(self._held(statement, "source"), key=str):
            found |= self._step(held, key.text if key else None, statement, strict=strict)
        return found

    def _step(self, held: Path | Made, key: str | None, statement: Statement, *, strict: bool) -> set[Path | Made]:
        if isinstance(held, int):
            return set(self.inside[held])
        shape = self._at(held)
        if shape is ANY:
            return set()
        if isinstance(shape, dict) and key is not None:
            if key in shape:
                return {(*held, key)}
            if strict:
                raise PolicyError(_not_given((*held, key), shape), *_place(statement))
            return set()
        if isinstance(shape, dict) and strict and statement.kind != "ScanStmt":
            raise PolicyError(f"name the field of {_spell(held)} that is read", *_place(statement))
        if shape is None and strict:
            raise PolicyError(f"{_spell(held)} is a single value: nothing is inside it", *_place(statement))
        return set(self._within({held}))

    def _within(self, held: set[Path | Made]) -> Iterator[Path | Made]:
        for one in held:
            if isinstance(one, int):
                yield from self.inside[one]
                continue
            shape = self._at(one)
            if isinstance(shape, dict):
                yield from ((*one, key) for key in shape)
            elif isinstance(shape, list):
                yield (*one, "*")

    def _at(self, path: Path) -> Shape:
        shape = self.shape
        for step in path:
            shape = shape[0] if isinstance(shape, list) else (shape or {}).get(step)
        return shape


def _statements(functions: Mapping[str, Function]) -> Iterator[Statement]:
    for function in functions.values():
        yield from function.statements


def _not_given(path: Path, shape: Mapping[str, Shape]) -> str:
    if path == ("arguments", "*", "value"):
        return "argument values are given only to a bundle that says `# pratique: values` above its package"
    nearest = get_close_matches(path[-1], shape, 1)
    return f"{_spell(path)} is not given to policies" + (f": did you mean {nearest[0]}?" if nearest else "")


def _spell(path: Path) -> str:
    return "input" + "".join("[_]" if step == "*" else f".{step}" for step in path)


def _place(where: Statement | Function) -> tuple[str, int]:
    return where.file, where.line
