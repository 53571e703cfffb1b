"""What the proxy carries, what it writes down, and where it stops."""

import asyncio

import pytest
from support.egress import API, EVIL, METADATA, OTHER_PUBLIC, PUBLIC, Inside, Log, Wire, inside, proxy_of, town

from sandbox.egress.events import Closed, Connected, Exhausted, Refused
from sandbox.egress.refusals import LISTED
from sandbox.egress.rules import Rule

WEB, ECHO = Rule(API, 80), Rule(API, 9000)
GET = f"GET http://{API}/ HTTP/1.1\r\nHost: {API}\r\n\r\n".encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def tunnel(sandbox: Inside, to: Rule = ECHO) -> Wire:
    wire = sandbox.open()
    wire.send(f"CONNECT {to} HTTP/1.1\r\n\r\n".encode())
    assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    return wire


def closed(number: int, sent: int, received: int, why: str = "ended", to: Rule = WEB) -> Closed:
    return Closed(
        connection=number,
        host=to.host,
        port=to.port,
        address=PUBLIC,
        sent_bytes=sent,
        received_bytes=received,
        duration_s=0,
        why=why,
    )


def undated(log: Log) -> list[Closed]:
    found = [event for event in log.events if isinstance(event, Closed)]
    assert all(event.duration_s > 0 for event in found)
    return [
        closed(one.connection, one.sent_bytes, one.received_bytes, one.why, Rule(one.host, one.port)) for one in found
    ]


@pytest.mark.promise("egress-recorded")
async def test_each_connection_is_written_down_before_it_is_made_and_when_it_is_over() -> None:
    log = Log()
    async with town() as place, inside(proxy_of(place, log, WEB)) as sandbox:
        assert await sandbox.ask(GET) == OK
        sent = len(place.all_heard)
    assert log.events[0] == Connected(connection=1, host=API, port=80, address=PUBLIC)
    assert undated(log) == [closed(1, sent, len(OK))]
    assert len(log.events) == 2


@pytest.mark.promise("egress-recorded")
async def test_a_connection_whose_start_cannot_be_written_down_is_not_made() -> None:
    log = Log(refuses=lambda event: isinstance(event, Connected))
    async with town() as place, inside(proxy_of(place, log, WEB, ECHO)) as sandbox:
        assert (await sandbox.ask(GET)).startswith(b"HTTP/1.1 503 ")
        assert (await sandbox.ask(f"CONNECT {ECHO} HTTP/1.1\r\n\r\n".encode())).startswith(b"HTTP/1.1 503 ")
        assert place.connected == []


async def test_an_end_that_cannot_be_written_down_ends_nothing_else() -> None:
    log = Log(refuses=lambda event: not isinstance(event, Connected))
    async with town() as place, inside(proxy_of(place, log, WEB)) as sandbox:
        assert await sandbox.ask(GET) == OK
        assert (await sandbox.ask(b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
        assert await sandbox.ask(GET) == OK


@pytest.mark.promise("egress-recorded")
async def test_what_is_refused_is_written_down_as_it_was_asked_for_but_harmless() -> None:
    log = Log()
    async with town() as place, inside(proxy_of(place, log, WEB)) as sandbox:
        said = await sandbox.ask(f"CONNECT {EVIL}:443 HTTP/1.1\r\n\r\n".encode())
        assert said.startswith(b"HTTP/1.1 403 Forbidden\r\n")
        await sandbox.ask(b"CONNECT 'x'" + b"y" * 500 + b":1 HTTP/1.1\r\n\r\n")
        await sandbox.ask(b"GET http://\xe9/ HTTP/1.1\r\n\r\n")
    first, second, third = log.of(Refused)
    assert first == Refused(target=f"{EVIL}:443", why="not in the allow-list")
    assert isinstance(second, Refused)
    assert second.target.endswith("yyy...")
    assert len(second.target) < 130
    assert third == Refused(target="", why="no request line")


@pytest.mark.promise("egress-bounded")
async def test_a_flood_of_refusals_is_counted_not_listed() -> None:
    log, many = Log(), LISTED + 20
    async with town() as place, inside(proxy_of(place, log, WEB)) as sandbox:
        for _ in range(2):
            await asyncio.gather(*(sandbox.ask(b"GET / HTTP/1.1\r\n\r\n") for _ in range(many // 2)))
    counts = [event.count for event in log.events if isinstance(event, Refused)]
    assert counts == [1] * LISTED + [64, many]


async def test_a_name_without_an_address_and_an_address_without_a_server_are_told_apart() -> None:
    log = Log()
    async with town() as place, inside(proxy_of(place, log, WEB, Rule("no.example.com", 80), Rule(EVIL, 9))) as sandbox:
        unknown = await sandbox.ask(b"CONNECT no.example.com:80 HTTP/1.1\r\n\r\n")
        nobody = await sandbox.ask(f"CONNECT {EVIL}:9 HTTP/1.1\r\n\r\n".encode())
    assert unknown.endswith(b"its name could not be looked up\n")
    assert nobody.endswith(b"could not be reached\n")
    assert [event.why for event in log.events if isinstance(event, Closed)] == ["could not be reached"]


async def test_another_address_is_tried_where_the_first_is_dead_and_each_try_is_written_down() -> None:
    log = Log()
    async with town() as place, inside(proxy_of(place, log, WEB)) as sandbox:
        place.names[API] = [["93.184.216.99", PUBLIC]]
        assert await sandbox.ask(GET) == OK
    assert [event.address for event in log.events if isinstance(event, Connected)] == ["93.184.216.99", PUBLIC]
    assert [event.why for event in log.events if isinstance(event, Closed)] == ["could not be reached", "ended"]


@pytest.mark.promise("egress-budget")
async def test_bytes_of_all_connections_in_both_directions_end_at_the_budget() -> None:
    log = Log()
    async with town() as place, inside(proxy_of(place, log, ECHO, most_bytes=10_000)) as sandbox:
        first, second = await tunnel(sandbox), await tunnel(sandbox)
        for wire in (first, second):
            wire.send(b"x" * 2_400)
            assert await wire.until(b"x" * 2_400) == b"x" * 2_400
        first.send(b"y" * 500)
        await first.rest()
        assert first.ended == "reset"
        second.send(b"z")
        await second.rest()
        assert second.ended == "reset"
        assert (await sandbox.ask(f"CONNECT {ECHO} HTTP/1.1\r\n\r\n".encode())).startswith(b"HTTP/1.1 403 ")
        assert len(place.all_heard) == 4_800
    assert log.of(Exhausted) == [Exhausted(what="bytes", limit=10_000)]
    assert sum(event.sent_bytes + event.received_bytes for event in undated(log)) == 9_600
    assert {event.why for event in undated(log)} == {"its budget is used up"}


@pytest.mark.promise("egress-budget")
async def test_connections_end_at_their_budget_and_it_is_told_once() -> None:
    log = Log()
    async with town() as place, inside(proxy_of(place, log, WEB, most_connections=2)) as sandbox:
        answers = [await sandbox.ask(GET) for _ in range(4)]
        assert len(place.connected) == 2
    assert [answer[9:12] for answer in answers] == [b"200", b"200", b"403", b"403"]
    assert log.of(Exhausted) == [Exhausted(what="connections", limit=2)]


async def test_a_body_is_sent_on_whole_and_alone() -> None:
    async with town() as place, inside(proxy_of(place, Log(), WEB)) as sandbox:
        head = f"POST http://{API}/ HTTP/1.1\r\nHost: {API}\r\n"
        assert await sandbox.ask(f"{head}Content-Length: 4\r\n\r\nbody".encode()) == OK
        assert place.all_heard.endswith(b"content-length: 4\r\nconnection: close\r\n\r\nbody")
        place.heard.clear()
        chunked = "Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n"
        assert await sandbox.ask((head + chunked).encode()) == OK
    assert place.all_heard.endswith(b"\r\n\r\n3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "body", ["x\r\n", "3\r\nabcd\r\n", "3\nabc\r\n0\r\n\r\n", "-1\r\n", "3 x\r\nabc", "F" * 9 + "\r\n"]
)
async def test_a_body_that_could_be_read_in_two_ways_cuts_the_connection(body: str) -> None:
    log = Log()
    async with town() as place, inside(proxy_of(place, log, WEB)) as sandbox:
        place.ports[PUBLIC, 80] = place.ports[PUBLIC, 9000]  # it says nothing of its own
        wire = sandbox.open()
        wire.send(f"POST http://{API}/ HTTP/1.1\r\nHost: {API}\r\nTransfer-Encoding: chunked\r\n\r\n{body}".encode())
        await wire.rest()
        assert wire.ended == "reset"
    assert [event.why for event in log.events if isinstance(event, Refused)] in (
        ["a malformed chunk"],
        ["a chunk longer than it says"],
    )


async def test_a_second_request_is_refused_and_the_first_is_answered() -> None:
    log = Log()
    async with town() as place, inside(proxy_of(place, log, WEB)) as sandbox:
        assert await sandbox.ask(GET + GET) == OK
        assert place.all_heard.count(b"GET ") == 1
    assert log.of(Refused) == [Refused(target=API, why="a second request behind the first")]


async def test_megabytes_pass_unchanged_and_a_half_closed_side_may_still_be_answered() -> None:
    said = bytes(range(256)) * 8192
    async with town() as place, inside(proxy_of(place, Log(), ECHO)) as sandbox:
        wire = await tunnel(sandbox)
        for place_ in range(0, len(said), 131072):
            wire.send(said[place_ : place_ + 131072])
            await wire.until(said[place_ : place_ + 131072])
        wire.send(b"last words")
        wire.end()
        assert await wire.rest() == b"last words"
        assert wire.ended == "end"
    assert place.all_heard == said + b"last words"


async def test_a_connection_that_the_sandbox_cuts_is_cut_outside_and_written_down() -> None:
    log = Log()
    async with town() as place:
        async with inside(proxy_of(place, log, ECHO)) as sandbox:
            wire = await tunnel(sandbox)
            wire.send(b"hello")
            await wire.until(b"hello")
            wire.reset()
        assert undated(log) == [closed(1, 5, 5, "cut by the sandbox", ECHO)]


async def test_every_connection_of_a_sandbox_that_ends_is_written_down_as_over() -> None:
    log = Log()
    async with town() as place, inside(proxy_of(place, log, ECHO)) as sandbox:
        for _ in range(3):
            await tunnel(sandbox)
    assert sorted(event.connection for event in undated(log)) == [1, 2, 3]


async def test_plain_http_is_not_spoken_to_the_port_of_tls() -> None:
    async with town() as place, inside(proxy_of(place, Log(), Rule(API, 443))) as sandbox:
        said = await sandbox.ask(f"GET http://{API}:443/ HTTP/1.1\r\nHost: {API}:443\r\n\r\n".encode())
        assert said.startswith(b"HTTP/1.1 403 ")
        assert place.connected == []


@pytest.mark.promise("egress-allow-list")
async def test_an_allowed_name_on_another_port_is_another_destination() -> None:
    async with town() as place, inside(proxy_of(place, Log(), ECHO, Rule(EVIL, 443))) as sandbox:
        assert (await sandbox.ask(GET)).startswith(b"HTTP/1.1 403 ")
        assert place.connected == []
        await tunnel(sandbox)
    assert place.connected == [(PUBLIC, 9000)]
    assert OTHER_PUBLIC not in dict(place.connected)
    assert METADATA not in dict(place.connected)
