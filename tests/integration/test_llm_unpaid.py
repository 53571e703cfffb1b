"""What a model must not do for anybody: run what was not paid for, or give a part of an answer for the whole."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from support.llm import Modelled, modelled
from support.tiny_llm import tiny_model

from gateway.ids import new_id
from gateway.llm.mount import Mounted
from gateway.options import ExtractOptions
from policies.action import Action, Kind
from policies.jsonvalue import JSONObject
from policies.verdict import Code

pytestmark = pytest.mark.asyncio(loop_scope="module")

URGENT = ExtractOptions(name="urgent", question="Urgent?", type="boolean")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Modelled]:
    root: Path = tmp_path_factory.mktemp("gateway")
    async with modelled(root / "state", model=str(tiny_model(root / "tiny")), extracts=[URGENT], kv_memory_mb=4) as at:
        yield at


def mounted(at: Modelled) -> Mounted:
    assert at.gateway.mounted is not None
    return at.gateway.mounted


async def test_a_question_asked_while_the_model_loads_is_not_answered_for_nothing(at: Modelled) -> None:
    granted = await at.grant("llm.extract", bits=4)
    corridor, model = at.gateway.corridor, mounted(at).model
    subject = corridor.admit(granted.token)
    measure, ready = corridor.measure, model._ready

    async def measured_too_early(server: str, tool: str, arguments: JSONObject) -> tuple[tuple[str, int], ...]:
        model._ready = None
        taken = await measure(server, tool, arguments)
        model._ready = ready  # it was loaded before the call came to it
        return taken

    corridor.measure = measured_too_early
    try:
        answer = await corridor.call(subject, "llm", "extract", {"as": "urgent", "text": "Hurry!"})  # type: ignore[arg-type]
    finally:
        corridor.measure = measure

    assert (answer.result, answer.code) == (None, Code.UNAVAILABLE)


async def test_a_sample_that_is_suspended_is_no_answer(at: Modelled) -> None:
    granted = await at.grant('llm.sample(server = "muse")', tokens=100_000)
    subject: Any = at.gateway.corridor.admit(granted.token)
    cause = Action(id=new_id("act"), kind=Kind.CALL_TOOL, subject=subject, server="muse", name="ask", arguments={})
    wanted: JSONObject = {
        "messages": [{"role": "user", "content": {"type": "text", "text": "Sing."}}],
        "maxTokens": 2_000,
        "temperature": 0,
    }
    road = mounted(at).road
    sampling = asyncio.create_task(mounted(at).sampler(lambda: at.gateway.corridor).sample(cause, wanted))
    while not road.running():
        await mounted(at).model.ready().client.look()
    road.suspend_all()

    assert await sampling is Code.UNAVAILABLE


@pytest.mark.promise("llm.sampling-recorded")
@pytest.mark.parametrize(
    "more", [{"maxTokens": 0}, {"maxTokens": 900_000}, {"messages": []}], ids=["no tokens", "too many", "no messages"]
)
async def test_a_sample_that_cannot_be_made_is_refused_on_record(at: Modelled, more: JSONObject) -> None:
    granted = await at.grant('llm.sample(server = "muse")', tokens=100_000)
    subject: Any = at.gateway.corridor.admit(granted.token)
    cause = Action(id=new_id("act"), kind=Kind.CALL_TOOL, subject=subject, server="muse", name="ask", arguments={})
    wanted = {"messages": [{"role": "user", "content": {"type": "text", "text": "Sing."}}], "maxTokens": 5, **more}

    said = await mounted(at).sampler(lambda: at.gateway.corridor).sample(cause, wanted)

    events = [one for kind in ("decision", "effect.outcome") for one in at.events(kind) if one.task == granted.task.id]
    assert said is Code.ARGUMENTS_INVALID
    assert [(one.tool, one.verdict) for one in events] == [("sample", "deny")]


async def test_a_cancelled_call_of_another_road_leaves_nothing_behind(at: Modelled) -> None:
    at.gateway.pipeline.road.cancel("act_of_another_road")
    assert mounted(at).road._called_off == set()
