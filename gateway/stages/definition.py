"""(1) definition: is the tool's definition the pinned one, and do the arguments satisfy its schema, within bounds?

The schema's defaults are filled in here, so that every later step, and the server, see the same arguments.
"""

import asyncio
from dataclasses import dataclass, field
from typing import assert_never

from policies.action import MEDIATED
from policies.arguments import Checker, Filled, Refused, compile_schema
from policies.case import Case, Definition, Pin
from policies.jsonvalue import canonical
from policies.verdict import Code

LIGHT_BYTES = 8_192
"""A schema beyond it is compiled in a thread: the worst takes some 200 ms."""
MAX_CHECKERS = 1_024
"""Compiled schemas that are kept, by the digest of the definition."""


@dataclass(frozen=True, slots=True)
class DefinitionStage:
    name: str = "definition"
    _checkers: dict[str, Checker | Refused] = field(default_factory=dict)

    async def consider(self, case: Case) -> Case:
        action, definition = case.action, case.seen.definition
        if action.kind not in MEDIATED:
            return case.denied(Code.NOT_MEDIATED, action.kind)
        if definition is None or case.seen.pack.tool(action.name).kind is not action.kind:
            return case.denied(Code.UNKNOWN_TOOL, "no definition of it is known")
        match definition.pin:
            case Pin.CHANGED:
                return case.denied(Code.DEFINITION_CHANGED, "it is not what was pinned, and nobody has accepted it yet")
            case Pin.PENDING:
                return case.denied(Code.DEFINITION_CHANGED, "nobody has accepted it yet")
            case Pin.PINNED:
                return self._checked(case, await self._checker(definition))
            case never:
                assert_never(never)

    def _checked(self, case: Case, checker: Checker | Refused) -> Case:
        if isinstance(checker, Refused):
            return case.denied(Code.DEFINITION_CHANGED, f"its input schema is refused: {checker.reason}")
        filled = checker.fill(case.action.arguments)
        if not isinstance(filled, Filled):
            for problem in filled:
                case = case.denied(Code.ARGUMENTS_INVALID, problem.message, problem.path)
            return case
        return case.learned(
            action=case.action.filled(filled.arguments),
            tool=case.seen.pack.tool(case.action.name),
            defaulted=filled.defaults,
        )

    async def _checker(self, definition: Definition) -> Checker | Refused:
        checker = self._checkers.get(definition.digest)
        if checker is None:
            schema = definition.body.get("inputSchema")
            is_light = len(canonical(schema)) <= LIGHT_BYTES
            checker = compile_schema(schema) if is_light else await asyncio.to_thread(compile_schema, schema)
            if len(self._checkers) >= MAX_CHECKERS:
                self._checkers.pop(next(iter(self._checkers)))
            self._checkers[definition.digest] = checker
        return checker
