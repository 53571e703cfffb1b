"""Legacy servers that ask for a model, played by hand: on whose behalf they ask, and what they are told."""

import asyncio
import json

import pytest
from support.played import Played
from support.samplers import Model

from gateway.ports import Outcome, OutcomeKind
from gateway.upstreams import sampling
from gateway.upstreams.calls import Calls
from gateway.upstreams.stdio import Connection
from policies.action import Action, Kind, Subject
from policies.verdict import Code

OVER, UNCLEAR, REJECTED, INVALID, BUSY = -32800, -32600, -1, -32602, -32000


class Harbour:
    """One server that was told of the model, and the calls on its connection."""

    def __init__(self) -> None:
        self.model = Model()
        self.server = Played()
        self.connection = Connection(session=self.server, max_result_bytes=1_000_000)
        self.calls = Calls(connection=self.connection, sampler=self.model)
        self.connection.open()
        self.calls.hear()
        self._written = 0

    async def call(self, action_id: str = "act_1", timeout_s: float = 20.0, token: str = "t") -> asyncio.Task[Outcome]:
        """A call that was sent."""
        subject = Subject(principal="ann", agent="a", task="t1", holder="h", root="r", token=token)
        action = Action(id=action_id, kind=Kind.CALL_TOOL, subject=subject, server="muse", name="ask", arguments={})
        ends = asyncio.get_running_loop().time() + timeout_s
        frame = json.dumps({"id": action_id, "method": "tools/call"}).encode()
        task = asyncio.ensure_future(self.calls.make(action, frame, ends, nothing_else))
        assert (await self.next())["id"] == action_id
        return task

    async def next(self) -> dict[str, object]:
        """The next line that is written to the server."""
        heard = await self.server.hears(self._written + 1)
        self._written += 1
        return heard[self._written - 1]

    async def told(self, request_id: object) -> int:
        """The code of the error that answers this request next."""
        said = await self.next()
        assert (said["id"], type(said["id"])) == (request_id, type(request_id))
        error = said["error"]
        assert isinstance(error, dict)
        assert error.keys() == {"code", "message"}
        return int(error["code"])

    async def ends(self, call: asyncio.Task[Outcome], action_id: str = "act_1") -> None:
        """The server answers; nothing else was written to it."""
        self.server.answers(action_id)
        assert (await call).kind is OutcomeKind.OK
        assert len(self.server.stdin.lines) == self._written


async def nothing_else(frame: bytes) -> None:
    raise AssertionError("a legacy call is one frame")


@pytest.fixture
async def harbour() -> Harbour:
    return Harbour()


async def test_a_request_is_answered_on_behalf_of_the_one_call_in_flight(harbour: Harbour) -> None:
    call = await harbour.call()
    harbour.server.asks("q", _meta={"progressToken": "act_9"}, systemPrompt="Be brief.")
    said = await harbour.next()
    assert said == {
        "jsonrpc": "2.0",
        "id": "q",
        "result": {
            "role": "assistant",
            "content": {"type": "text", "text": "a poem"},
            "model": "test-model",
            "stopReason": "endTurn",
        },
    }
    [(cause, params)] = harbour.model.asked
    assert cause == "act_1"
    assert params.keys() == {"messages", "maxTokens", "systemPrompt"}, "_meta stays here"
    await harbour.ends(call)
    assert harbour.connection.noise.refused == 0


@pytest.mark.parametrize("request_id", [0, 1, -7, "1", "", "ü", "act_1"])
async def test_an_id_of_the_servers_comes_back_as_it_was(harbour: Harbour, request_id: int | str) -> None:
    call = await harbour.call()
    harbour.server.asks(request_id)
    said = await harbour.next()
    assert (said["id"], type(said["id"])) == (request_id, type(request_id))
    await harbour.ends(call)


async def test_ids_that_differ_in_type_alone_are_two_requests(harbour: Harbour) -> None:
    call = await harbour.call()
    harbour.server.asks(1)
    harbour.server.asks("1")
    assert {json.dumps((await harbour.next())["id"]) for _ in range(2)} == {"1", '"1"'}
    await harbour.ends(call)


@pytest.mark.promise("llm.sampling-one-cause")
async def test_a_request_that_no_call_is_the_cause_of_is_refused(harbour: Harbour) -> None:
    harbour.server.asks("q")
    assert await harbour.told("q") == UNCLEAR
    call = await harbour.call()
    await harbour.ends(call)
    harbour.server.asks("q", _meta={"progressToken": "act_1"})
    assert await harbour.told("q") == UNCLEAR
    assert harbour.model.asked == []
    assert harbour.connection.noise.refused == 2


@pytest.mark.promise("llm.sampling-one-cause")
async def test_while_two_calls_are_in_flight_nobody_guesses_which_one_asks(harbour: Harbour) -> None:
    parent = await harbour.call("act_1", token="parent")
    child = await harbour.call("act_2", token="child")
    harbour.server.asks("q", _meta={"progressToken": "act_1", "related-request": "act_1"})
    assert await harbour.told("q") == UNCLEAR
    assert harbour.model.asked == []
    await harbour.ends(child, "act_2")
    harbour.server.asks("q")
    assert "result" in await harbour.next()
    assert [cause for cause, _ in harbour.model.asked] == ["act_1"], "one is in flight again"
    await harbour.ends(parent)


@pytest.mark.promise("llm.sampling-one-cause")
async def test_a_call_that_was_given_up_on_may_still_be_the_one_that_asks(harbour: Harbour) -> None:
    given_up = await harbour.call("act_1", timeout_s=0.01)
    harbour.server.notifies("notifications/message")  # it lives
    assert (await given_up).code is Code.UPSTREAM_TIMEOUT
    assert (await harbour.next())["method"] == "notifications/cancelled"
    call = await harbour.call("act_2")
    harbour.server.asks("q")
    assert await harbour.told("q") == UNCLEAR
    harbour.server.answers("act_1", "late")
    harbour.server.asks("q")
    assert "result" in await harbour.next(), "now it is clear again"
    assert [cause for cause, _ in harbour.model.asked] == ["act_2"]
    await harbour.ends(call, "act_2")


async def test_an_id_in_flight_is_not_taken_twice(harbour: Harbour) -> None:
    harbour.model.is_held = True
    call = await harbour.call()
    harbour.server.asks("q")
    await harbour.model.was_asked(1)
    harbour.server.asks("q")
    assert await harbour.told("q") == UNCLEAR
    await harbour.model.release()
    assert "result" in await harbour.next()
    assert len(harbour.model.asked) == 1
    await harbour.ends(call)


async def test_a_flood_of_requests_is_four_at_once_and_thirty_two_a_call(harbour: Harbour) -> None:
    harbour.model.is_held = True
    call = await harbour.call()
    for number in range(100):
        harbour.server.asks(number)
    refused = [await harbour.told(number) for number in range(sampling.MAX_OPEN, 100)]
    assert set(refused) == {BUSY}
    await harbour.model.release()
    assert {(await harbour.next())["id"] for _ in range(sampling.MAX_OPEN)} == set(range(sampling.MAX_OPEN))
    harbour.server.asks("more")
    assert await harbour.told("more") == BUSY, "what was refused counts too"
    assert len(harbour.model.asked) == sampling.MAX_OPEN
    await harbour.ends(call)

    call = await harbour.call("act_2")
    for number in range(sampling.MAX_PER_CALL):
        harbour.server.asks(number)
        assert "result" in await harbour.next()
    harbour.server.asks("more")
    assert await harbour.told("more") == BUSY
    await harbour.ends(call, "act_2")


async def test_a_server_that_asks_and_does_not_read_holds_its_own_places(harbour: Harbour) -> None:
    call = await harbour.call()
    harbour.server.stdin.room.clear()
    for number in range(sampling.MAX_OPEN):
        harbour.server.asks(number)
        assert "result" in await harbour.next()
    harbour.server.asks("more")
    assert await harbour.told("more") == BUSY
    harbour.server.stdin.room.set()
    await harbour.ends(call)


async def test_params_beyond_the_bound_reach_nobody(harbour: Harbour) -> None:
    call = await harbour.call()
    harbour.server.asks("q", systemPrompt="x" * 300_000)
    assert await harbour.told("q") == INVALID
    assert harbour.model.asked == []
    await harbour.ends(call)


@pytest.mark.parametrize(
    ("says", "code"),
    [
        (Code.NO_CAPABILITY, REJECTED),
        (Code.DENIED_BY_PERSON, REJECTED),
        (Code.ARGUMENTS_INVALID, INVALID),
        (Code.OVERLOADED, BUSY),
        (RuntimeError("the password is hunter2"), BUSY),
    ],
)
async def test_a_refusal_says_a_constant_sentence_and_the_call_goes_on(
    harbour: Harbour, says: Code | Exception, code: int
) -> None:
    harbour.model.says = says
    call = await harbour.call()
    harbour.server.asks("q")
    assert await harbour.told("q") == code
    assert not any(b"hunter2" in line for line in harbour.server.stdin.lines)
    await harbour.ends(call)


@pytest.mark.promise("no-capability-declared")
@pytest.mark.parametrize("method", ["elicitation/create", "roots/list", "ping", "sampling/createMessageX"])
async def test_whatever_else_is_asked_during_a_call_is_refused(harbour: Harbour, method: str) -> None:
    call = await harbour.call()
    harbour.server.asks("q", method)
    assert await harbour.told("q") == -32601
    await harbour.ends(call)


# ---- ends ---------------------------------------------------------------------------------------------------------


async def test_a_withdrawn_request_is_cancelled_and_not_answered(harbour: Harbour) -> None:
    harbour.model.is_held = True
    call = await harbour.call()
    harbour.server.asks(7)
    await harbour.model.was_asked(1)
    harbour.server.notifies("notifications/cancelled", requestId="7")
    harbour.server.notifies("notifications/cancelled", requestId=7)
    harbour.server.notifies("notifications/cancelled", requestId=7)
    harbour.server.asks(7)
    await harbour.model.was_asked(2)
    assert harbour.model.left == ["act_1"]
    await harbour.model.release()
    assert (await harbour.next())["id"] == 7
    await harbour.ends(call)


async def test_an_answered_call_leaves_nothing_that_is_asked_for_it(harbour: Harbour) -> None:
    harbour.model.is_held = True
    call = await harbour.call()
    harbour.server.asks("q")
    await harbour.model.was_asked(1)
    harbour.server.answers("act_1")
    assert (await call).kind is OutcomeKind.OK
    assert await harbour.told("q") == OVER
    await harbour.calls.close()
    assert harbour.model.left == ["act_1"]
    await harbour.model.release()
    assert len(harbour.server.stdin.lines) == 2, "no answer after the call"
    assert not harbour.calls.is_busy


async def test_a_cancelled_call_cancels_what_is_asked_for_it_and_takes_no_more(harbour: Harbour) -> None:
    harbour.model.is_held = True
    call = await harbour.call()
    harbour.server.asks("q")
    await harbour.model.was_asked(1)
    harbour.calls.cancel("act_1")
    harbour.calls.cancel("never")
    assert await harbour.told("q") == OVER
    assert (await harbour.next())["method"] == "notifications/cancelled"
    harbour.server.asks("again")
    assert await harbour.told("again") == OVER
    await harbour.ends(call)
    assert harbour.model.left == ["act_1"]


async def test_the_deadline_runs_on_while_the_model_is_asked(harbour: Harbour) -> None:
    harbour.model.is_held = True
    call = await harbour.call(timeout_s=0.2)
    harbour.server.asks("q")
    outcome = await call
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, Code.UPSTREAM_TIMEOUT)
    await harbour.calls.close()
    assert harbour.model.left == [cause for cause, _ in harbour.model.asked], "whoever was asked is told to stop"
    assert not any("result" in line for line in harbour.server.heard)


async def test_the_end_of_a_server_ends_what_it_asked(harbour: Harbour) -> None:
    harbour.model.is_held = True
    call = await harbour.call()
    harbour.server.asks("q")
    await harbour.model.was_asked(1)
    harbour.server.stdout.feed_eof()
    assert (await call).kind is OutcomeKind.UNKNOWN
    await harbour.calls.close()
    assert harbour.model.left == ["act_1"]
    assert len(harbour.server.stdin.lines) == 1


async def test_an_answer_that_was_written_is_not_followed_by_a_refusal(harbour: Harbour) -> None:
    call = await harbour.call()
    harbour.server.stdin.room.clear()
    harbour.server.asks("q")
    assert "result" in await harbour.next()
    await harbour.ends(call)
    await harbour.calls.close()


@pytest.mark.promise("llm.sampling-needs-grant")
async def test_a_server_that_was_told_of_no_model_gets_no_answer() -> None:
    server = Played()
    connection = Connection(session=server, max_result_bytes=1_000_000)
    calls = Calls(connection=connection, sampler=None)
    connection.open()
    calls.hear()
    server.asks("q")
    [refusal] = await server.hears(1)
    assert refusal["error"]["code"] == -32601
