"""Modern servers that want a model's answers first, played by hand: the rounds of one call."""

import asyncio
from typing import Any

import pytest
from support.played import Played
from support.samplers import Model

from gateway.errors import Unrecordable
from gateway.ports import Outcome, OutcomeKind
from gateway.upstreams import calls as bounds
from gateway.upstreams import sampling
from gateway.upstreams.calls import Calls
from gateway.upstreams.stdio import Connection
from gateway.wire import upstream
from gateway.wire.upstream import Era
from policies.action import Action, Kind, Subject
from policies.verdict import Code

ANN = Subject(principal="ann", agent="a", task="t1", holder="h", root="r", token="t")
ANSWER = {
    "role": "assistant",
    "content": {"type": "text", "text": "a poem"},
    "model": "test-model",
    "stopReason": "endTurn",
}


def sample(**params: Any) -> dict[str, Any]:
    hello = {"role": "user", "content": {"type": "text", "text": "Ahoy?"}}
    return {"method": "sampling/createMessage", "params": {"messages": [hello], "maxTokens": 9, **params}}


class Harbour:
    """One server, and the calls on its connection; every frame that was announced before it was sent."""

    def __init__(self, model: Model | None) -> None:
        self.server = Played()
        self.connection = Connection(session=self.server, max_result_bytes=2_000_000)
        self.calls = Calls(connection=self.connection, sampler=model)
        self.announced: list[bytes] = []
        self.is_recordable = True
        self.on_announced = lambda: None
        self.connection.open()
        self.calls.hear()

    async def call(self, action_id: str = "act_1", timeout_s: float = 20.0) -> asyncio.Task[Outcome]:
        """A call that was sent."""
        action = Action(id=action_id, kind=Kind.CALL_TOOL, subject=ANN, server="muse", name="ask", arguments={"n": 1})
        ends = asyncio.get_running_loop().time() + timeout_s
        frame = upstream.call(Era.MODERN, action, samples=True)
        task = asyncio.ensure_future(self.calls.make(action, frame, ends, self.announce))
        await self.server.hears(len(self.server.stdin.lines) + 1)
        return task

    async def announce(self, frame: bytes) -> None:
        if not self.is_recordable:
            raise Unrecordable("the disk is full")
        assert frame + b"\n" not in self.server.stdin.lines, "announced before it is sent"
        self.announced.append(frame)
        self.on_announced()


@pytest.fixture
async def model() -> Model:
    return Model()


@pytest.fixture
async def harbour(model: Model) -> Harbour:
    return Harbour(model)


async def test_a_wish_is_answered_with_the_same_call_once_more(harbour: Harbour, model: Model) -> None:
    call = await harbour.call()
    harbour.server.wants("act_1", "opaque ü", say=sample(_meta={"x": 1}), again=sample(maxTokens=7))
    first, second = (line["params"] for line in await harbour.server.hears(2))
    assert harbour.server.heard[1]["id"] == second["_meta"]["progressToken"] == "act_1/1"
    assert second.pop("inputResponses") == {"say": ANSWER, "again": ANSWER}
    assert second.pop("requestState") == "opaque ü"
    second["_meta"]["progressToken"] = "act_1"
    assert second == first, "name, arguments and envelope are the sealed ones"
    assert [(cause, params["maxTokens"]) for cause, params in model.asked] == [("act_1", 9), ("act_1", 7)]
    assert "_meta" not in model.asked[0][1]
    assert harbour.announced == [harbour.server.stdin.lines[1].rstrip()]

    harbour.server.answers("act_1/1", "done")
    outcome = await call
    assert (outcome.kind, outcome.result) == (OutcomeKind.OK, {"text": "done"})
    assert not harbour.calls.is_busy


async def test_each_call_is_the_cause_of_its_own_wishes_however_many_are_in_flight(
    harbour: Harbour, model: Model
) -> None:
    one, two = await harbour.call("act_1"), await harbour.call("act_2")
    harbour.server.wants("act_2", say=sample())
    assert (await harbour.server.hears(3))[2]["id"] == "act_2/1"
    assert [cause for cause, _ in model.asked] == ["act_2"]
    harbour.server.answers("act_2/1")
    harbour.server.answers("act_1")
    assert {(await call).kind for call in (one, two)} == {OutcomeKind.OK}


async def test_a_wish_without_state_goes_back_without_state(harbour: Harbour) -> None:
    call = await harbour.call()
    harbour.server.wants("act_1", None, say=sample())
    assert "requestState" not in (await harbour.server.hears(2))[1]["params"]
    harbour.server.answers("act_1/1")
    assert (await call).kind is OutcomeKind.OK


async def test_wishes_without_end_have_an_end(harbour: Harbour, model: Model) -> None:
    call = await harbour.call()
    for number in range(bounds.MAX_ROUNDS + 1):
        harbour.server.wants(upstream.continuation_id("act_1", number), f"state {number}", more=sample())
        if number < bounds.MAX_ROUNDS:
            await harbour.server.hears(number + 2)
    outcome = await call
    assert (outcome.kind, outcome.code) == (OutcomeKind.ERROR, Code.UPSTREAM_FAILED)
    assert len(model.asked) == bounds.MAX_ROUNDS, "the last wish is not even asked"
    assert len(harbour.server.stdin.lines) == bounds.MAX_ROUNDS + 1


async def test_a_call_may_ask_so_much_whatever_its_rounds(harbour: Harbour, model: Model) -> None:
    many = {str(number): sample() for number in range(upstream.MAX_REQUESTS)}
    rounds = sampling.MAX_PER_CALL // upstream.MAX_REQUESTS
    assert rounds <= bounds.MAX_ROUNDS
    call = await harbour.call()
    for number in range(rounds):
        harbour.server.wants(upstream.continuation_id("act_1", number), **many)
        await harbour.server.hears(number + 2)
    harbour.server.wants(upstream.continuation_id("act_1", rounds), **many)
    assert (await call).kind is OutcomeKind.ERROR
    assert len(model.asked) == sampling.MAX_PER_CALL


@pytest.mark.parametrize(
    ("requests", "state"),
    [
        ({"say": sample()}, "x" * 1_900_000),
        ({"say": sample(systemPrompt="x" * 300_000)}, "s"),
        ({str(number): sample() for number in range(5)}, "s"),
    ],
)
async def test_more_than_is_carried_reaches_nobody(
    harbour: Harbour, model: Model, requests: dict[str, Any], state: str
) -> None:
    call = await harbour.call()
    harbour.server.wants("act_1", state, **requests)
    outcome = await call
    assert (outcome.kind, outcome.code) == (OutcomeKind.ERROR, Code.UPSTREAM_FAILED)
    assert (model.asked, len(harbour.server.stdin.lines)) == ([], 1)


async def test_a_wish_for_a_person_beside_the_model_asks_neither(harbour: Harbour, model: Model) -> None:
    call = await harbour.call()
    harbour.server.wants("act_1", say=sample(), sure={"method": "elicitation/create", "params": {"message": "Sure?"}})
    outcome = await call
    assert (outcome.kind, outcome.code) == (OutcomeKind.ERROR, Code.NOT_MEDIATED)
    assert (model.asked, len(harbour.server.stdin.lines)) == ([], 1)


@pytest.mark.promise("llm.sampling-needs-grant")
async def test_a_server_that_was_told_of_no_model_wants_in_vain() -> None:
    harbour = Harbour(None)
    call = await harbour.call()
    harbour.server.wants("act_1", say=sample())
    outcome = await call
    assert (outcome.kind, outcome.code) == (OutcomeKind.ERROR, Code.NOT_MEDIATED)
    assert len(harbour.server.stdin.lines) == 1


async def test_a_modern_server_has_no_requests_of_its_own() -> None:
    harbour = Harbour(None)  # `Peer` lets only a legacy server be heard
    call = await harbour.call()
    harbour.server.asks("q")
    assert (await harbour.server.hears(2))[1]["error"]["code"] == -32601
    harbour.server.answers("act_1")
    assert (await call).kind is OutcomeKind.OK


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (Code.NO_CAPABILITY, Code.NO_CAPABILITY),
        (Code.CAPABILITY_EXHAUSTED, Code.CAPABILITY_EXHAUSTED),
        (Code.DENIED_BY_PERSON, Code.DENIED_BY_PERSON),
        (Code.PENDING, Code.UPSTREAM_FAILED),
        (Code.ARGUMENTS_INVALID, Code.UPSTREAM_FAILED),
        (RuntimeError("boom"), Code.UNAVAILABLE),
    ],
)
async def test_a_refused_sample_ends_its_call(
    harbour: Harbour, model: Model, says: Code | Exception, told: Code
) -> None:
    model.says = says
    call = await harbour.call()
    harbour.server.wants("act_1", say=sample(), second=sample())
    outcome = await call
    assert (outcome.kind, outcome.code) == (OutcomeKind.ERROR, told)
    assert (len(model.asked), len(harbour.server.stdin.lines)) == (1, 1)


async def test_a_frame_that_cannot_be_announced_is_not_sent(harbour: Harbour) -> None:
    harbour.is_recordable = False
    call = await harbour.call()
    harbour.server.wants("act_1", say=sample())
    outcome = await call
    assert (outcome.kind, outcome.code) == (OutcomeKind.ERROR, Code.UNAVAILABLE)
    assert len(harbour.server.stdin.lines) == 1


# ---- ends ---------------------------------------------------------------------------------------------------------


async def test_a_call_that_is_cancelled_between_two_frames_cancels_the_model_and_sends_nothing(
    harbour: Harbour, model: Model
) -> None:
    model.is_held = True
    call = await harbour.call()
    harbour.server.wants("act_1", say=sample())
    await model.was_asked(1)
    assert harbour.calls.is_busy
    assert not harbour.connection.is_busy
    harbour.calls.cancel("act_1")
    assert (await call).kind is OutcomeKind.ERROR
    assert (model.left, len(harbour.server.stdin.lines)) == (["act_1"], 1)


async def test_a_call_that_is_cancelled_while_its_next_frame_is_announced_sends_nothing(harbour: Harbour) -> None:
    harbour.on_announced = lambda: harbour.calls.cancel("act_1")
    call = await harbour.call()
    harbour.server.wants("act_1", say=sample())
    assert (await call).kind is OutcomeKind.ERROR
    assert len(harbour.server.stdin.lines) == 1


async def test_a_later_frame_is_cancelled_by_its_own_id(harbour: Harbour) -> None:
    call = await harbour.call()
    harbour.server.wants("act_1", say=sample())
    await harbour.server.hears(2)
    harbour.calls.cancel("act_1")
    assert (await harbour.server.hears(3))[2]["params"]["requestId"] == "act_1/1"
    harbour.server.wants("act_1/1", say=sample())
    assert (await call).kind is OutcomeKind.ERROR
    assert len(harbour.server.stdin.lines) == 3


async def test_all_rounds_are_under_the_one_deadline(harbour: Harbour, model: Model) -> None:
    model.is_held = True
    call = await harbour.call(timeout_s=0.2)
    harbour.server.wants("act_1", say=sample())
    outcome = await call
    assert outcome.code is Code.UPSTREAM_TIMEOUT
    assert not any("inputResponses" in line.get("params", {}) for line in harbour.server.heard)


async def test_a_frame_without_an_answer_is_unknown_and_one_that_cannot_be_sent_is_over(
    harbour: Harbour, model: Model
) -> None:
    call = await harbour.call()
    harbour.server.wants("act_1", say=sample())
    await harbour.server.hears(2)
    harbour.server.stdout.feed_eof()
    assert (await call).kind is OutcomeKind.UNKNOWN

    other = Harbour(model)
    other.on_announced = lambda: other.connection.end("the server ended")
    call = await other.call()
    other.server.wants("act_1", say=sample())
    outcome = await call
    assert (outcome.kind, outcome.detail) == (OutcomeKind.ERROR, "the server ended"), "the frames before it were sent"


async def test_a_second_wish_for_the_same_frame_is_late(harbour: Harbour, model: Model) -> None:
    call = await harbour.call()
    harbour.server.wants("act_1", say=sample())
    harbour.server.wants("act_1", say=sample())
    await harbour.server.hears(2)
    harbour.server.answers("act_1/1")
    assert (await call).kind is OutcomeKind.OK
    assert (len(model.asked), harbour.connection.noise.late) == (1, 1)
