"""An engine in trouble, and containers that others left: a clear error each, and nothing left behind."""

import asyncio
import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import support.drivers  # noqa: F401  # says where the tests' engine is

from sandbox import SandboxError, Spec
from sandbox.docker import Docker, reaper
from sandbox.docker.images import REPOSITORY
from sandbox.docker.kernel import why_shared
from sandbox.docker.session import LOST
from sandbox.driver import GUARANTEES, KERNEL
from sandbox.spec import Image

CAT = Spec(argv=("cat",))
PATIENCE_S = 60


@pytest.fixture
def driver() -> Docker:
    return Docker.find("runc")


def containers(driver: Docker, label: str = f"{reaper.LABEL}=1") -> set[str]:
    return {found["Id"] for found in reaper._containers(driver.engine.socket, label)}


def archive(folder: Path, *, shell: bool = True) -> Image:
    """An image of one static program, which is a shell too."""
    path = folder / "image.tar"
    with tarfile.open(path, "w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
        for name in ("cat", *(["sh"] if shell else [])):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        mark = tarfile.TarInfo("mark")
        mark.size = 4
        tar.addfile(mark, io.BytesIO(os.urandom(4)))  # an image that no engine has yet
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    return Image(digest=digest, archive=str(path), root=str(folder))


def tag(image: Image) -> str:
    return f"{REPOSITORY}:{image.digest[7:23]}"


@pytest.fixture
def image(tmp_path: Path, driver: Docker) -> Iterator[Image]:
    made = archive(tmp_path)
    yield made
    reaper.ask(driver.engine.socket, "DELETE", f"/images/{tag(made)}?force=1")


async def said(driver: Docker, spec: Spec) -> tuple[int, bytes]:
    session = await driver.start(spec)
    session.stdin.close()
    out = await session.stdout.read()
    return await session.wait(), out


@pytest.mark.promise("docker-image")
async def test_an_image_is_imported_once_and_run_with_none_of_the_hosts_programs(driver: Docker, image: Image) -> None:
    status, out = await said(driver, Spec(argv=("sh", "-c", "cat /mark | wc -c; ls /usr 2>&1"), image=image))
    assert out.startswith(b"4\n")
    assert b"/usr: No such file" in out
    assert status != 0
    os.unlink(image.archive)  # from now on it is the engine's
    assert (await said(Docker.find("runc"), Spec(argv=("python3",), image=image)))[0] == 127
    assert (await said(Docker.find("runc"), Spec(argv=("cat", "/mark"), image=image)))[0] == 0


async def test_an_image_that_somebody_removed_is_imported_again(driver: Docker, image: Image) -> None:
    spec = Spec(argv=("cat", "/mark"), image=image)
    first = await said(driver, spec)
    await driver.engine.call("DELETE", f"/images/{tag(image)}", query={"force": 1})
    assert await said(driver, spec) == first


@pytest.mark.promise("docker-image")
async def test_an_archive_that_is_not_what_its_digest_says_never_runs(driver: Docker, image: Image) -> None:
    wrong = Image(digest="sha256:" + "ab" * 32, archive=image.archive, root=image.root)
    with pytest.raises(SandboxError, match=f"not {wrong.digest}, but {image.digest}"):
        await driver.start(Spec(argv=("cat",), image=wrong))
    status, _ = reaper.ask(driver.engine.socket, "GET", f"/images/{tag(wrong)}/json")
    assert status == 404


@pytest.mark.promise("docker-image")
async def test_a_strange_image_under_our_name_is_refused(driver: Docker, image: Image, tmp_path: Path) -> None:
    await driver.images.of(image)
    squatted = Image(digest="sha256:" + "cd" * 32, archive=image.archive, root=image.root)
    repository, _, name = tag(squatted).partition(":")
    await driver.engine.call("POST", f"/images/{tag(image)}/tag", query={"repo": repository, "tag": name})
    try:
        with pytest.raises(SandboxError, match="was not made from"):
            await driver.start(Spec(argv=("cat",), image=squatted))
    finally:
        await driver.engine.call("DELETE", f"/images/{tag(squatted)}")


async def test_a_missing_archive_is_an_error_that_says_to_build_it(driver: Docker, tmp_path: Path) -> None:
    gone = Image(digest="sha256:" + "ef" * 32, archive=str(tmp_path / "gone.tar"), root=str(tmp_path))
    with pytest.raises(SandboxError, match=r"cannot be read.*pratique image build"):
        await driver.start(Spec(argv=("cat",), image=gone))


async def test_an_image_without_a_shell_is_an_error_and_leaves_nothing(driver: Docker, tmp_path: Path) -> None:
    before = containers(driver, f"{reaper.OWNER}={reaper.this_owner()}")
    bare = archive(tmp_path, shell=False)
    try:
        with pytest.raises(SandboxError, match="Images need a /bin/sh"):
            await driver.start(Spec(argv=("cat",), image=bare))
    finally:
        await driver.engine.call("DELETE", f"/images/{tag(bare)}")
    assert containers(driver, f"{reaper.OWNER}={reaper.this_owner()}") == before


async def _left_by(driver: Docker, owner: str, processes: str) -> str:
    """A container as a gateway may have left it."""
    found = await driver.images.of_content(_nothing())
    labels = {reaper.LABEL: "1", reaper.OWNER: owner, reaper.PROCESSES: processes}
    made: Any = await driver.engine.call("POST", "/containers/create", {"Image": found, "Cmd": ["x"], "Labels": labels})
    return str(made["Id"])


def _nothing() -> bytes:
    content = io.BytesIO()
    tarfile.open(fileobj=content, mode="w").close()
    return content.getvalue()


async def test_what_dead_gateways_left_is_removed_and_what_the_living_run_is_not(driver: Docker) -> None:
    here = reaper.these_processes()
    reused = f"{os.getpid()}:1"  # this number belonged to another process once
    dead = {await _left_by(driver, owner, here) for owner in ("4194304:17", reused)}
    alive = {await _left_by(driver, reaper.this_owner(), here), await _left_by(driver, "4194304:17", "pid:[1]")}
    try:
        Docker.find("runc")
        assert containers(driver) & (dead | alive) == alive
    finally:
        await asyncio.gather(*map(driver.remover.remove, dead | alive))


async def test_the_watchdog_removes_what_its_process_leaves(driver: Docker) -> None:
    owner = "4194304:18"
    left = await _left_by(driver, owner, "pid:[1]")
    watchdog, pipe = reaper.watch(driver.engine.socket, owner)
    os.kill(watchdog, signal.SIGTERM)  # as a service manager does to all of a service
    assert left in containers(driver)
    os.close(pipe)
    _, status = await asyncio.to_thread(os.waitpid, watchdog, 0)
    assert status == 0
    assert left not in containers(driver)


@pytest.mark.promise("docker-kernel")
async def test_only_gvisor_has_a_kernel_of_its_own(driver: Docker) -> None:
    assert "the kernel inside is the host's" in await why_shared(driver)
    found = await Docker.find("gvisor").probe()
    assert found.verified == {*GUARANTEES, KERNEL}, found.why_not
    found = await driver.probe()
    assert (found.verified, found.why_not.keys()) == (set(GUARANTEES), {KERNEL})


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """An engine that may be killed."""
    home = Path(tempfile.mkdtemp(prefix="pratique-mortal-"))
    host = f"unix://{home}/docker.sock"
    settings = {"hosts": [host], "data-root": f"{home}/data", "exec-root": f"{home}/run", "pidfile": f"{home}/pid"}
    settings |= {"bridge": "none", "iptables": False, "ip-forward": False}
    (home / "daemon.json").write_text(json.dumps(settings))
    monkeypatch.setenv("DOCKER_HOST", host)
    with (home / "log").open("wb") as log:
        command = ["dockerd", "--config-file", f"{home}/daemon.json"]
        engine = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            _until_it_answers(home / "docker.sock")
            yield engine
        finally:
            for process in [engine.pid, *_family(home)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            engine.wait()
            for mount in reversed(Path("/proc/mounts").read_text().splitlines()):
                if (place := mount.split()[1]).startswith(f"{home}/"):
                    subprocess.run(["umount", "--lazy", place], check=False)  # a process that is just dying may hold it
            shutil.rmtree(home)


def _family(home: Path) -> list[int]:
    """The processes of an engine, and those of its containers, which outlive it."""
    parents, ours = {}, set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if str(home) in (process / "cmdline").read_text():
                ours.add(int(process.name))
    for _ in parents:
        more = {child for child, parent in parents.items() if parent in ours} - ours
        if not more:
            break
        ours |= more
    return list(ours)


def _until_it_answers(path: Path) -> None:
    ends_at = time.monotonic() + PATIENCE_S
    while True:
        try:
            reaper.ask(str(path), "GET", "/_ping")
        except ValueError:
            return  # "OK" is no JSON
        except OSError:
            assert time.monotonic() < ends_at
            time.sleep(0.05)


@pytest.mark.promise("docker-engine-lost")
async def test_an_engine_that_dies_ends_its_sessions_and_its_starts_with_an_error(
    mortal: subprocess.Popen[bytes],
) -> None:
    driver = Docker.find("runc")
    session = await driver.start(CAT)
    session.stdin.write(b"alive\n")
    assert await session.stdout.readline() == b"alive\n"
    mortal.kill()
    mortal.wait()
    async with asyncio.timeout(PATIENCE_S):
        assert await session.stdout.read() == b""
        assert await session.wait() == LOST
        with pytest.raises(SandboxError, match=r"no engine at .*Start Docker"):
            await driver.start(CAT)
        with pytest.raises(SandboxError, match=r"no engine at .*Start Docker"):
            await driver.start(CAT)
    assert session.container in driver.remover.left  # removed when there is an engine again
    assert len(driver.remover.left) <= 2


@pytest.mark.promise("docker-engine-lost")
async def test_an_engine_that_hangs_cannot_hold_an_end_up(mortal: subprocess.Popen[bytes]) -> None:
    driver = Docker.find("runc")
    session = await driver.start(CAT)
    mortal.send_signal(signal.SIGSTOP)
    async with asyncio.timeout(PATIENCE_S):
        session.kill()
        assert await session.wait() == LOST
    with pytest.raises(SandboxError, match="no answer"):
        Docker.find("runc", timeout_s=0.2)
