"""A session is three streams and an end, and after the end there is nothing."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from sandbox import Bubblewrap, Mount, SandboxError, Spec, runtime_mounts

WAIT = "sh -c 'echo up; kill -STOP $$'"
"""Says that it is up, and stays; what follows it is its mark."""
MARK = f"pq-{os.getpid()}"

CAT = Spec(argv=("/bin/cat",))


def python(source: str, *mounts: Mount) -> Spec:
    argv = (sys.executable, "-I", "-S", "-c", source)
    return Spec(argv=argv, mounts=(*runtime_mounts(argv), *mounts))


def shell(source: str) -> Spec:
    return Spec(argv=("/bin/sh", "-c", source))


async def test_ten_megabytes_come_back_as_they_went(driver: Bubblewrap) -> None:
    session, sent = await driver.start(CAT), os.urandom(10_000_000)

    async def send() -> None:
        session.stdin.write(sent)
        await session.stdin.drain()
        session.stdin.close()

    _, came = await asyncio.gather(send(), session.stdout.read())
    assert came == sent
    assert await session.wait() == 0


async def test_a_closed_stdin_is_an_end_of_file_and_the_answer_still_comes(run) -> None:
    assert await run(shell("cat >/dev/null; echo done")) == (0, "done\n", "")


def test_it_runs_on_the_gateways_own_event_loop_too(driver: Bubblewrap) -> None:
    async def echo() -> bytes:
        session = await driver.start(CAT)
        session.stdin.write(b"hello\n")
        line = await session.stdout.readline()
        session.stdin.close()
        assert await session.wait() == 0
        return line

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(echo()) == b"hello\n"


async def test_the_exit_status_is_the_programs(run) -> None:
    assert (await run(shell("exit 7")))[0] == 7
    assert (await run(shell("kill -TERM $$")))[0] == 128 + signal.SIGTERM


async def test_stderr_is_a_stream_of_its_own(run) -> None:
    assert await run(shell("echo out; echo err >&2")) == (0, "out\n", "err\n")


async def test_a_program_that_does_not_exist_is_named(driver: Bubblewrap) -> None:
    with pytest.raises(SandboxError, match="no-such-program") as refused:
        await driver.start(Spec(argv=("no-such-program",)))
    assert refused.value.part == "program"


async def test_a_server_of_this_environment_runs_from_a_home_that_nobody_may_enter(run) -> None:
    argv = (sys.executable, "-P", "-c", "import msgspec; print(msgspec.json.decode(b'[1]'))")
    assert await run(Spec(argv=argv, mounts=runtime_mounts(argv))) == (0, "[1]\n", "")


async def test_node_runs_with_limits_on(run) -> None:
    argv = ("node", "-e", "console.log([1,2,3].map(x => x * 2).join())")
    assert await run(Spec(argv=argv, mounts=runtime_mounts(argv))) == (0, "2,4,6\n", "")


async def test_a_sandbox_writes_where_it_may_and_the_folders_owner_owns_it(run, tmp_path: Path) -> None:
    folder = Mount(source=str(tmp_path), target=str(tmp_path), writable=True)
    source = f"import sqlite3; c = sqlite3.connect('{tmp_path}/x.db'); c.execute('create table t(a)'); c.commit()"
    assert await run(python(source, folder)) == (0, "", "")
    made, folder_itself = os.stat(f"{tmp_path}/x.db"), os.stat(tmp_path)
    assert (made.st_uid, made.st_gid) == (folder_itself.st_uid, folder_itself.st_gid)


async def test_a_private_folder_that_is_mounted_is_read(run, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    (tmp_path / "note").chmod(0o600)
    os.chmod(tmp_path, 0o700)
    folder = Mount(source=str(tmp_path), target="/given")
    assert await run(python("print(open('/given/note').read())", folder)) == (0, "mine\n", "")


async def test_killing_one_ends_all_its_processes_and_no_others(driver: Bubblewrap) -> None:
    session, other = await asyncio.gather(
        driver.start(shell(f"setsid {WAIT} {MARK}-one & ({WAIT} {MARK}-one &) ; exec {WAIT} {MARK}-one")),
        driver.start(CAT),
    )
    for _ in range(3):
        assert await session.stdout.readline() == b"up\n"
    assert len(commands(f"\0{MARK}-one")) == 3

    session.kill()
    assert await session.wait() == 128 + signal.SIGKILL
    assert commands(f"\0{MARK}-one") == []
    other.stdin.write(b"alive\n")
    assert await other.stdout.readline() == b"alive\n"
    other.kill()
    session.kill()  # harmless, again
    await other.wait()


async def test_what_a_program_leaves_behind_ends_with_it(run) -> None:
    status, out, _ = await run(shell("setsid sleep 4331 >/dev/null 2>&1 </dev/null & echo up"))
    assert (status, out) == (0, "up\n")
    assert commands("sleep\x004331") == []


async def test_fifty_starts_leave_nothing(driver: Bubblewrap) -> None:
    (await driver.start(CAT)).kill()
    before: tuple[object, ...] = ()
    for number in range(50):
        session = await driver.start(CAT)
        session.stdin.write(b"x")
        assert await session.stdout.read(1) == b"x"
        session.kill() if number % 2 else session.stdin.close()
        await session.wait()
        session.stdin.close()
        with contextlib.suppress(ConnectionError):
            await session.stdin.wait_closed()
        if number == 4:
            before = footprint(driver)
    assert footprint(driver) == before


async def test_a_start_that_is_cancelled_leaves_nothing(driver: Bubblewrap) -> None:
    for steps in range(1, 40, 3):
        starting = asyncio.create_task(driver.start(shell("exec sleep 4341")))
        for _ in range(steps):
            await asyncio.sleep(0)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            session = await starting
            session.kill()
            await session.wait()
    assert commands("sleep\x004341") == []
    assert driver.groups is None or list(driver.groups.parent.glob(f"pratique-{os.getpid()}-*")) == []


async def test_a_gateway_that_is_killed_takes_its_sandboxes_along() -> None:
    source = (
        "import asyncio\nfrom sandbox import *\n"
        "async def main():\n"
        f"    s = await Bubblewrap.find().start(Spec(argv=('/bin/sh', '-c', 'echo up; read x', '{MARK}-three')))\n"
        "    print((await s.stdout.readline()).decode(), flush=True)\n"
        "    await s.wait()\n"
        "asyncio.run(main())\n"
    )
    gateway = await asyncio.create_subprocess_exec(sys.executable, "-c", source, stdout=subprocess.PIPE)
    assert gateway.stdout is not None
    try:
        assert await gateway.stdout.readline() == b"up\n"
        sandboxed = [os.pidfd_open(pid) for pid in commands(f"\0{MARK}-three")]
    finally:
        gateway.kill()
        await gateway.wait()
    assert len(sandboxed) == 3  # bubblewrap, the first process inside, the program

    loop = asyncio.get_running_loop()
    for pidfd in sandboxed:
        gone = asyncio.Event()
        loop.add_reader(pidfd, gone.set)
        await asyncio.wait_for(gone.wait(), 10)
        loop.remove_reader(pidfd)
        os.close(pidfd)
    assert commands(f"\0{MARK}-three") == []


def commands(part: str) -> list[int]:
    """Processes of the host whose command line ends so."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "cmdline").read_text().endswith(f"{part}\0"):
                found.append(int(place.name))
    return found


def footprint(driver: Bubblewrap) -> tuple[object, ...]:
    """What a leak would change: descriptors, children, mounts, control groups, folders."""
    children = {pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()}
    groups = sorted(driver.groups.parent.glob(f"pratique-{os.getpid()}-*")) if driver.groups else []
    descriptors = len(os.listdir("/proc/self/fd"))
    return (
        descriptors,
        children,
        Path("/proc/self/mountinfo").read_text(),
        groups,
        sorted(Path("/tmp").glob("pratique-*")),
    )
