"""What is bubblewrap's alone of a session: mapped owners, its control group, its first processes.

What it shares with every other driver is in `tests/conformance/`.
"""

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

from sandbox import Bubblewrap, Mount, Spec, runtime_mounts


def python(source: str, *mounts: Mount) -> Spec:
    argv = (sys.executable, "-I", "-S", "-c", source)
    return Spec(argv=argv, mounts=(*runtime_mounts(argv), *mounts))


async def test_a_sandbox_writes_to_a_folder_of_root_and_root_owns_what_it_wrote(run, tmp_path: Path) -> None:
    folder = Mount(source=str(tmp_path), target=str(tmp_path), writable=True)
    source = f"import sqlite3; c = sqlite3.connect('{tmp_path}/x.db'); c.execute('create table t(a)'); c.commit()"
    assert await run(python(source, folder)) == (0, "", "")
    made, folder_itself = os.stat(f"{tmp_path}/x.db"), os.stat(tmp_path)
    assert (made.st_uid, made.st_gid) == (folder_itself.st_uid, folder_itself.st_gid)


async def test_a_private_folder_of_root_that_is_mounted_is_read(run, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    (tmp_path / "note").chmod(0o600)
    os.chmod(tmp_path, 0o700)
    folder = Mount(source=str(tmp_path), target="/given")
    assert await run(python("print(open('/given/note').read())", folder)) == (0, "mine\n", "")


async def test_three_processes_and_a_control_group_are_all_it_takes(driver: Bubblewrap) -> None:
    mark = f"pq-{os.getpid()}"
    session = await driver.start(Spec(argv=("/bin/sh", "-c", "echo up; read line", mark)))
    assert await session.stdout.readline() == b"up\n"
    assert len(commands(f"\0{mark}")) == 3  # bubblewrap, the first process inside, the program
    assert driver.groups is None or len(groups(driver)) == 1
    session.kill()
    assert await session.wait() == 128 + signal.SIGKILL
    assert commands(f"\0{mark}") == []
    assert groups(driver) == []


async def test_a_start_that_is_cancelled_at_any_step_leaves_nothing(driver: Bubblewrap) -> None:
    for steps in range(1, 40, 3):
        starting = asyncio.create_task(driver.start(Spec(argv=("/bin/sh", "-c", "exec sleep 4341"))))
        for _ in range(steps):
            await asyncio.sleep(0)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            session = await starting
            session.kill()
            await session.wait()
    assert commands("sleep\x004341") == []
    assert groups(driver) == []


def commands(part: str) -> list[int]:
    """Processes of the host whose command line ends so."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (place / "cmdline").read_text().endswith(f"{part}\0"):
                found.append(int(place.name))
    return found


def groups(driver: Bubblewrap) -> list[Path]:
    return sorted(driver.groups.parent.glob(f"pratique-{os.getpid()}-*")) if driver.groups else []
