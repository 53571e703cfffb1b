"""Three streams, byte for byte: nothing is added, lost, held back, or kept for those who do not read."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
import uvloop
from conformance.running import CAT, MIB, STALL_S, WORK, Ran, ask, python, ran, running, say, shared, shell

from sandbox.driver import Driver, Session

pytestmark = pytest.mark.promise("conformance-stdio")

LOTS = 24 * MIB
"""More than any stream may hold that nobody reads."""
HELD = 12 * MIB
"""What pipes, buffers and daemons between us and the program may hold together."""
CHUNK = MIB // 4
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def test_every_byte_comes_back_as_it_went(driver: Driver) -> None:
    sent = bytes(range(256)) * 16 + os.urandom(10_000_000)
    async with running(driver, CAT) as session:
        _, came = await asyncio.gather(say(session, sent, last=True), session.stdout.read())
        assert came == sent
        assert await session.wait() == 0


async def test_a_line_of_ten_megabytes_arrives_whole_and_the_next_one_after_it(driver: Driver) -> None:
    line = b'{"text":"' + b"x" * 10_000_000 + b'"}\n'
    async with running(driver, CAT) as session:
        _, came = await asyncio.gather(say(session, line), session.stdout.readexactly(len(line)))
        assert came == line
        assert await ask(session, b"short\n") == b"short\n"


@pytest.mark.parametrize("loop", LOOPS)
def test_a_hundred_quick_messages_are_answered_one_by_one_on_either_event_loop(driver: Driver, loop: str) -> None:
    async def converse() -> list[bytes]:
        async with running(driver, CAT) as session:
            answers = [await ask(session, f"message {number}\n".encode()) for number in range(100)]
            session.stdin.close()
            assert await session.stdout.read() == b""
            assert await session.wait() == 0
        return answers

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        assert runner.run(converse()) == [f"message {number}\n".encode() for number in range(100)]


async def test_a_single_byte_is_not_held_back_for_want_of_a_line(driver: Driver) -> None:
    async with running(driver, CAT) as session:
        for byte in (b"\0", b"\x04", b"\r", b"\xff"):
            await say(session, byte)
            assert await session.stdout.readexactly(1) == byte


async def test_a_closed_stdin_is_an_end_of_file_and_all_of_the_answer_still_comes(driver: Driver) -> None:
    source = "cat >/dev/null; head -c 3000000 /dev/zero | tr '\\0' x; echo ' end'; exit 3"
    assert await ran(driver, shell(source), b"question") == Ran(3, "x" * 3_000_000 + " end\n", "")


async def test_stderr_is_a_stream_of_its_own(driver: Driver) -> None:
    source = "for n in 1 2 3; do echo out $n; echo err $n >&2; done"
    assert await ran(driver, shell(source)) == Ran(0, "out 1\nout 2\nout 3\n", "err 1\nerr 2\nerr 3\n")


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 255", 255),
        ("kill -TERM $$", 128 + signal.SIGTERM),
        ("kill -KILL $$", 128 + signal.SIGKILL),
        ("kill -SEGV $$", 128 + signal.SIGSEGV),
    ],
)
async def test_the_status_is_the_programs_own(driver: Driver, source: str, status: int) -> None:
    assert await ran(driver, shell(source)) == Ran(status, "", "")


async def test_a_program_that_does_not_read_makes_us_wait_and_gets_it_all_later(driver: Driver, folder: Path) -> None:
    source = f"echo up; until [ -e {WORK}/go ]; do sleep 0.05; done; wc -c"
    async with running(driver, shell(source, shared(folder))) as session:
        assert await session.stdout.readline() == b"up\n"
        taken = await _take_in(session)
        assert taken < HELD
        (folder / "go").touch()
        session.stdin.close()
        assert int(await session.stdout.readline()) == taken


async def test_a_program_that_is_not_read_has_to_wait_and_loses_nothing(driver: Driver, folder: Path) -> None:
    source = (
        "import os\n"
        f"written = os.open('{WORK}/written', os.O_WRONLY | os.O_CREAT | os.O_APPEND)\n"
        f"for _ in range({LOTS // CHUNK}):\n"
        f"    left = {CHUNK}\n"
        "    while left: left -= os.write(1, bytes(left))\n"
        "    os.write(written, b'x')\n"
    )
    async with running(driver, python(source, mounts=(shared(folder),))) as session:
        written = CHUNK * await _standstill(folder / "written")
        assert 0 < written < HELD
        came = 0
        while part := await session.stdout.read(MIB):
            came += len(part)
        assert came == LOTS
        assert await session.wait() == 0


async def _take_in(session: Session) -> int:
    """Bytes written until the stream would take no more."""
    taken, chunk = 0, bytes(65_536)
    while taken < LOTS:
        session.stdin.write(chunk)
        taken += len(chunk)
        try:
            async with asyncio.timeout(STALL_S):
                await session.stdin.drain()
        except TimeoutError:
            break
    return taken


async def _standstill(path: Path) -> int:
    """The file's length once it has stopped to grow."""
    length = -1
    while (grown_to := _length(path)) != length or grown_to == 0:
        length = grown_to
        await asyncio.sleep(STALL_S)
    return length


def _length(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
