"""A compiled bundle as statements: OPA's IR (www.openpolicyagent.org/docs/ir), as far as the load guard reads it.

Locals are numbered once for the whole plan; 0 is the input and 1 is `data` in every function.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

INPUT, DATA = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """What a statement reads: a local, or a constant text, or some other constant."""

    local: int | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    kind: str
    body: Mapping[str, Any]
    reads: Mapping[str, Operand]
    """By field; a call's arguments are `0`, `1`, ..."""
    file: str
    line: int

    def local(self, name: str) -> int:
        """The local that a field writes or fills."""
        return int(self.body[name])


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One rule or function: `data.operator.limits.deny` has the path `operator.limits.deny`."""

    name: str
    path: str
    parameters: tuple[int, ...]
    """Without input and data: empty for a rule."""
    result: int
    statements: tuple[Statement, ...]
    """Flat, in order; every block of every alternative."""
    file: str
    line: int

    @property
    def is_set(self) -> bool:
        """Whether it is a partial set (`NAME contains ...`), which is never undefined."""
        return any(s.kind == "MakeSetStmt" and s.local("target") == self.result for s in self.statements)


def read_plan(plan: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Function]:
    """Every function of a plan, by name. `names`: module to the file it came from."""
    reader = _Reader(
        texts=[_text(entry["value"]) for entry in plan["static"]["strings"]],
        files=[names[entry["value"]] for entry in plan["static"]["files"]],
    )
    return {body["name"]: reader.function(body) for body in plan["funcs"]["funcs"]}


def _text(stored: str) -> str:
    """A constant; some are stored in their quotes."""
    if not stored.startswith('"'):
        return stored
    try:
        return str(json.loads(stored))
    except json.JSONDecodeError:
        return stored


@dataclass(slots=True)
class _Reader:
    texts: list[str]
    files: list[str]
    file: str = ""
    line: int = 0
    """Where the last statement stood that says so; some do not."""

    def function(self, body: Mapping[str, Any]) -> Function:
        statements = tuple(statement for block in body["blocks"] for statement in self._block(block))
        return Function(
            name=body["name"],
            path=".".join(body["path"][1:]),
            parameters=tuple(body["params"][2:]),
            result=body["return"],
            statements=statements,
            file=statements[0].file,
            line=statements[0].line,
        )

    def _block(self, block: Mapping[str, Any]) -> Iterator[Statement]:
        for entry in block["stmts"]:
            kind, body = entry["type"], entry["stmt"]
            if "row" in body:
                self.file, self.line = self.files[body["file"]], body["row"] + 1
            operands = {str(place): operand for place, operand in enumerate(body.get("args", ()))} | {
                name: operand for name, operand in body.items() if isinstance(operand, dict) and "type" in operand
            }
            if kind in ("ScanStmt", "IsDefinedStmt", "LenStmt") and isinstance(body["source"], int):
                operands["source"] = {"type": "local", "value": body["source"]}
            reads = {name: self._operand(operand) for name, operand in operands.items()}
            yield Statement(kind=kind, body=body, reads=reads, file=self.file, line=self.line)
            for inner in (*body.get("blocks", ()), *((body["block"],) if "block" in body else ())):
                yield from self._block(inner)

    def _operand(self, operand: Mapping[str, Any]) -> Operand:
        match operand["type"]:
            case "local":
                return Operand(local=operand["value"])
            case "string_index":
                return Operand(text=self.texts[operand["value"]])
            case _:
                return Operand()
