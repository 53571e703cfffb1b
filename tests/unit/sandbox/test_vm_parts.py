"""What a machine is made of, without starting one: archives, modules, little programs, snapshots in their cache."""

import asyncio
import gc
import mmap
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import drivers  # names the guest's kernel

from sandbox import Limits, Mount, SandboxError, Spec
from sandbox.bubblewrap.session import BubblewrapSession
from sandbox.bubblewrap.view import GUEST, enclosing
from sandbox.spec import MIB
from sandbox.vm import VM, plan
from sandbox.vm.calls import FAILED, NOT_RUN, Calls, cstring
from sandbox.vm.guest import initramfs
from sandbox.vm.initramfs import file, folder, pack
from sandbox.vm.kernel import Kernel, find_kernel
from sandbox.vm.machine import GUEST_BYTES, STEP_BYTES, find_busybox, find_emulator, machine_bytes
from sandbox.vm.relay import RELAY
from sandbox.vm.running import Machine
from sandbox.vm.sealed import copy_sparse, sealed_bytes
from sandbox.vm.snapshot import Snapshot, Snapshots
from sandbox.vm.wires import lay

assert drivers

Execute = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def execute(tmp_path: Path) -> Execute:
    def run(program: bytes, sends: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        path = tmp_path / "program"
        path.write_bytes(program)
        path.chmod(0o755)
        return subprocess.run([path], check=False, input=sends, capture_output=True, timeout=10)

    return run


def test_an_archive_unpacks_to_what_was_packed_and_the_same_twice(tmp_path: Path) -> None:
    entries = [folder("a"), file("a/odd", b"12345", 0o755), file("empty", b"")]
    archive = pack(entries)
    unzipped = subprocess.run(["gzip", "-dc"], input=archive, capture_output=True, check=True).stdout
    subprocess.run(["busybox", "cpio", "-id"], input=unzipped, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "a/odd").read_bytes() == b"12345"
    assert stat.S_IMODE((tmp_path / "a/odd").stat().st_mode) == 0o755
    assert (tmp_path / "empty").read_bytes() == b""
    assert pack(entries) == archive


def module(name: str, *depends: str) -> bytes:
    return b"ELF\0name=" + name.encode() + b"\0depends=" + ",".join(depends).encode() + b"\0"


def kernel(root: Path, modules: dict[str, bytes]) -> Kernel:
    for version in ("6.9.1-1", "6.10.2-1"):
        (root / "lib/modules" / version).mkdir(parents=True)
        (root / "boot").mkdir(exist_ok=True)
        (root / f"boot/vmlinuz-{version}").touch()
    for name, content in modules.items():
        (root / "lib/modules/6.10.2-1" / name).write_bytes(content)
    return find_kernel(root)


WHOLE = {
    "virtio.ko": module("virtio", "virtio_ring"),
    "virtio_ring.ko": module("virtio_ring"),
    "virtio_pci.ko": module("virtio_pci", "virtio"),
    "virtio_console.ko": module("virtio_console", "virtio"),
    "virtio-rng.ko": module("virtio_rng", "virtio"),
    "9pnet.ko": module("9pnet"),
    "9pnet_virtio.ko": module("9pnet_virtio", "9pnet", "virtio"),
    "9p.ko": module("9p", "9pnet"),
}


def test_modules_are_loaded_after_those_that_they_need_and_once(tmp_path: Path) -> None:
    found = kernel(tmp_path, WHOLE)
    order = [name for name, _ in found.load_order()]
    assert found.image.name == "vmlinuz-6.10.2-1"  # the newest by number, not by letter
    assert order == [
        "virtio_ring",
        "virtio",
        "virtio_pci",
        "virtio_console",
        "virtio_rng",
        "9pnet",
        "9pnet_virtio",
        "9p",
    ]


def test_a_kernel_without_9p_is_named_and_one_with_it_built_in_is_taken(tmp_path: Path) -> None:
    found = kernel(tmp_path, {name: content for name, content in WHOLE.items() if name != "9p.ko"})
    with pytest.raises(SandboxError, match=r"6\.10\.2-1 has no module 9p.*linux-image"):
        initramfs(found, b"")
    (found.modules / "modules.builtin").write_text("kernel/fs/9p/9p.ko\n")
    assert "9p" not in [name for name, _ in found.load_order()]


def test_what_is_missing_is_named_with_its_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SandboxError, match=r"no readable kernel.*PRATIQUE_VM_KERNEL"):
        find_kernel(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match=r"qemu-system-x86_64 was not found.*apt install"):
        find_emulator()
    shutil.copy(os.path.realpath("/bin/sh"), tmp_path / "busybox")
    with pytest.raises(SandboxError, match=r"no statically linked busybox.*busybox-static"):
        find_busybox()


def test_a_program_of_calls_becomes_another_with_its_very_arguments(execute: Execute) -> None:
    calls = Calls()
    calls.call("chdir", cstring("/usr"))
    calls.call("umask", 0o077)
    done = execute(calls.become(["sh", "-c", 'pwd; umask; echo "$A"; echo "$0|$1"', "a 'b\"", "$(c)"], ENVIRONMENT))
    assert done.stdout.decode().splitlines() == ["/usr", "0077", "1 2", "a 'b\"|$(c)"]


ENVIRONMENT = {"PATH": "/nowhere:/usr/bin:/bin", "A": "1 2"}


def test_a_call_that_fails_ends_it_and_says_which(execute: Execute) -> None:
    calls = Calls()
    calls.try_call("chdir", cstring("/nowhere"))
    calls.call("chdir", cstring("/nowhere"), failing="no folder")
    failed = execute(calls.end())
    assert (failed.returncode, failed.stderr) == (FAILED, b"sandbox: no folder\n")
    absent = execute(Calls().become(["nothing-such"], ENVIRONMENT))
    assert (absent.returncode, absent.stderr) == (NOT_RUN, b"sandbox: nothing-such cannot be run\n")


def test_an_argument_with_a_nul_is_refused_before_it_is_cut_short() -> None:
    with pytest.raises(ValueError, match="NUL"):
        plan.program(Spec(argv=("/bin/echo", "a\0b")), constant=(), uid=1, seccomp=b"", with_outlet=False)


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=300_000))
def test_a_relay_carries_everything_and_counts_it(content: bytes) -> None:
    descriptor = sealed_bytes(RELAY)
    try:
        path = f"/proc/self/fd/{descriptor}"
        done = subprocess.run(
            [path], check=False, input=content, capture_output=True, pass_fds=[descriptor], timeout=10
        )
    finally:
        os.close(descriptor)
    assert (done.stdout, int.from_bytes(done.stderr, "little"), done.returncode) == (content, len(content), 0)


def test_a_relay_whose_output_is_gone_takes_all_the_rest(tmp_path: Path) -> None:
    relay = tmp_path / "relay"
    relay.write_bytes(RELAY)
    relay.chmod(0o755)
    script = f"trap '' PIPE; (head -c 3000000 /dev/zero; echo all taken >&2) | {relay} 2>/dev/null | head -c 10"
    done = subprocess.run(["/bin/sh", "-c", script], check=False, capture_output=True, timeout=10)
    assert (done.stdout, done.stderr) == (bytes(10), b"all taken\n")


def test_machines_come_in_few_sizes_and_none_is_too_small() -> None:
    for wanted in (1, 96 * MIB, 512 * MIB, 512 * MIB + 1):
        size = machine_bytes(Limits(memory_bytes=wanted))
        assert size % STEP_BYTES == 0
        assert 0 <= size - wanted - GUEST_BYTES < STEP_BYTES


def test_the_guests_view_lies_beneath_one_folder_and_the_emulator_shares_no_network() -> None:
    spec = Spec(argv=("x",), mounts=(Mount(source="/s", target="/srv/data", writable=True),))
    machine = Spec(argv=("qemu",))
    words = enclosing(spec, machine, [], sources=["/stage"], files={"/etc/passwd": 9})
    joined = " ".join(words)
    assert f"--bind /stage {GUEST}/srv/data" in joined
    assert f"--ro-bind-data 9 {GUEST}/etc/passwd" in joined
    assert "--ro-bind /usr /usr" in joined
    assert f"--ro-bind /usr {GUEST}/usr" in joined
    assert "--share-net" not in words


@pytest.mark.promise("vm-snapshot-sealed")
def test_a_sealed_file_is_changed_by_nobody() -> None:
    descriptor = sealed_bytes(b"constant" * 1000)
    try:
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        with pytest.raises(PermissionError):
            mmap.mmap(descriptor, 0, mmap.MAP_SHARED)
        again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)  # as QEMU opens it
        with mmap.mmap(again, 0, mmap.MAP_PRIVATE) as own:
            own[0] = 0
        os.close(again)
        assert os.pread(descriptor, 8, 0) == b"constant"
    finally:
        os.close(descriptor)


def test_a_sparse_copy_is_equal_and_as_small(tmp_path: Path) -> None:
    with (tmp_path / "from").open("w+b") as source, (tmp_path / "to").open("w+b") as target:
        source.seek(10 * MIB)
        source.write(b"island")
        source.truncate(64 * MIB)
        source.flush()
        copy_sparse(source.fileno(), target.fileno())
        assert os.fstat(target.fileno()).st_size == 64 * MIB
        assert os.pread(target.fileno(), 8, 10 * MIB) == b"island\0\0"
        assert os.fstat(target.fileno()).st_blocks * 512 < MIB


def snapshots(place: Path, guest: str = "guest") -> Snapshots:
    return Snapshots(folder=place / "cache", guest=guest)


async def taken() -> Snapshot:
    return Snapshot(memory=sealed_bytes(b"memory"), state=b"state")


async def never() -> Snapshot:
    raise AssertionError("it was there")


async def test_a_snapshot_is_taken_once_however_many_ask_for_it(tmp_path: Path) -> None:
    count = 0

    async def counted() -> Snapshot:
        nonlocal count
        count += 1
        await asyncio.sleep(0)
        return await taken()

    one, other = snapshots(tmp_path), snapshots(tmp_path)  # as in two processes
    found = await asyncio.gather(one.get("k", counted), other.get("k", counted), one.get("k", counted))
    assert count == 1
    assert {os.pread(snapshot.memory, 10, 0) for snapshot in found} == {b"memory"}
    assert {snapshot.state for snapshot in found} == {b"state"}


async def test_a_driver_that_nobody_holds_keeps_no_files_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    vm = VM.find(tmp_path)
    await vm.machines.snapshots.get("k", taken)
    assert len(os.listdir("/proc/self/fd")) == before + 3
    del vm
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_one_of_another_guest_is_swept_away_and_the_folder_is_private(tmp_path: Path) -> None:
    await snapshots(tmp_path, "old").get("k", taken)
    await snapshots(tmp_path, "new").get("k", taken)
    names = sorted(path.name for path in (tmp_path / "cache").iterdir())
    assert names == ["lock", "new-k"]
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


async def test_a_forgotten_one_is_taken_anew(tmp_path: Path) -> None:
    kept = snapshots(tmp_path)
    await kept.get("k", taken)
    kept.forget("k")
    with pytest.raises(AssertionError, match="it was there"):
        await kept.get("k", never)


async def test_a_cache_that_cannot_be_written_costs_no_snapshot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = snapshots(tmp_path)
    await kept.get("other", taken)

    async def on_a_full_disk() -> Snapshot:
        shutil.rmtree(kept.folder)  # a stand-in for a disk that takes no more
        kept.folder.touch()
        return await taken()

    found = await kept.get("k", on_a_full_disk)
    assert found.state == b"state"
    assert await kept.get("k", never) is found
    assert "a snapshot could not be kept" in caplog.text


async def test_a_snapshot_that_was_cut_short_or_is_gone_is_taken_anew(tmp_path: Path) -> None:
    await snapshots(tmp_path).get("k", taken)
    (tmp_path / "cache/guest-k/state").unlink()
    found = await snapshots(tmp_path).get("k", taken)
    assert found.state == b"state"


class DeafEmulator:
    """One whose guest never answers."""

    def __init__(self) -> None:
        self.stderr = asyncio.StreamReader()
        self.stderr.feed_data(b"qemu: no such device\n")
        self.stderr.feed_eof()
        self.ended = asyncio.Event()

    def kill(self) -> None:
        self.ended.set()

    async def wait(self) -> int:
        await self.ended.wait()
        return 137


async def test_a_guest_that_never_answers_meets_a_deadline_and_one_that_ends_is_quoted() -> None:
    emulator = DeafEmulator()
    machine = Machine(emulator=cast(BubblewrapSession, emulator), wires=await lay(), state=None)
    with pytest.raises(SandboxError, match="did not answer in 0 seconds"):
        await machine.say(b"ping\n", expecting=b"pong\n", within_s=0.01)
    with pytest.raises(SandboxError, match="does not wake: qemu: no such device"):
        await machine.wake(0.01)
    machine.wires.hand_over()  # the other ends close, as when QEMU dies
    with pytest.raises(SandboxError, match="the guest ended"):
        await machine.say(b"ping\n", expecting=b"pong\n", within_s=10)
    await machine.abandon()
