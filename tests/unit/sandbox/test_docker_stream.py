"""Frames in, streams out, from a small engine of our own that says what a test tells it to."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.docker.engine import Engine
from sandbox.docker.stream import STREAM_BYTES, Stream
from sandbox.errors import SandboxError

UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def attached(path: Path, script: Script, kind: int = 1) -> AsyncIterator[Stream]:
    """A stream to an engine that plays the script once asked."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await script(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(play, path)
    async with server:
        stream = await Engine(socket=str(path)).attach("/containers/c/attach", kind)
        try:
            yield stream
        finally:
            stream.abort()


def frame(data: bytes, kind: int = 1) -> bytes:
    return struct.pack(">BxxxI", kind, len(data)) + data


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=8), st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_frames_cut_anywhere_are_the_same_stream(tmp_path: Path, parts: list[bytes], cuts: list[int]) -> None:
    said = UPGRADED + b"".join(map(frame, parts))

    async def piecemeal(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        at = number = 0
        while at < len(said):
            writer.write(said[at : at + cuts[number % len(cuts)]])
            await writer.drain()
            await asyncio.sleep(0)
            at += cuts[number % len(cuts)]
            number += 1

    async def play() -> bytes:
        path = tmp_path / "s"
        path.unlink(missing_ok=True)
        async with attached(path, piecemeal) as stream:
            return await stream.reader.read()

    assert asyncio.run(play()) == b"".join(parts)


async def test_closing_the_input_leaves_the_output_open(path: Path) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UPGRADED)
        writer.write(frame(str(len(await reader.read())).encode()))

    async with attached(path, count) as stream:
        stream.writer.write(b"12345")
        stream.writer.close()
        await stream.writer.wait_closed()
        assert stream.writer.is_closing()
        stream.writer.write(b"lost, as in a closed pipe")
        assert await stream.reader.read() == b"5"


async def test_a_reader_that_does_not_read_stops_the_engine(path: Path) -> None:
    all_written = asyncio.Event()

    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UPGRADED)
        for _ in range(16):
            writer.write(frame(bytes(STREAM_BYTES)))
            await writer.drain()
        all_written.set()

    async with attached(path, flood) as stream:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await all_written.wait()
        assert len(await stream.reader.read()) == 16 * STREAM_BYTES
        assert all_written.is_set()


async def test_what_is_on_its_way_when_the_program_ends_is_kept_for_a_slow_reader(path: Path) -> None:
    async def flood(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UPGRADED + frame(bytes(3 * STREAM_BYTES)))
        await writer.drain()

    async with attached(path, flood) as stream:
        await stream.finish(5)
        assert len(await stream.reader.read()) == 3 * STREAM_BYTES


@pytest.mark.parametrize("nonsense", [frame(b"x", kind=2), b"\xff" * 8])
async def test_a_stream_ends_at_what_is_no_frame_of_its(path: Path, nonsense: bytes) -> None:
    async def garble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(UPGRADED + frame(b"good") + nonsense + frame(b"bad"))
        await writer.drain()

    async with attached(path, garble) as stream:
        assert await stream.reader.read() == b"good"


@pytest.mark.parametrize(
    "said",
    [b"HTTP/1.1 404 Not Found\r\n\r\n", b"HTTP/1.1 101 UPG", b"", b"what?\r\n\r\n", b"x" * 20000],
    ids=["refused", "cut short", "silent", "no head", "endless"],
)
async def test_an_engine_that_gives_no_stream_is_an_error(path: Path, said: bytes) -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    with pytest.raises(SandboxError, match="no stream"):
        async with attached(path, refuse):
            pass
