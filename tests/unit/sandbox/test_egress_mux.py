"""The stream between forwarder and proxy: windows, ends, and a forwarder that is none."""

import asyncio
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.egress import inside

from sandbox.egress.inside import AMOUNT, CONNECTIONS, CREDIT, DATA, END, HEADER, INWARD, OPEN, RESET
from sandbox.egress.mux import Connection, Handler, Mux
from sandbox.egress.streams import pump


class Handled:
    """An outlet of this handler alone."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await Mux(reader=reader, writer=writer, handler=self.handler).serve()


async def echo(connection: Connection) -> None:
    await pump(connection, connection)


async def forever(_connection: Connection) -> None:
    await asyncio.Event().wait()


async def test_bytes_come_back_as_they_were_in_any_number() -> None:
    async with inside(Handled(echo)) as sandbox:
        said = bytes(range(256)) * 4096
        wire = sandbox.open()
        for place in range(0, len(said), 32768):
            wire.send(said[place : place + 32768])
            assert await wire.until(said[place : place + 32768]) == said[place : place + 32768]
        wire.end()
        await wire.rest()
        assert wire.ended == "end"


@pytest.mark.promise("egress-bounded")
async def test_a_connection_that_nobody_reads_holds_up_no_other_and_is_sent_its_window_at_most() -> None:
    written = 0

    async def flood(connection: Connection) -> None:
        nonlocal written
        if connection.number > 1:
            await echo(connection)
        while True:
            await connection.write(b"x" * 1000)
            written += 1000

    async with inside(Handled(flood)) as sandbox:
        slow = sandbox.open()
        slow.takes = False
        while len(slow.arrived) < INWARD:
            slow.changed.clear()
            await slow.changed.wait()
        for _ in range(3):
            quick = sandbox.open()
            quick.send(b"hello")
            assert await quick.until(b"hello") == b"hello"
        assert len(slow.arrived) == INWARD
        assert written <= INWARD


@pytest.mark.promise("egress-bounded")
async def test_no_more_connections_than_allowed_are_carried_at_once() -> None:
    async with inside(Handled(forever)) as sandbox:
        wires = [sandbox.open() for _ in range(CONNECTIONS + 3)]
        for refused in wires[-3:]:
            await refused.rest()
            assert refused.ended == "reset"
    assert [wire.ended for wire in wires[:CONNECTIONS]] == ["reset"] * CONNECTIONS  # at the end of the stream


async def test_whoever_carries_a_connection_is_told_when_it_is_cut_and_may_finish_what_he_does_then() -> None:
    begun, cut = asyncio.Event(), asyncio.Event()

    async def carry(connection: Connection) -> None:
        begun.set()
        try:
            await forever(connection)
        finally:
            await asyncio.sleep(0)
            cut.set()

    async with inside(Handled(carry)) as sandbox:
        wire = sandbox.open()
        await begun.wait()
        wire.reset()
        wire.reset()
        await cut.wait()


BAD = {
    "a kind that is none": HEADER.pack(9, 1, 0),
    "a frame too long": HEADER.pack(DATA, 1, 1 << 20),
    "an empty one": HEADER.pack(DATA, 1, 0),
    "an open one opened": HEADER.pack(OPEN, 1, 0),
    "one that never was": HEADER.pack(DATA, 77, 1) + b"x",
    "number zero": HEADER.pack(END, 0, 0),
    "credit that was not used": HEADER.pack(CREDIT, 1, 4) + AMOUNT.pack(1),
    "credit of another size": HEADER.pack(CREDIT, 1, 2) + b"xx",
    "more than its window": (HEADER.pack(DATA, 1, 65536) + bytes(65536)) * 5,
    "more after its end": HEADER.pack(END, 1, 0) + HEADER.pack(DATA, 1, 1) + b"x",
    "two ends": HEADER.pack(END, 1, 0) * 2,
}


@pytest.mark.promise("egress-bounded")
@pytest.mark.parametrize("what", BAD)
async def test_a_frame_that_no_forwarder_would_send_ends_the_stream(what: str) -> None:
    async with inside(Handled(forever)) as sandbox:
        wire = sandbox.open()
        sandbox.writer.write(BAD[what])
        await wire.rest()
        assert wire.ended == "reset"
        assert await sandbox.reader.read() == b""


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.tuples(
                st.sampled_from([OPEN, DATA, END, RESET, CREDIT]),
                st.integers(0, 4),
                st.one_of(st.just(b""), st.just(AMOUNT.pack(1)), st.binary(max_size=40)),
            ).map(lambda frame: HEADER.pack(frame[0], frame[1], len(frame[2])) + frame[2]),
        ),
        max_size=20,
    )
)
def test_whatever_is_sent_the_stream_ends_and_nothing_is_raised(said: list[bytes]) -> None:
    async def send() -> None:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        theirs.sendall(b"".join(said))
        theirs.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(5):
            await Handled(echo).serve(reader, writer)
        theirs.close()

    asyncio.run(send())


async def test_the_end_of_the_stream_is_the_end_of_its_connections() -> None:
    begun, ended = asyncio.Semaphore(0), 0

    async def count(connection: Connection) -> None:
        nonlocal ended
        begun.release()
        try:
            await forever(connection)
        finally:
            ended += 1

    async with inside(Handled(count)) as sandbox:
        for _ in range(3):
            sandbox.open()
            await begun.acquire()
    assert ended == 3
