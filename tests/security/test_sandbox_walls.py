"""What a program in a sandbox cannot do: tried from inside, judged from outside, possible where a wall is left out."""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sandbox import Bubblewrap, Limits, Mount, SandboxError, Spec, runtime_mounts
from sandbox.bubblewrap.driver import SHARED
from sandbox.bubblewrap.mends import mend_for
from sandbox.driver import FILESYSTEM, GUARANTEES, KERNEL, NETWORK, RESOURCES, SYSCALLS
from sandbox.probe import verify
from sandbox.seccomp import assemble, load_rules

MIB = 1 << 20

Run = Callable[..., Awaitable[tuple[int, str]]]


@pytest.fixture(scope="module")
def grouped() -> bool:
    """Whether control groups may be used, where this machine has them."""
    return True


@pytest.fixture(scope="module")
def driver(grouped: bool) -> Bubblewrap:
    return Bubblewrap.find(grouped=grouped)


both_ways = pytest.mark.parametrize("grouped", [True, False], ids=["grouped", "watched"], scope="module")


@pytest.fixture
def run(driver: Bubblewrap) -> Run:
    async def to_its_end(source: str, **spec: object) -> tuple[int, str]:
        argv = (sys.executable, "-I", "-S", "-c", source)
        mounts = (*runtime_mounts(argv), *spec.pop("mounts", ()))  # type: ignore[misc]
        session = await driver.start(Spec(argv=argv, mounts=mounts, **spec))  # type: ignore[arg-type]
        session.stdin.close()
        out, err = await asyncio.gather(session.stdout.read(), session.stderr.read())
        return await session.wait(), (out + err).decode()

    return to_its_end


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that permissions would let anyone read and write."""
    path = tmp_path / "canary"
    path.write_text("untouched")
    path.chmod(0o666)
    tmp_path.chmod(0o777)
    return path


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.mark.promise("sandbox-files")
async def test_a_file_of_the_host_is_neither_read_nor_written(run: Run, canary: Path) -> None:
    status, said = await run(f"open({str(canary)!r}).read()")
    assert status != 0
    assert "FileNotFoundError" in said
    await run(f"import os; os.makedirs({str(canary.parent)!r}); open({str(canary)!r}, 'w').write('touched')")
    assert contents(canary) == "untouched"


async def test_what_is_mounted_is_read(run: Run, canary: Path) -> None:
    given = Mount(source=str(canary), target="/given")
    assert await run("print(open('/given').read())", mounts=(given,)) == (0, "untouched\n")


@pytest.mark.promise("sandbox-files")
async def test_a_read_only_mount_is_not_written(run: Run, canary: Path) -> None:
    status, said = await run("open('/given/canary', 'w')", mounts=(Mount(source=str(canary.parent), target="/given"),))
    assert status != 0
    assert "Read-only file system" in said
    assert contents(canary) == "untouched"


@pytest.mark.promise("sandbox-files")
@pytest.mark.parametrize("path", ["/new", "/usr/new", "/etc/passwd", "/dev/new", "/proc/sys/kernel/core_pattern"])
async def test_the_system_is_not_written(run: Run, path: str) -> None:
    status, said = await run(f"open({path!r}, 'w')")
    assert status != 0
    assert "Read-only file system" in said or "Permission denied" in said


@pytest.mark.promise("sandbox-mounts")
async def test_a_mount_within_a_writable_one_is_refused(driver: Bubblewrap, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    mounts = (
        Mount(source=str(tmp_path), target="/outer", writable=True),
        Mount(source=str(inner), target="/inner"),
    )
    with pytest.raises(SandboxError, match="could put a link there"):
        await driver.start(Spec(argv=("/bin/true",), mounts=mounts))


@pytest.mark.promise("sandbox-environment")
async def test_nothing_of_the_gateways_environment_is_seen(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SECRET", "s3cret")
    source = (
        "import glob, json, os\n"
        "paths = glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline')\n"
        "seen = {path: open(path).read() for path in paths}\n"
        "print(json.dumps([seen, dict(os.environ)]))"
    )
    status, said = await run(source, env={"GIVEN": "g1ven"})
    seen, own = json.loads(said)
    assert status == 0
    assert "s3cret" not in said
    assert own == {
        "GIVEN": "g1ven",
        "PATH": own["PATH"],
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        "PWD": "/tmp",
    }
    assert seen["/proc/1/environ"] == "PATH=/usr/bin:/bin\0"
    assert not any("g1ven" in text for path, text in seen.items() if path.endswith("cmdline"))


@pytest.mark.promise("sandbox-root")
async def test_a_program_holds_no_right_and_gets_none(run: Run) -> None:
    status, said = await run("print(open('/proc/self/status').read())")
    state = dict(line.split(":\t", 1) for line in said.splitlines() if ":\t" in line)
    assert status == 0
    assert {state[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert state["NoNewPrivs"] == "1"
    assert state["Seccomp"] == "2"
    assert "0" not in state["Uid"].split()
    assert "0" not in state["Groups"].split()


@pytest.mark.promise("sandbox-root")
async def test_the_host_sees_an_unprivileged_user_too(driver: Bubblewrap) -> None:
    session = await driver.start(Spec(argv=("/bin/cat",)))
    state = contents(Path(f"/proc/{session.pid}/status"))
    session.kill()
    await session.wait()
    uids = next(line for line in state.splitlines() if line.startswith("Uid:")).split()[1:]
    assert "0" not in uids


@pytest.mark.promise("sandbox-network")
async def test_a_listener_of_the_host_is_not_reached(run: Run, listener: socket.socket) -> None:
    status, said = await run(connects(listener))
    assert status != 0
    assert "refused" in said
    with pytest.raises(BlockingIOError):
        listener.accept()


async def test_it_is_reached_when_the_hosts_network_is_asked_for(run: Run, listener: socket.socket) -> None:
    assert await run(connects(listener), network="host") == (0, "")
    listener.accept()[0].close()


@pytest.mark.promise("sandbox-unix")
async def test_a_socket_file_in_a_mount_is_not_reached(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o666)
        os.chmod(tmp_path, 0o755)
        listening.listen()
        listening.setblocking(False)
        reach = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
        status, said = await run(reach, mounts=(Mount(source=str(tmp_path), target=str(tmp_path)),))
        assert status != 0
        assert "Address family not supported" in said
        with pytest.raises(BlockingIOError):
            listening.accept()


@pytest.mark.promise("sandbox-network")
async def test_there_is_no_interface_but_loopback(run: Run) -> None:
    status, said = await run("print(open('/proc/net/dev').read())")
    assert status == 0
    assert [line.split(":")[0].strip() for line in said.splitlines() if ":" in line] == ["lo"]


@pytest.mark.promise("sandbox-pids")
async def test_a_fork_bomb_ends_at_its_limit(run: Run) -> None:
    bomb = (
        "import os, signal\n"
        "n = 0\n"
        "while n < 200:\n"
        "    try: child = os.fork()\n"
        "    except BlockingIOError: break\n"
        "    if child == 0: signal.pause()\n"
        "    n += 1\n"
        "print(n)"
    )
    few, many = await asyncio.gather(run(bomb, limits=Limits(pids=16)), run(bomb, limits=Limits(pids=256)))
    assert int(few[1]) < 16
    assert many == (0, "200\n")


@both_ways
@pytest.mark.promise("sandbox-memory")
async def test_one_process_cannot_have_more_memory_than_its_limit(run: Run) -> None:
    takes = "held = bytearray(200 << 20)\nfor page in range(0, len(held), 4096): held[page] = 1\nprint('had it')"
    little, enough = Limits(memory_bytes=64 * MIB), Limits(memory_bytes=400 * MIB)
    status, said = await run(takes, limits=little)
    assert status != 0
    assert "had it" not in said
    assert await run(takes, limits=enough) == (0, "had it\n")


@both_ways
@pytest.mark.promise("sandbox-memory")
@pytest.mark.parametrize("kind", ["bytearray(64 << 20)", "mmap.mmap(-1, 64 << 20)"])
async def test_several_processes_cannot_together(run: Run, kind: str) -> None:
    takes = (
        "import mmap, os, signal, time\n"
        "for _ in range(4):\n"
        "    ready, say = os.pipe()\n"
        "    if os.fork() == 0:\n"
        f"        held = {kind}\n"
        "        for page in range(0, 64 << 20, 4096): held[page] = 1\n"
        "        os.write(say, b'x'); signal.pause()\n"
        "    os.close(say); os.read(ready, 1)\n"
        "time.sleep(0.3)\n"
        "print(sum(os.waitpid(-1, os.WNOHANG)[0] == 0 for _ in range(4)))"
    )
    status, said = await run(takes, limits=Limits(memory_bytes=128 * MIB))
    assert status != 0 or int(said) < 3
    assert await run(takes, limits=Limits(memory_bytes=512 * MIB)) == (0, "4\n")


@pytest.mark.promise("sandbox-tmp")
@pytest.mark.parametrize("folder", ["/tmp", "/dev/shm"])
async def test_tmp_is_full_at_its_limit(run: Run, folder: str) -> None:
    fill = f"open('{folder}/x', 'wb').write(bytes(20 << 20))"
    assert "No space left" in (await run(fill, limits=Limits(tmp_bytes=1 * MIB)))[1]
    assert folder == "/dev/shm" or await run(fill, limits=Limits(tmp_bytes=30 * MIB)) == (0, "")


@pytest.mark.promise("sandbox-files-size")
async def test_a_file_ends_at_its_limit(run: Run, tmp_path: Path) -> None:
    given = (Mount(source=str(tmp_path), target="/given", writable=True),)
    status, _ = await run("open('/given/x', 'wb').write(bytes(2 << 20))", mounts=given, limits=Limits(file_bytes=MIB))
    assert status != 0
    assert (tmp_path / "x").stat().st_size <= MIB


@pytest.mark.promise("sandbox-cpu")
async def test_a_loop_ends_at_its_processor_seconds(run: Run) -> None:
    status, _ = await run("while True: pass", limits=Limits(cpu_s=1))
    assert status == 128 + 9


@pytest.mark.promise("sandbox-setuid")
async def test_no_setuid_file_is_left_in_a_writable_mount(run: Run, tmp_path: Path) -> None:
    given = (Mount(source=str(tmp_path), target="/given", writable=True),)
    tries = (
        "import os\n"
        "open('/given/x', 'w').close()\n"
        "os.chmod('/given/x', 0o755)\n"
        "for attempt in (lambda: os.chmod('/given/x', 0o4755), lambda: os.open('/given/y', os.O_CREAT, 0o6755)):\n"
        "    try: attempt()\n"
        "    except PermissionError: print('refused')\n"
    )
    assert await run(tries, mounts=given) == (0, "refused\nrefused\n")
    assert {name: os.stat(tmp_path / name).st_mode & 0o6777 for name in os.listdir(tmp_path)} == {"x": 0o755}


@both_ways
@pytest.mark.promise("sandbox-truth")
async def test_the_probe_verifies_what_holds(driver: Bubblewrap) -> None:
    found = await driver.probe()
    assert (found.verified, dict(found.why_not)) == (set(GUARANTEES), {KERNEL: SHARED})
    assert bool(found.notes) == (driver.groups is None)


@pytest.mark.promise("sandbox-truth")
async def test_the_probe_misses_a_filter_that_is_not_there(driver: Bubblewrap) -> None:
    allows = assemble(replace(load_rules(), refusals=()))
    found = await replace(driver, filter=allows).probe()
    assert SYSCALLS not in found.verified
    assert "io_uring" in found.why_not[SYSCALLS]
    assert "AF_VSOCK" in found.why_not[SYSCALLS]
    assert {FILESYSTEM, NETWORK} <= found.verified


@pytest.mark.promise("sandbox-truth")
@pytest.mark.parametrize(
    ("weaker", "lost"),
    [
        ({"network": "host"}, {NETWORK}),
        ({"limits": Limits(memory_bytes=2048 * MIB, pids=512, tmp_bytes=64 * MIB)}, {RESOURCES}),
        ({"mounts": "/tmp"}, {FILESYSTEM, RESOURCES}),
    ],
)
async def test_the_probe_misses_a_wall_that_is_not_there(
    driver: Bubblewrap, weaker: dict[str, object], lost: set[str]
) -> None:
    found = await verify(Weaker(driver, weaker), mend_for)
    assert set(GUARANTEES) - found.verified == lost
    assert found.why_not.keys() == lost


@pytest.mark.promise("sandbox-truth")
async def test_the_probe_verifies_nothing_where_nothing_starts(driver: Bubblewrap) -> None:
    found = await replace(driver, binary=Path("/usr/bin/false")).probe()
    assert found.verified == frozenset()
    assert found.why_not.keys() == {*GUARANTEES, KERNEL}


class Weaker:
    """A driver that leaves one wall out."""

    name = "weaker"

    def __init__(self, driver: Bubblewrap, changes: dict[str, object]) -> None:
        self.driver, self.changes = driver, changes

    async def start(self, spec: Spec) -> object:
        changes = dict(self.changes)
        if host := changes.pop("mounts", None):
            changes["mounts"] = (*spec.mounts, Mount(source=str(host), target=str(host)))
        return await self.driver.start(replace(spec, **changes))  # type: ignore[arg-type]


def contents(path: Path) -> str:
    return path.read_text()


def connects(listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return f"import socket; socket.create_connection(('127.0.0.1', {port}), 5).close()"
