"""One connection against a server that the test plays by hand."""

import asyncio
import json

import pytest
from support.played import Played

from gateway.errors import UpstreamError
from gateway.ports import Outcome, OutcomeKind
from gateway.upstreams import noise as noise_bound
from gateway.upstreams import stdio
from gateway.upstreams.stdio import Connection
from policies.verdict import Code


class Call:
    def __init__(self, connection: Connection, request_id: str = "act_1", deadline_s: float = 20) -> None:
        self.task = asyncio.ensure_future(connection.call(b'{"id":"%s"}' % request_id.encode(), request_id, deadline_s))

    async def outcome(self) -> Outcome:
        return await self.task


@pytest.fixture
async def server() -> Played:
    return Played()


@pytest.fixture
async def connection(server: Played) -> Connection:
    connection = Connection(session=server, max_result_bytes=10_000)
    connection.open()
    return connection


async def test_each_answer_goes_to_whoever_asked(server: Played, connection: Connection) -> None:
    first, second = Call(connection, "a"), Call(connection, "b")
    server.answers("b", "second")
    server.answers("a", "first")
    assert [(await call.outcome()).result for call in (first, second)] == [{"text": "first"}, {"text": "second"}]
    assert server.stdin.lines == [b'{"id":"a"}\n', b'{"id":"b"}\n'], "one write each"


async def test_a_second_and_a_late_answer_are_dropped_and_counted(server: Played, connection: Connection) -> None:
    call = Call(connection)
    server.answers("act_1", "first")
    server.answers("act_1", "second")
    assert (await call.outcome()).result == {"text": "first"}
    server.answers("act_1", "third")
    server.answers("never")
    again = Call(connection, "act_2")
    await asyncio.sleep(0)
    server.answers("act_2")
    assert (await again.outcome()).kind is OutcomeKind.OK
    assert connection.noise.late == 3


@pytest.mark.promise("ids-with-type")
async def test_ids_are_compared_with_their_type(server: Played, connection: Connection) -> None:
    call = Call(connection, "1")
    for wrong in (1, True, 1.0, None, ["1"]):
        server.answers(wrong, "wrong")
    server.answers("1", "right")
    assert (await call.outcome()).result == {"text": "right"}


async def test_an_action_in_flight_is_not_sent_again(server: Played, connection: Connection) -> None:
    first = Call(connection)
    await asyncio.sleep(0)
    second = await Call(connection).outcome()
    assert (second.kind, second.code) == (OutcomeKind.NOT_SENT, Code.DUPLICATE)
    server.answers("act_1")
    assert (await first.outcome()).kind is OutcomeKind.OK
    assert len(server.stdin.lines) == 1


async def test_what_was_sent_when_the_server_ends_is_unknown_and_what_comes_after_is_not_sent(
    server: Played, connection: Connection
) -> None:
    sent = Call(connection)
    await asyncio.sleep(0)
    server.stdout.feed_eof()
    assert (await sent.outcome()).kind is OutcomeKind.UNKNOWN
    late = await Call(connection, "act_2").outcome()
    assert (late.kind, late.detail) == (OutcomeKind.NOT_SENT, "the server ended")


async def test_a_pipe_that_does_not_take_the_frame_is_provably_not_sent(server: Played, connection: Connection) -> None:
    server.stdin.is_broken = True
    assert (await Call(connection).outcome()).kind is OutcomeKind.NOT_SENT


async def test_a_deadline_asks_the_server_to_stop_and_gives_up(server: Played, connection: Connection) -> None:
    other = Call(connection, "other")
    late = await Call(connection, deadline_s=0.01).outcome()
    assert (late.kind, late.code) == (OutcomeKind.UNKNOWN, Code.UPSTREAM_TIMEOUT)
    assert json.loads(server.stdin.lines[-1])["params"]["requestId"] == "act_1"
    server.answers("other")
    assert (await other.outcome()).kind is OutcomeKind.OK, "the others on it go on"


async def test_a_server_that_said_nothing_at_all_until_the_deadline_is_given_up(
    server: Played, connection: Connection
) -> None:
    ends: list[str] = []
    connection.on_end = ends.append
    await Call(connection, deadline_s=0.01).outcome()
    assert ends == ["the server hung"]


async def test_an_answer_within_the_grace_of_a_cancellation_counts(server: Played, connection: Connection) -> None:
    call = Call(connection)
    await asyncio.sleep(0)
    connection.cancel("act_1")
    connection.cancel("act_2")
    assert json.loads(server.stdin.lines[-1])["method"] == "notifications/cancelled"
    assert len(server.stdin.lines) == 2
    server.answers("act_1", "done anyway")
    assert (await call.outcome()).result == {"text": "done anyway"}


async def test_a_line_beyond_the_bound_ends_the_connection(server: Played, connection: Connection) -> None:
    call = Call(connection)
    await asyncio.sleep(0)
    server.stdout.feed_data(b'{"jsonrpc":"2.0","id":"act_1","result":{"x":"' + b"x" * 20_000)
    outcome = await call.outcome()
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, Code.UPSTREAM_FAILED)
    assert "more than 10000 bytes" in outcome.detail


@pytest.mark.parametrize(
    "noise", [b"junk", b'{"jsonrpc":"2.0","method":"notifications/message"}', b'{"jsonrpc":"2.0","id":"x","result":{}}']
)
async def test_a_flood_between_answers_ends_the_connection(
    server: Played, connection: Connection, noise: bytes
) -> None:
    call = Call(connection)
    await asyncio.sleep(0)
    server.says(*[noise] * noise_bound.MAX_MESSAGES)
    server.answers("act_1")
    assert (await call.outcome()).kind is OutcomeKind.OK, "as much as may be"
    call = Call(connection, "act_2")
    await asyncio.sleep(0)
    server.says(*[noise] * (noise_bound.MAX_MESSAGES + 1))
    server.answers("act_2")
    assert (await call.outcome()).detail == "the server flooded its output"


async def test_more_calls_than_a_connection_carries_are_refused(server: Played, connection: Connection) -> None:
    calls = [Call(connection, f"act_{n}") for n in range(stdio.MAX_IN_FLIGHT)]
    await asyncio.sleep(0)
    assert (await Call(connection, "one more").outcome()).code is Code.OVERLOADED
    await connection.close("over", politely=False)
    assert {(await call.outcome()).kind for call in calls} == {OutcomeKind.UNKNOWN}


async def test_a_request_of_ours_that_is_refused_or_unanswered_raises(server: Played, connection: Connection) -> None:
    asked = asyncio.ensure_future(connection.ask(b"{}", "list", 20))
    server.says({"jsonrpc": "2.0", "id": "list", "error": {"code": -32601, "message": "no such method"}})
    with pytest.raises(stdio.Refused, match="no such method"):
        await asked
    with pytest.raises(UpstreamError, match="no answer within"):
        await connection.ask(b"{}", "list", 0.01)


async def test_only_the_end_of_stderr_is_kept_and_made_printable(server: Played, connection: Connection) -> None:
    for n in range(5_000):
        server.stderr.feed_data(b"line %d\n" % n)
    server.stderr.feed_data(b"\x1b[31mlast\n")
    await connection.close("over", politely=False)
    assert len(connection.last_words) <= 4096
    assert connection.last_words.endswith("?[31mlast")
