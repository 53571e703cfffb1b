"""(1): the pinned definition, and arguments that satisfy it."""

from dataclasses import replace

import pytest

from gateway.stages.definition import DefinitionStage
from policies.action import Action, Kind, Subject
from policies.case import Case, Definition, Pin, Snapshot
from policies.grant import Grant
from policies.jsonvalue import JSON, JSONObject
from policies.label import CLEAN
from policies.pack import Effect, Pack, ToolPack
from policies.verdict import Code, Reason

SCHEMA: JSONObject = {
    "type": "object",
    "properties": {"to": {"type": "string"}, "currency": {"type": "string", "default": "EUR"}},
    "required": ["to"],
}
PAY = ToolPack(effect=Effect.SPEND)


class Nothing:
    def find(self, form: object, canonical: str) -> None:
        return None


def case(arguments: JSONObject, *, schema: JSON = SCHEMA, pin: Pin = Pin.PINNED, kind: Kind = Kind.CALL_TOOL) -> Case:
    subject = Subject(principal="ann", agent="a", task="t", holder="h", root="r", token="k")
    action = Action(id="act_1", kind=kind, subject=subject, server="bank", name="pay", arguments=arguments)
    definition = Definition(server="bank", name="pay", digest=str(schema), body={"inputSchema": schema}, pin=pin)
    seen = Snapshot(
        now=0, task="t", task_version=1, grant=Grant(rules=()), revoked=False, mark=CLEAN, proofs=Nothing(),
        definition=definition, pack=Pack(name="bank", tools={"pay": PAY}),
    )  # fmt: skip
    return Case(action=action, seen=seen)


async def code_of(case: Case) -> Code:
    after = await DefinitionStage().consider(case)
    assert after.is_denied
    return after.verdict.code


async def test_defaults_are_filled_and_the_pack_is_found() -> None:
    after = await DefinitionStage().consider(case({"to": "DE89"}))
    assert not after.is_denied
    assert after.action.arguments == {"to": "DE89", "currency": "EUR"}
    assert (after.defaulted, after.tool) == (frozenset({"/currency"}), PAY)


async def test_the_arguments_that_were_sent_are_not_changed_in_place() -> None:
    sent = {"to": "DE89"}
    await DefinitionStage().consider(case(sent))
    assert sent == {"to": "DE89"}


async def test_arguments_off_the_schema_are_denied_with_where_and_why() -> None:
    after = await DefinitionStage().consider(case({"to": "DE89", "TO": "AT12"}))
    assert after.verdict.denials == {
        Reason(Code.ARGUMENTS_INVALID, "differs from another key by case or compatible characters only", "/TO")
    }


@pytest.mark.promise("changed-tool-not-called")
@pytest.mark.parametrize("pin", [Pin.CHANGED, Pin.PENDING])
async def test_a_definition_that_nobody_accepted_is_denied(pin: Pin) -> None:
    assert await code_of(case({"to": "DE89"}, pin=pin)) is Code.DEFINITION_CHANGED


async def test_a_tool_that_is_not_known_is_denied() -> None:
    known = case({"to": "DE89"})
    assert await code_of(replace(known, seen=replace(known.seen, definition=None))) is Code.UNKNOWN_TOOL


@pytest.mark.parametrize("kind", [Kind.READ_RESOURCE, Kind.GET_PROMPT, Kind.COMPLETE])
async def test_a_method_without_stages_is_denied(kind: Kind) -> None:
    assert await code_of(case({"to": "DE89"}, kind=kind)) is Code.NOT_MEDIATED


@pytest.mark.parametrize("schema", [None, {"type": "object", "$ref": "http://evil.example/s"}])
async def test_a_schema_that_cannot_be_checked_denies(schema: JSON) -> None:
    assert await code_of(case({}, schema=schema)) is Code.DEFINITION_CHANGED


async def test_a_schema_is_compiled_once_for_each_definition() -> None:
    stage = DefinitionStage()
    for _ in range(3):
        await stage.consider(case({"to": "DE89"}))
        await stage.consider(case({}, schema={"type": "object"}))
    assert len(stage._checkers) == 2
