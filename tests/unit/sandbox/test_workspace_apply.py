"""Workspaces: what was shown is what becomes real, whatever the copy's writer does meanwhile, and whenever we die."""

import os
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox.errors import SandboxError
from sandbox.workspace import (
    Action,
    Change,
    Kind,
    Prepared,
    Refusal,
    Staged,
    chosen,
    clashes,
    commit,
    diff,
    drop,
    load,
    prepare,
    stage,
    unfinished,
    unified,
)
from sandbox.workspace.applying import JOURNAL, PREFIX
from sandbox.workspace.difference import MAX_CHANGES, leads_out


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder as a person keeps one."""
    home = tmp_path / "home"
    (home / "notes").mkdir(parents=True)
    (home / "notes" / "a.txt").write_text("one\ntwo\n")
    (home / "run.sh").write_text("#!/bin/sh\n")
    (home / "run.sh").chmod(0o754)
    (home / "latest").symlink_to("notes/a.txt")
    return home


@pytest.fixture
def staged(home: Path, tmp_path: Path) -> Staged:
    return stage(home, tmp_path / "state" / "0")


def apply(staged: Staged, *paths: str) -> tuple[Refusal, ...]:
    """Everything that differs, or what was chosen of it."""
    changes = diff(staged).changes
    prepared = prepare(staged, chosen(changes, paths) if paths else changes, {})
    return prepared if isinstance(prepared, tuple) else commit(prepared)


def again(staged: Staged) -> Staged:
    found = load(staged.folder)
    assert found is not None
    return found


def tree(root: Path) -> dict[str, tuple[str, object]]:
    """Everything in a folder, as it can be compared."""
    found: dict[str, tuple[str, object]] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("folder", None)
        else:
            found[name] = ("file", path.read_bytes())
    return found


def test_a_copy_holds_the_same_and_differs_in_nothing(home: Path, staged: Staged) -> None:
    assert tree(staged.copy) == tree(home)
    assert stat.S_IMODE((staged.copy / "run.sh").stat().st_mode) == 0o754
    assert (diff(staged).changes, diff(staged).left_out) == ((), ())
    assert again(staged) == staged


def test_what_was_changed_is_named_and_applied_and_then_differs_no_more(home: Path, staged: Staged) -> None:
    (staged.copy / "notes" / "a.txt").write_text("one\n2\n")
    (staged.copy / "notes" / "new").mkdir()
    (staged.copy / "notes" / "new" / "b.txt").write_text("b")
    (staged.copy / "run.sh").chmod(0o755)
    (staged.copy / "latest").unlink()
    (staged.copy / "newest").symlink_to("notes/new/b.txt")
    said = [(change.action.value, change.path) for change in diff(staged).changes]
    assert said == [
        ("removed", "latest"),
        ("added", "newest"),
        ("changed", "notes/a.txt"),
        ("added", "notes/new"),
        ("added", "notes/new/b.txt"),
        ("mode", "run.sh"),
    ]
    assert "old" not in tree(home)
    assert apply(staged) == ()
    assert tree(home) == tree(staged.copy)
    assert stat.S_IMODE((home / "run.sh").stat().st_mode) == 0o755
    assert diff(again(staged)).changes == ()
    assert [name for name in os.listdir(home) if name.startswith(PREFIX)] == []
    assert not (staged.folder / JOURNAL).exists()


def test_a_chosen_path_is_applied_with_the_new_folders_it_needs_and_nothing_else(home: Path, staged: Staged) -> None:
    (staged.copy / "x" / "y").mkdir(parents=True)
    (staged.copy / "x" / "y" / "wanted").write_text("w")
    (staged.copy / "x" / "other").write_text("o")
    (staged.copy / "notes" / "a.txt").unlink()
    assert apply(staged, "x/y/wanted") == ()
    assert (home / "x" / "y" / "wanted").read_text() == "w"
    assert not (home / "x" / "other").exists()
    assert (home / "notes" / "a.txt").exists()
    assert [change.path for change in diff(again(staged)).changes] == ["notes/a.txt", "x/other"]


@pytest.mark.promise("applied-as-shown")
def test_a_file_that_is_written_again_after_the_review_is_not_applied(home: Path, staged: Staged) -> None:
    (staged.copy / "notes" / "a.txt").write_text("harmless")
    (staged.copy / "b.txt").write_text("fine")
    shown = diff(staged)
    (staged.copy / "notes" / "a.txt").write_text("harmful!")
    before = tree(home)

    refused = prepare(staged, shown.changes, {})

    assert refused == (Refusal(path="notes/a.txt", why="it changed after it was shown"),)
    assert tree(home) == before
    assert diff(staged).digest != shown.digest


@pytest.mark.promise("applied-as-shown")
@pytest.mark.parametrize(
    "swap",
    [
        lambda path, outside: path.unlink(),
        lambda path, outside: (path.unlink(), path.symlink_to(outside)),
        lambda path, outside: (path.unlink(), os.mkfifo(path)),
        lambda path, outside: (path.unlink(), path.mkdir()),
        lambda path, outside: (path.parent.rename(path.parent.with_name("moved")), path.parent.symlink_to(outside)),
    ],
    ids=["removed", "link", "pipe", "folder", "parent"],
)
def test_what_is_swapped_after_the_review_is_not_read_through(
    home: Path, staged: Staged, tmp_path: Path, swap: Callable[[Path, Path], object]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.txt").write_text("one\n2\n")
    (staged.copy / "notes" / "a.txt").write_text("one\n2\n")
    shown = diff(staged)
    before = tree(home)
    swap(staged.copy / "notes" / "a.txt", outside)

    assert isinstance(prepare(staged, shown.changes, {}), tuple)
    assert tree(home) == before


@pytest.mark.promise("original-moved-refuses")
def test_an_original_that_changed_since_is_never_overwritten(home: Path, staged: Staged) -> None:
    (staged.copy / "notes" / "a.txt").write_text("theirs")
    (staged.copy / "new.txt").write_text("theirs")
    (staged.copy / "latest").unlink()
    (home / "notes" / "a.txt").write_text("mine")
    (home / "new.txt").write_text("mine")
    (home / "latest").unlink()
    (home / "latest").symlink_to("elsewhere")
    before = tree(home)

    assert {one.path for one in clashes(staged, diff(staged).changes)} == {"notes/a.txt", "new.txt", "latest"}
    assert {one.path for one in apply(staged)} == {"notes/a.txt", "new.txt", "latest"}
    assert tree(home) == before


@pytest.mark.promise("original-moved-refuses")
def test_an_original_that_changes_at_the_last_moment_is_left_and_told(home: Path, staged: Staged) -> None:
    (staged.copy / "notes" / "a.txt").write_text("theirs")
    (staged.copy / "b.txt").write_text("b")
    prepared = prepare(staged, diff(staged).changes, {})
    assert isinstance(prepared, Prepared)
    (home / "notes" / "a.txt").write_text("mine")

    assert [one.path for one in commit(prepared)] == ["notes/a.txt"]
    assert ((home / "notes" / "a.txt").read_text(), (home / "b.txt").read_text()) == ("mine", "b")
    assert [change.path for change in diff(again(staged)).changes] == ["notes/a.txt"]


@pytest.mark.promise("original-moved-refuses")
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("instead", [None, "file", "link"])
def test_nothing_is_added_where_the_folder_is_gone(
    home: Path, staged: Staged, tmp_path: Path, late: bool, instead: str | None
) -> None:
    (staged.copy / "notes" / "b.txt").write_text("b")
    (staged.copy / "run.sh").write_text("r")
    prepared = prepare(staged, diff(staged).changes, {}) if late else None
    shutil.move(home / "notes", tmp_path / "away")
    if instead == "file":
        (home / "notes").write_text("")
    elif instead == "link":
        (home / "notes").symlink_to(tmp_path / "away")
    refused = commit(prepared) if isinstance(prepared, Prepared) else apply(staged)

    assert [one.path for one in refused] == ["notes/b.txt"]
    assert os.listdir(tmp_path / "away") == ["a.txt"]
    assert (home / "run.sh").read_text() == ("r" if late else "#!/bin/sh\n")
    assert not (staged.folder / JOURNAL).exists()


def test_a_folder_that_holds_something_new_is_not_removed(home: Path, staged: Staged) -> None:
    (staged.copy / "notes" / "a.txt").unlink()
    (staged.copy / "notes").rmdir()
    (home / "notes" / "mine.txt").write_text("mine")
    assert [one.path for one in apply(staged)] == ["notes"]
    assert (home / "notes" / "a.txt").exists()


def test_a_file_may_become_a_folder_and_a_folder_a_file(home: Path, staged: Staged) -> None:
    (staged.copy / "notes" / "a.txt").unlink()
    (staged.copy / "notes").rmdir()
    (staged.copy / "notes").write_text("now a file")
    (staged.copy / "run.sh").unlink()
    (staged.copy / "run.sh").mkdir()
    (staged.copy / "run.sh" / "inner").write_text("i")
    assert apply(staged) == ()
    assert tree(home) == tree(staged.copy)
    assert diff(again(staged)).changes == ()


@pytest.mark.promise("nothing-leads-out")
def test_links_out_pipes_sockets_and_names_that_hide_are_named_and_left_out(home: Path, staged: Staged) -> None:
    copy = staged.copy
    (copy / "passwd").symlink_to("/etc/passwd")
    (copy / "notes" / "up").symlink_to("../../x")
    (copy / "notes" / "round").symlink_to("new/../../../x")
    (copy / "notes" / "fine").symlink_to("../run.sh")
    os.mkfifo(copy / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(copy / "sock"))
    (copy / "two\nlines").write_text("x")
    (copy / "safe\u202etxt.exe").write_text("x")
    (copy / os.fsdecode(b"\xff\xfe")).write_text("x")
    (copy / "notes" / "a.txt").unlink()
    os.mkfifo(copy / "notes" / "a.txt")

    found = diff(staged)

    assert [change.path for change in found.changes] == ["notes/fine"]
    assert {one.path for one in found.left_out} == {
        "passwd",
        "notes/up",
        "notes/round",
        "pipe",
        "sock",
        "two\nlines",
        "safe\u202etxt.exe",
        os.fsdecode(b"\xff\xfe"),
        "notes/a.txt",
    }
    assert apply(staged) == ()
    assert (home / "notes" / "a.txt").read_text() == "one\ntwo\n"
    assert os.readlink(home / "notes" / "fine") == "../run.sh"


@pytest.mark.promise("nothing-leads-out")
def test_set_user_id_bits_and_what_all_may_write_to_are_not_applied(home: Path, staged: Staged) -> None:
    (home / "run.sh").chmod(0o4755)
    (staged.copy / "run.sh").write_text("#!/bin/sh\nid\n")
    (staged.copy / "run.sh").chmod(0o6777)
    (staged.copy / "su").write_text("x")
    (staged.copy / "su").chmod(0o4777)
    (staged.copy / "open").mkdir()
    (staged.copy / "open").chmod(0o3777)
    assert {one.path for one in diff(staged).left_out} == {"run.sh", "su", "open"}
    assert apply(staged) == ()
    modes = {name: stat.S_IMODE((home / name).stat().st_mode) for name in ("run.sh", "su", "open")}
    assert modes == {"run.sh": 0o777, "su": 0o755, "open": 0o755}


@pytest.mark.promise("nothing-leads-out")
@pytest.mark.parametrize("target", ["elsewhere/x", "elsewhere", "hop", "notes/up/elsewhere/x"])
def test_a_link_through_a_persons_own_link_does_not_lead_out(home: Path, tmp_path: Path, target: str) -> None:
    (home / "elsewhere").symlink_to(tmp_path)
    (home / "notes" / "up").symlink_to("..")
    staged = stage(home, tmp_path / "state" / "0")
    (staged.copy / "hop").symlink_to("elsewhere/y")
    (staged.copy / "circle").symlink_to("circle")
    (staged.copy / "new").symlink_to(target)
    (staged.copy / "fine").symlink_to("notes/up/latest")
    found = diff(staged)
    assert {left.path for left in found.left_out} == {"new", "hop"}
    assert [change.path for change in found.changes] == ["circle", "fine"]


@pytest.mark.promise("nothing-leads-out")
def test_hard_links_become_files_of_their_own(home: Path, staged: Staged) -> None:
    os.link(staged.copy / "run.sh", staged.copy / "same.sh")
    assert apply(staged) == ()
    assert (home / "same.sh").stat().st_nlink == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owners_and_permissions_of_existing_files_stay(home: Path, tmp_path: Path) -> None:
    os.chown(home / "notes", 1234, 1235)
    os.chown(home / "notes" / "a.txt", 1234, 1236)
    (home / "notes" / "a.txt").chmod(0o640)
    staged = stage(home, tmp_path / "state" / "0", (65534, 65534))
    assert (staged.copy / "notes" / "a.txt").stat().st_uid == 65534
    (staged.copy / "notes" / "a.txt").write_text("changed")
    (staged.copy / "notes" / "b.txt").write_text("new")
    assert apply(staged) == ()
    found = {name: (home / "notes" / name).stat() for name in ("a.txt", "b.txt")}
    assert (found["a.txt"].st_uid, found["a.txt"].st_gid, stat.S_IMODE(found["a.txt"].st_mode)) == (1234, 1236, 0o640)
    assert (found["b.txt"].st_uid, found["b.txt"].st_gid) == (1234, 1235)


def test_one_file_can_be_a_workspace(home: Path, tmp_path: Path) -> None:
    staged = stage(home / "run.sh", tmp_path / "state" / "0")
    assert staged.mount.is_file()
    assert os.listdir(staged.copy) == ["run.sh"]
    staged.mount.write_text("changed")
    assert apply(staged) == ()
    assert ((home / "run.sh").read_text(), sorted(os.listdir(home))) == ("changed", ["latest", "notes", "run.sh"])


# ---- bounds --------------------------------------------------------------------------------------------------------


def test_a_tree_too_big_is_refused_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    (home / "sparse").touch()
    os.truncate(home / "sparse", 3 << 30)
    with pytest.raises(SandboxError, match=r"holds 3\.0 GB, .* Mount a narrower folder"):
        stage(home, tmp_path / "state" / "0")
    assert os.listdir(tmp_path / "state") == []


def test_too_many_files_are_refused(home: Path, tmp_path: Path) -> None:
    for number in range(50_001):
        os.symlink("x", home / f"{number}")
    with pytest.raises(SandboxError, match="more than 50,000"):
        stage(home, tmp_path / "state" / "0")
    assert os.listdir(tmp_path / "state") == []


@pytest.mark.promise("disk-full-leaves-nothing")
@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of ours needs a mount")
def test_a_full_disk_is_a_clear_error_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    import subprocess

    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], check=True)
    try:
        with pytest.raises(SandboxError, match="there is no room for a copy of"):
            stage(home, disk / "state" / "0")
        assert os.listdir(disk / "state") == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_tree_of_any_depth_is_named_and_removed(staged: Staged) -> None:
    here = os.open(staged.copy, os.O_RDONLY)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=here)
        inner = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    found = diff(staged)
    assert [(one.path.count("/"), one.why) for one in found.left_out] == [(64, "it is more than 64 folders deep")]
    assert len(found.changes) == 65
    drop(staged.folder)
    assert os.listdir(staged.folder.parent) == []


def test_what_is_past_the_bound_is_counted(staged: Staged) -> None:
    for number in range(MAX_CHANGES + 5):
        os.symlink("run.sh", staged.copy / f"{number:05}")
    found = diff(staged)
    assert (len(found.changes), found.more) == (MAX_CHANGES, 5)


def test_sockets_and_pipes_of_the_original_are_skipped_and_named(home: Path, tmp_path: Path) -> None:
    os.mkfifo(home / "pipe")
    staged = stage(home, tmp_path / "state" / "0")
    assert [(one.path, one.why) for one in staged.skipped] == [("pipe", "it is a named pipe")]
    assert diff(staged).changes == ()


# ---- deaths --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.promise("apply-survives-kill")
@pytest.mark.parametrize("steps", range(12))
def test_an_apply_that_was_killed_is_undone_or_finished(
    home: Path, staged: Staged, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (staged.copy / "notes" / "a.txt").write_text("changed")
    (staged.copy / "notes" / "new").mkdir()
    (staged.copy / "notes" / "new" / "b.txt").write_text("b")
    (staged.copy / "latest").unlink()
    (staged.copy / "run.sh").chmod(0o700)
    before, wanted = tree(home), tree(staged.copy)
    left = [steps]

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def act(*args: object, **kwargs: object) -> object:
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return real(*args, **kwargs)

        return act

    with monkeypatch.context() as patch:
        for name in ("rename", "mkdir", "unlink", "chmod", "rmdir"):
            patch.setattr(os, name, dying(getattr(os, name)))
        try:
            prepared = prepare(staged, diff(staged).changes, {"by": "ann"})
            assert isinstance(prepared, Prepared)
            commit(prepared)
        except Killed:
            pass

    now = again(staged)
    if (resumed := unfinished(now)) is not None:
        assert resumed.note == {"by": "ann"}
        assert commit(resumed) == ()
    assert tree(home) in (before, wanted)
    assert [name for name in os.listdir(home) if name.startswith(PREFIX)] == []
    left_over = diff(again(staged)).changes
    assert bool(left_over) is (tree(home) == before)


@pytest.mark.promise("apply-survives-kill")
def test_what_was_interrupted_is_finished_before_anything_else_is_applied(home: Path, staged: Staged) -> None:
    (staged.copy / "a").write_text("a")
    first = prepare(staged, diff(staged).changes, {})
    assert isinstance(first, Prepared)
    (staged.copy / "b").write_text("b")
    with pytest.raises(SandboxError, match="is not finished"):
        prepare(staged, diff(staged).changes, {})
    assert commit(first) == ()
    assert apply(again(staged)) == ()
    assert ((home / "a").read_text(), (home / "b").read_text()) == ("a", "b")


# ---- laws ----------------------------------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "c"])
deeds = st.lists(
    st.tuples(st.sampled_from(["write", "folder", "link", "remove"]), st.lists(names, min_size=1, max_size=3)),
    max_size=12,
)


def do(root: Path, deed: str, steps: list[str]) -> None:
    path = root.joinpath(*steps)
    inside = [one for one in path.parents if one.is_relative_to(root)]
    if any(one.is_symlink() or (one.exists() and not one.is_dir()) for one in inside):
        return
    if deed == "remove":
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        return
    if path.is_symlink() or path.is_dir() or (path.exists() and deed != "write"):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if deed == "write":
        path.write_text(f"{steps}{path.exists()}")
    elif deed == "folder":
        path.mkdir()
    else:
        path.symlink_to("a")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=deeds, then=deeds)
def test_applying_all_makes_the_original_what_the_copy_is(
    tmp_path_factory: pytest.TempPathFactory, first: list[tuple[str, list[str]]], then: list[tuple[str, list[str]]]
) -> None:
    root = tmp_path_factory.mktemp("law")
    home = root / "home"
    home.mkdir()
    for deed, steps in first:
        do(home, deed, steps)
    staged = stage(home, root / "state" / "0")
    for deed, steps in then:
        do(staged.copy, deed, steps)
    assert apply(staged) == ()
    assert tree(home) == tree(staged.copy)
    assert diff(again(staged)).changes == ()


@given(path=st.lists(names, min_size=1, max_size=4), target=st.lists(st.sampled_from(["..", ".", "a", ""]), min_size=1))
def test_a_link_that_is_applied_stays_inside_wherever_folders_are(path: list[str], target: list[str]) -> None:
    if leads_out("/".join(path), said := "/".join(target)):
        return
    depth = len(path) - 1
    for step in said.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(step, 1)
        assert depth >= 0


# ---- text ----------------------------------------------------------------------------------------------------------


def lines(staged: Staged, path: str) -> tuple[str, ...] | None:
    (change,) = [one for one in diff(staged).changes if one.path == path]
    return unified(staged, change)


def test_a_text_is_shown_as_a_unified_diff(staged: Staged) -> None:
    (staged.copy / "notes" / "a.txt").write_text("one\n2")
    assert lines(staged, "notes/a.txt") == ("@@ -1,2 +1,2 @@", " one", "-two", "+2", "\\ No newline at end of file")
    (staged.copy / "new").write_text("x\r\n")
    assert lines(staged, "new") == ("@@ -0,0 +1 @@", "+x\r")


@pytest.mark.parametrize("content", [b"\0", b"\xff", b"x" * 300_000])
def test_what_is_no_text_or_too_long_is_not_shown_as_lines(staged: Staged, content: bytes) -> None:
    (staged.copy / "notes" / "a.txt").write_bytes(content)
    assert lines(staged, "notes/a.txt") is None


def test_a_text_made_to_be_slow_is_shown_in_one_piece(home: Path, tmp_path: Path) -> None:
    (home / "slow").write_text("\n".join(str(number % 97) for number in range(20_000)) + "\n")
    staged = stage(home, tmp_path / "state" / "0")
    (staged.copy / "slow").write_text("\n".join(str(number % 89) for number in range(20_000)) + "\n")
    shown = lines(staged, "slow")
    assert shown is not None
    assert len(shown) > 39_000


def test_a_change_names_its_kind(staged: Staged) -> None:
    (staged.copy / "link").symlink_to("run.sh")
    (change,) = diff(staged).changes
    assert isinstance(change, Change)
    assert (change.action, change.kind, change.entry.target) == (Action.ADDED, Kind.LINK, "run.sh")
