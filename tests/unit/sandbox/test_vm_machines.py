"""Programs in virtual machines of their own: what only this driver can get wrong. One snapshot serves them all."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop
from support import drivers  # names the guest's kernel

from sandbox import Limits, Mount, SandboxError, Spec, runtime_mounts
from sandbox.bubblewrap import hand_over
from sandbox.driver import GUARANTEES, KERNEL
from sandbox.spec import MIB, Image
from sandbox.vm import VM
from sandbox.vm.machine import find_busybox
from sandbox.vm.session import VMSession

assert drivers

Run = Callable[..., Awaitable[tuple[int, bytes, bytes]]]

PYTHON = (sys.executable, "-I", "-S", "-c")
SMALL = Limits(memory_bytes=96 * MIB)


@pytest.fixture(scope="module")
def vm(tmp_path_factory: pytest.TempPathFactory) -> VM:
    return VM.find(tmp_path_factory.mktemp("snapshots"))


@pytest.fixture
def run(vm: VM) -> Run:
    async def to_its_end(*argv: str, sends: bytes = b"", mounts: tuple[Mount, ...] = ()) -> tuple[int, bytes, bytes]:
        mounts = (*mounts, *(runtime_mounts(argv) if argv[0] == sys.executable else ()))
        session = await vm.start(Spec(argv=argv, mounts=mounts, limits=SMALL))
        session.stdin.write(sends)
        session.stdin.close()
        out, err = await asyncio.gather(session.stdout.read(), session.stderr.read())
        return await session.wait(), out, err

    return to_its_end


async def cat(vm: VM) -> VMSession:
    return await vm.start(Spec(argv=("/bin/cat",), limits=SMALL))


@pytest.mark.parametrize(
    ("source", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143), ("exec /nowhere", 127)]
)
async def test_the_programs_status_comes_out_of_the_machine(run: Run, source: str, status: int) -> None:
    assert (await run("/bin/sh", "-c", source))[0] == status


async def test_all_bytes_come_back_whoever_reads_late(run: Run) -> None:
    sent = os.urandom(3_000_000)
    assert await run("/bin/cat", sends=sent) == (0, sent, b"")


async def test_what_a_program_leaves_behind_ends_with_it_and_what_it_wrote_arrives(run: Run) -> None:
    status, out, err = await run("/bin/sh", "-c", "sleep 1000 & head -c 300000 /dev/zero; echo oops >&2; exit 3")
    assert (status, len(out), err) == (3, 300_000, b"oops\n")


async def test_it_runs_as_nobody_with_nothing_but_its_own_environment(run: Run) -> None:
    source = (
        "import os, json\n"
        "s = dict(l.split(':\\t') for l in open('/proc/self/status').read().splitlines() if ':\\t' in l)\n"
        "print(json.dumps([s['CapEff'], s['CapBnd'], s['NoNewPrivs'], s['Seccomp'], os.getuid(), os.getgroups(),\n"
        "  sorted(os.environ), os.listdir('/proc/self/fd'), [p for p in os.listdir('/proc') if p.isdigit()],\n"
        "  os.getcwd(), sorted(os.listdir('/'))]))"
    )
    status, out, err = await run(*PYTHON, source)
    assert (status, err) == (0, b"")
    caps, bound, alone, filtered, uid, groups, names, descriptors, processes, cwd, root = json.loads(out)
    assert (caps, bound, alone, filtered, uid, groups) == ("0" * 16, "0" * 16, "1", "2", vm_uid(), [])
    assert names == ["HOME", "LANG", "PATH", "TMPDIR"]
    assert (len(descriptors), len(processes), cwd) == (4, 1, "/tmp")  # the fourth lists them
    assert {"usr", "proc", "dev", "tmp", "etc"} <= set(root)
    assert "sys" not in root


def vm_uid() -> int:
    return 65534 if os.geteuid() == 0 else os.geteuid()


async def test_mounts_are_seen_beneath_tmp_too_and_only_writable_ones_are_written(run: Run, tmp_path: Path) -> None:
    work, read = tmp_path / "work", tmp_path / "read"
    for folder in (work, read):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    hand_over(work)
    mounts = (
        Mount(source=str(work), target="/srv/work", writable=True),
        Mount(source=str(read), target="/tmp/deep/read"),
        Mount(source=str(read / "file"), target="/tmp/single"),
    )
    source = (
        "cat /srv/work/file /tmp/deep/read/file /tmp/single; echo new >/srv/work/new; echo x >/tmp/own;"
        " mv /srv/work/file /srv/work/moved; echo x >/tmp/deep/read/new; echo x >/srv/new; echo x >/usr/new"
    )
    _, out, err = await run("/bin/sh", "-c", source, mounts=mounts)
    assert out == b"workreadread"
    assert err.count(b"Read-only file system") == 3
    assert {path.name: path.read_text() for path in work.iterdir()} == {"new": "new\n", "moved": "work"}
    assert (work / "new").stat().st_uid == vm_uid()
    assert [path.name for path in read.iterdir()] == ["file"]


async def test_an_image_is_the_whole_root_and_its_programs_are_found_by_name(vm: VM, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("bin", "srv", "etc"):
        (root / folder).mkdir(parents=True)
    shutil.copy(find_busybox(), root / "bin/sh")
    (tmp_path / "note").write_text("noted\n")
    image = Image(digest=f"sha256:{'0' * 64}", archive="", root=str(root))
    mounts = (Mount(source=str(tmp_path / "note"), target="/srv/deep/note"),)
    source = "busybox ls /; read -r x </srv/deep/note; echo $x; busybox ls /usr"
    (root / "bin/busybox").symlink_to("/bin/sh")
    session = await vm.start(Spec(argv=("sh", "-c", source), image=image, mounts=mounts, limits=SMALL))
    session.stdin.close()
    out, err = await asyncio.gather(session.stdout.read(), session.stderr.read())
    assert out.decode().split() == ["bin", "dev", "etc", "proc", "srv", "tmp", "noted"]
    assert b"/usr: No such file" in err
    assert await session.wait() == 1


async def test_a_change_on_the_host_is_seen_by_a_running_program(vm: VM, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before\n")
    mounts = (Mount(source=str(tmp_path), target="/srv"),)
    source = 'while read -r go; do read -r line </srv/file; echo "$line"; done'
    session = await vm.start(Spec(argv=("/bin/sh", "-c", source), mounts=mounts, limits=SMALL))
    session.stdin.write(b"go\n")
    assert await session.stdout.readline() == b"before\n"
    file.write_text("behind it\n")
    session.stdin.write(b"go\n")
    assert await session.stdout.readline() == b"behind it\n"
    session.kill()
    assert await session.wait() == 137


@pytest.mark.promise("vm-fresh-randomness")
async def test_two_machines_woken_from_one_snapshot_draw_other_random_numbers(run: Run) -> None:
    source = (
        "import os, uuid, time; print(os.urandom(16).hex(), uuid.uuid4(), open('/proc/sys/kernel/random/uuid').read())"
    )
    words = [(await run(*PYTHON, source))[1].split() for _ in range(2)]
    assert len({word for line in words for word in line}) == 6


async def test_a_machine_that_wakes_knows_what_time_it_is(run: Run) -> None:
    _, out, _ = await run(*PYTHON, "import time; print(time.time())")
    _, now, _ = await asyncio.to_thread(lambda: (0, float(subprocess.check_output(["date", "+%s.%N"])), 0))
    assert abs(now - float(out)) < 5


@pytest.mark.promise("vm-limits-inside")
async def test_memory_and_processes_end_at_the_limit_and_not_at_the_machines_size(vm: VM) -> None:
    capabilities = await vm.probe()
    assert capabilities.verified == frozenset(GUARANTEES), capabilities.why_not


@pytest.mark.promise("vm-emulation-is-no-boundary")
async def test_a_broken_kvm_is_found_out_by_booting_and_emulation_is_never_called_a_kernel_boundary(vm: VM) -> None:
    session = await cat(vm)
    session.kill()
    await session.wait()
    if vm.machines.accelerator == "tcg":
        assert "security boundary" in (await vm.probe()).why_not[KERNEL]
    else:
        assert KERNEL in (await vm.probe()).verified


async def test_a_machine_that_dies_gives_a_status_and_a_reason(vm: VM) -> None:
    session, other = await cat(vm), await cat(vm)
    session.emulator.kill()
    assert await session.wait() == 137
    assert b"the machine ended by itself" in await session.stderr.read()
    assert await session.stdout.read() == b""
    other.stdin.write(b"still here\n")
    assert await other.stdout.readline() == b"still here\n"
    other.kill()
    await other.wait()


@pytest.mark.promise("vm-emulator-confined")
async def test_the_emulator_itself_is_nobody_behind_a_filter_and_sees_no_host(vm: VM) -> None:
    session = await cat(vm)
    qemu, status, seen = looked_at(session.pid)
    unshared = [
        kind
        for kind in ("mnt", "net", "pid", "ipc", "user")
        if os.readlink(f"/proc/{qemu}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
    ]
    assert status["Uid"].split()[0] == str(vm_uid())
    assert (status["CapEff"], status["NoNewPrivs"], status["Seccomp"]) == ("0" * 16, "1", "2")
    assert len(unshared) == 5
    assert "guest" in seen
    assert "home" not in seen
    session.kill()
    await session.wait()


@pytest.mark.promise("vm-snapshot-sealed")
async def test_no_machine_can_change_what_the_next_one_wakes_from(vm: VM) -> None:
    session = await cat(vm)
    (snapshot,) = vm.machines.snapshots.loaded()
    with pytest.raises(PermissionError):
        os.pwrite(snapshot.memory, b"x", 0)
    folder = vm.machines.snapshots.folder
    assert folder.stat().st_mode & 0o077 == 0
    session.kill()
    await session.wait()


async def test_programs_that_lose_their_own_pages_over_and_over_are_ended(vm: VM) -> None:
    argv = (*PYTHON, "held = []\nwhile True: held.append(b'x' * 65536)")
    session = await vm.start(Spec(argv=argv, mounts=runtime_mounts(argv), limits=Limits(memory_bytes=64 * MIB)))
    async with asyncio.timeout(60):
        assert await session.wait() == 137


async def test_a_network_of_the_hosts_is_refused(vm: VM) -> None:
    with pytest.raises(SandboxError, match="network"):
        await vm.start(Spec(argv=("/bin/cat",), network="host"))


async def test_a_spoilt_snapshot_is_removed_and_the_machine_boots(vm: VM, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    (await cat(vm)).kill()
    shutil.copytree(vm.machines.snapshots.folder, cache)
    (state,) = cache.glob("*/state")
    state.write_bytes(state.read_bytes()[:1000])
    session = await cat(VM.find(cache))
    assert list(cache.glob("*/state")) == []
    session.stdin.write(b"booted\n")
    assert await session.stdout.readline() == b"booted\n"
    session.kill()
    await session.wait()


def test_it_runs_on_the_gateways_own_event_loop_too(vm: VM) -> None:
    async def echo() -> tuple[bytes, int]:
        session = await cat(vm)
        session.stdin.write(b"hello\n")
        line = await session.stdout.readline()
        session.stdin.close()
        return line, await session.wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(echo()) == (b"hello\n", 0)


async def test_nothing_of_ended_and_cancelled_machines_is_left(vm: VM) -> None:
    session = await cat(vm)
    session.kill()
    await session.wait()
    before = footprint()
    for number in range(4):
        session = await cat(vm)
        session.kill() if number % 2 else session.stdin.close()
        await session.wait()
    for steps in (1, 10, 30, 60, 100):
        starting = asyncio.create_task(cat(vm))
        for _ in range(steps):
            await asyncio.sleep(0)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            session = await starting
            session.kill()
            await session.wait()
    assert footprint() == before


async def test_a_gateway_that_is_killed_takes_its_machines_along(vm: VM) -> None:
    source = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom sandbox import *\nfrom sandbox.vm import VM\n"
        "async def main():\n"
        "    vm = VM.find(Path(sys.argv[1]))\n"
        f"    s = await vm.start(Spec(argv=('/bin/cat',), limits=Limits(memory_bytes={SMALL.memory_bytes})))\n"
        "    print(s.pid, flush=True)\n"
        "    await s.wait()\n"
        "asyncio.run(main())\n"
    )
    cache = str(vm.machines.snapshots.folder)
    gateway = await asyncio.create_subprocess_exec(sys.executable, "-c", source, cache, stdout=subprocess.PIPE)
    assert gateway.stdout is not None
    try:
        started = int(await gateway.stdout.readline())
        pidfds = [os.pidfd_open(pid) for pid in family(started)]
    finally:
        gateway.send_signal(signal.SIGKILL)
        await gateway.wait()
    assert len(pidfds) >= 3  # bubblewrap, the first process inside, QEMU
    loop = asyncio.get_running_loop()
    for pidfd in pidfds:
        gone = asyncio.Event()
        loop.add_reader(pidfd, gone.set)
        await asyncio.wait_for(gone.wait(), 10)
        loop.remove_reader(pidfd)
        os.close(pidfd)


def looked_at(pid: int) -> tuple[int, dict[str, str], list[str]]:
    """QEMU among the family of a process: itself, its status, and what lies in its root."""
    (qemu,) = [one for one in family(pid) if "qemu" in Path(f"/proc/{one}/comm").read_text()]
    lines = Path(f"/proc/{qemu}/status").read_text().splitlines()
    return qemu, dict(line.split(":\t") for line in lines if ":\t" in line), os.listdir(f"/proc/{qemu}/root")


def family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(one for child in children for one in family(int(child)))]


def footprint() -> tuple[object, ...]:
    children = {pid for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()}
    return len(os.listdir("/proc/self/fd")), children
