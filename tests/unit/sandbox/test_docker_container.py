"""What is asked of the engine for a container, and for whom."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from sandbox.docker import container, view
from sandbox.docker.user import NOBODY, User, user_for
from sandbox.errors import SandboxError
from sandbox.spec import Limits, Mount, Spec

USER = User(uid=1000, gid=1000)
SPEC = Spec(
    argv=("/usr/bin/cat",),
    env={"TOKEN": "x"},
    mounts=(Mount(source="/srv/in", target="/in"), Mount(source="/srv/out", target="/out", writable=True)),
    limits=Limits(memory_bytes=64 << 20, pids=10, files=50, tmp_bytes=4096, file_bytes=9000, cpu_s=3),
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs sandboxes as somebody else")


def asked(spec: Spec = SPEC, runtime: str = "runc", **more: object) -> dict[str, object]:
    given = {"image": "sha256:x", "user": USER, "mounts": spec.mounts, "labels": {}, "pids": 30, "seccomp": "{}"}
    return container.request(spec, runtime=runtime, cgroup_namespace=False, **given | more)  # type: ignore[arg-type]


@pytest.mark.promise("docker-hardened")
def test_every_container_is_hardened() -> None:
    request = asked()
    host = request["HostConfig"]
    assert isinstance(host, dict)
    assert request["User"] == "1000:1000"
    assert (host["CapDrop"], host.get("CapAdd"), host["Privileged"], host["ReadonlyRootfs"]) == (
        ["ALL"],
        None,
        False,
        True,
    )
    assert host["SecurityOpt"] == ["no-new-privileges", "seccomp={}"]
    assert (host["NetworkMode"], request["NetworkDisabled"], host["IpcMode"]) == ("none", True, "private")
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (64 << 20, 64 << 20, 30)
    assert {each["Name"]: each["Hard"] for each in host["Ulimits"]} == {
        "nofile": 50,
        "fsize": 9000,
        "core": 0,
        "cpu": 3,
    }
    assert set(host["Tmpfs"]) == {"/tmp"}
    assert {"noexec", "nosuid", "nodev", "size=4096"} <= set(host["Tmpfs"]["/tmp"].split(","))
    assert "Devices" not in host


def test_mounts_are_read_only_and_alone_unless_said() -> None:
    host = asked()["HostConfig"]
    assert isinstance(host, dict)
    seen = {each["Target"]: (each["ReadOnly"], each["BindOptions"]["NonRecursive"]) for each in host["Mounts"]}
    assert seen == {"/in": (True, True), "/out": (False, False)}


def test_gvisor_is_left_room_for_its_own_threads() -> None:
    host = asked(runtime="runsc")["HostConfig"]
    assert isinstance(host, dict)
    assert host["PidsLimit"] == container.GVISOR_PIDS + 3 * 30


def test_the_empty_root_is_the_same_each_time_and_holds_nothing_of_the_hosts() -> None:
    made = view.root(USER)
    assert made == view.root(USER) != view.root(User(uid=7, gid=7))
    with tarfile.open(fileobj=io.BytesIO(made)) as archive:
        files = {entry.name: archive.extractfile(entry) for entry in archive if entry.isreg()}
    contents = {name: content.read().decode() for name, content in files.items() if content}
    assert contents.keys() == {"etc/passwd", "etc/group", "etc/hosts"}
    assert contents["etc/passwd"].startswith("sandbox:x:1000:1000:")


@as_root
def test_a_container_runs_as_nobody_or_as_the_one_user_it_writes_for(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir(mode=0o755)
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 1234, 1234)
    assert user_for([Mount(source=str(mine), target="/m")]) == User(uid=NOBODY, gid=NOBODY)
    assert user_for([Mount(source=str(theirs), target="/t", writable=True)]) == User(uid=1234, gid=1234)


@as_root
@pytest.mark.parametrize(
    ("mode", "writable", "what"), [(0o700, False, "private to user 0"), (0o755, True, "may not write")]
)
def test_a_mount_that_the_program_could_not_use_is_refused_with_its_mend(
    tmp_path: Path, mode: int, writable: bool, what: str
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=mode)
    with pytest.raises(SandboxError, match=what) as refused:
        user_for([Mount(source=str(folder), target="/f", writable=writable)])
    assert refused.value.part == "mount"
    assert "chown" in refused.value.mend
