"""Applying: what a person chose of a difference becomes real, exactly as shown, or not at all.

    prepare   (1) each original is still what was copied   (2) a journal says where our own files will be
              (3) every new content is written beside the originals, its digest compared with the one that was shown
              (4) the journal says that all of it is ready
    commit    (5) each original once more, then one rename; in an order that finds every folder there
              (6) the manifest takes the new state in, and the journal goes

A kill before (4) leaves files of ours, which `unfinished` removes; a kill after it leaves a journal to commit again.
No step goes through a link, no owner changes, no special bit is set.
"""

import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from sandbox.errors import SandboxError
from sandbox.workspace.difference import Action, Change, way
from sandbox.workspace.entry import Entry, Kind, LeftOut, entry_from
from sandbox.workspace.removal import remove_tree
from sandbox.workspace.staging import Staged, write_manifest, write_whole
from sandbox.workspace.tree import copied, folder_of, look, open_file, opened, within

JOURNAL: Final = "journal.json"
PREFIX: Final = ".pratique-"
"""How the folder is called that holds new contents beside the originals for a moment."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A path that was left alone, and why."""

    path: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Changes whose contents stand beside the originals."""

    staged: Staged
    changes: tuple[Change, ...]
    beside: str
    """The folder of ours in the original."""
    note: Mapping[str, Any]
    """What the caller wants to know of it after a crash; JSON."""


def clashes(staged: Staged, changes: Sequence[Change]) -> Iterator[Refusal]:
    """Which originals are not what was copied any more.

    Raises:
        SandboxError: the original is not there any more.
    """
    gone = {change.path for change in changes if change.action is Action.REMOVED}
    made = {change.path for change in changes if change.action is Action.ADDED and change.kind is Kind.FOLDER}
    try:
        with opened(staged.original) as root:
            for change in changes:
                if why := _moved(root, change, gone, made):
                    yield Refusal(path=change.path, why=why)
    except OSError as failed:
        raise _unwritable(staged, failed) from failed


def prepare(staged: Staged, changes: Sequence[Change], note: Mapping[str, Any]) -> Prepared | tuple[Refusal, ...]:
    """(1)-(4). Nothing of the original has changed; where anything is refused, nothing of ours is left either.

    Raises:
        SandboxError: the disk has no room, the original cannot be written, or an earlier apply waits to be finished.
    """
    if (staged.folder / JOURNAL).exists():
        raise SandboxError("workspace", f"an apply to {staged.source} is not finished", "Mend what stopped it first.")
    if refused := tuple(clashes(staged, changes)):
        return refused
    beside = f"{PREFIX}{secrets.token_hex(8)}"
    prepared = Prepared(staged=staged, changes=tuple(sorted(changes, key=_turn)), beside=beside, note=note)
    try:
        _write_journal(prepared, ready=False)
        refused = tuple(_written(prepared))
        if not refused:
            _write_journal(prepared, ready=True)
            return prepared
    except BaseException as failed:
        abandon(prepared)
        if isinstance(failed, OSError):
            raise _unwritable(staged, failed) from failed
        raise
    abandon(prepared)
    return refused


def commit(prepared: Prepared) -> tuple[Refusal, ...]:
    """(5), (6). What was left alone: paths whose original changed at the last moment. May be done again after a crash.

    Raises:
        SandboxError: the original cannot be written any more; what is left to do stays in the journal.
    """
    staged, entries, refused = prepared.staged, dict(prepared.staged.entries), []
    try:
        with opened(staged.original) as root, within(root, prepared.beside) as beside:
            for number, change in enumerate(prepared.changes):
                if why := _perform(root, beside, str(number), change):
                    refused.append(Refusal(path=change.path, why=why))
                elif change.after is None:
                    entries.pop(change.path, None)
                else:
                    entries[change.path] = change.after
            for folder in {change.path.rpartition("/")[0] for change in prepared.changes}:
                with suppress(FileNotFoundError, NotADirectoryError), within(root, folder) as changed:
                    os.fsync(changed)
        write_manifest(replace(staged, entries=entries))
        abandon(prepared)
    except OSError as failed:
        raise _unwritable(staged, failed) from failed
    return tuple(refused)


def abandon(prepared: Prepared) -> None:
    """Remove what is ours beside the originals, and then the journal.

    Raises:
        OSError: it cannot be removed; the journal stays, and it is tried again.
    """
    remove_tree(prepared.staged.original / prepared.beside)
    (prepared.staged.folder / JOURNAL).unlink(missing_ok=True)


def unfinished(staged: Staged) -> Prepared | None:
    """What a crash left to be committed; what it left half written, or had done, is removed.

    Raises:
        SandboxError: that cannot be removed.
    """
    try:
        document = json.loads((staged.folder / JOURNAL).read_text("ascii"))
    except FileNotFoundError:
        return None
    changes = tuple(
        Change(action=Action(action), before=before and entry_from(before), after=after and entry_from(after))
        for action, before, after in document["changes"]
    )
    prepared = Prepared(staged=staged, changes=changes, beside=document["beside"], note=document["note"])
    if document["ready"] and (staged.original / prepared.beside).is_dir():
        return prepared
    try:
        abandon(prepared)
    except OSError as failed:
        raise _unwritable(staged, failed) from failed
    return None


def _write_journal(prepared: Prepared, *, ready: bool) -> None:
    changes = [
        [change.action.value, change.before and change.before.document(), change.after and change.after.document()]
        for change in prepared.changes
    ]
    document = {"ready": ready, "beside": prepared.beside, "note": dict(prepared.note), "changes": changes}
    write_whole(prepared.staged.folder / JOURNAL, document)


def _unwritable(staged: Staged, failed: OSError) -> SandboxError:
    return SandboxError("workspace", f"{staged.source} cannot be written: {failed.strerror}", "Mend it and try again.")


def _turn(change: Change) -> tuple[int, int, str]:
    """Removals first, the innermost before what holds it; then the rest, the outermost first."""
    if change.action is Action.REMOVED:
        return 0, -change.path.count("/"), change.path
    return 1, 0, change.path


# ---- before anything changes ---------------------------------------------------------------------------------------


def _moved(root: int, change: Change, gone: set[str], made: set[str]) -> str:
    """Why the original is not what was copied; empty where it is. `gone` and `made`: what the same apply removes and
    makes."""
    if change.before is None and not gone.isdisjoint(way(change.path)):
        return ""
    if change.before is None and (outer := change.path.rpartition("/")[0]) and outer not in made:
        holds = look(root, outer)
        if not isinstance(holds, Entry) or holds.kind is not Kind.FOLDER:
            return _NOWHERE
    found = look(root, change.path)
    if isinstance(found, LeftOut):
        return f"in the original {found.why}"
    if why := _differs(found, change):
        return why
    if change.action is Action.REMOVED and change.kind is Kind.FOLDER:
        with suppress(OSError), within(root, change.path) as folder:
            if any(f"{change.path}/{name}" not in gone for name in os.listdir(folder)):
                return "it holds what was not copied, or is not to be removed"
    return ""


_NOWHERE: Final = "the folder that holds it is not there any more"


def _differs(found: Entry | None, change: Change) -> str:
    """Why what was found is not what the change begins with; empty where it is."""
    if change.before is None:
        is_free = found is None or (found.kind is Kind.FOLDER and change.kind is Kind.FOLDER)
        return "" if is_free else "something else is there by now"
    if found is None:
        return "it was removed from the original since"
    return "" if found.says_what(change.before) else "the original changed since it was copied"


def _written(prepared: Prepared) -> Iterator[Refusal]:
    """(3) Write every new content; what is not what was shown any more."""
    with opened(prepared.staged.original) as root, opened(prepared.staged.copy) as copy:
        os.mkdir(prepared.beside, 0o700, dir_fd=root)
        with within(root, prepared.beside) as beside:
            for number, change in enumerate(prepared.changes):
                if not _has_content(change):
                    continue
                if not _fetched(root, copy, beside, str(number), change):
                    yield Refusal(path=change.path, why="it changed after it was shown")
            os.fsync(beside)


def _has_content(change: Change) -> bool:
    """Whether something of it is written beside the originals first."""
    return change.after is not None and change.kind is not Kind.FOLDER and change.action is not Action.MODE


def _fetched(root: int, copy: int, beside: int, name: str, change: Change) -> bool:
    """Write one new content; whether it is the one that was shown."""
    after = change.entry
    if change.kind is Kind.LINK:
        os.symlink(after.target, name, dir_fd=beside)
        _own(beside, name, _owner(root, change.path))
        return True
    with ExitStack() as opening:
        try:
            parent, there = opening.enter_context(folder_of(copy, after.path))
            source = opening.enter_context(open_file(parent, there))
        except OSError:  # a link, a pipe, a folder, nothing: whatever it is by now, it is not what was shown
            return False
        target = os.open(name, _NEW, 0o600, dir_fd=beside)
        opening.callback(os.close, target)
        if copied(source, target, after.size) != (after.size, after.digest):
            return False
        _own(beside, name, _owner(root, change.path))
        os.fchmod(target, _mode(root, change))
        os.fsync(target)
    return True


def _owner(root: int, path: str) -> tuple[int, int]:
    """Whom the original belongs to, or else the nearest folder that is there."""
    for one in (*way(path), ""):
        with suppress(FileNotFoundError, NotADirectoryError), folder_of(root, one) as (parent, name):
            found = os.stat(name or ".", dir_fd=parent, follow_symlinks=False)
            return found.st_uid, found.st_gid
    return os.geteuid(), os.getegid()


def _own(parent: int, name: str, owner: tuple[int, int]) -> None:
    """Whoever is not root owns all of it anyway."""
    if os.geteuid() == 0:
        os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)


def _mode(root: int, change: Change) -> int:
    """The original's own permissions, without special bits, unless the change is about them too."""
    if change.before is not None and change.before.mode == change.entry.mode:
        with folder_of(root, change.path) as (parent, name):
            return stat.S_IMODE(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode) & 0o777
    return change.mode


# ---- the changes themselves ----------------------------------------------------------------------------------------


def _perform(root: int, beside: int, name: str, change: Change) -> str:
    """Make one change; why not, where the original moved in the meantime. What was made before a crash is made."""
    if _has_content(change) and not _is_there(beside, name):
        return ""
    found = look(root, change.path)
    if isinstance(found, LeftOut):
        return f"in the original {found.why}"
    if found is None and change.action is Action.REMOVED:
        return ""
    if why := _differs(found, change):
        return why
    try:
        with folder_of(root, change.path) as (parent, here):
            if _has_content(change):
                os.rename(name, here, src_dir_fd=beside, dst_dir_fd=parent)
            elif change.action is Action.REMOVED:
                return _removed(parent, here, change.kind)
            elif change.action is Action.MODE:
                _set_mode(parent, here, change.mode)
            elif found is None:
                os.mkdir(here, 0o700, dir_fd=parent)
                _own(parent, here, _owner(root, change.path.rpartition("/")[0]))
                _set_mode(parent, here, change.mode)
    except (FileNotFoundError, NotADirectoryError):
        return _NOWHERE
    return ""


def _removed(parent: int, name: str, kind: Kind) -> str:
    if kind is not Kind.FOLDER:
        os.unlink(name, dir_fd=parent)
        return ""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as refused:
        return f"it is not removed: {refused.strerror}"
    return ""


def _is_there(parent: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _set_mode(parent: int, name: str, mode: int) -> None:
    """Of exactly this file or folder: a link in its place is not followed."""
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if not stat.S_ISLNK(os.fstat(handle).st_mode):
            os.chmod(f"/proc/self/fd/{handle}", mode)
    finally:
        os.close(handle)
