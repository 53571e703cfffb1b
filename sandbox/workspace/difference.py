"""What a copy holds otherwise than its manifest: what a person is asked about, and what is never applied.

Whoever made the changes is hostile. What could mislead or lead out is named and left out: links that leave the
workspace, pipes, sockets and devices, names that cannot be shown, set-user-id bits.
"""

import hashlib
import json
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from sandbox.errors import SandboxError
from sandbox.workspace.entry import Entry, Kind, LeftOut
from sandbox.workspace.staging import Staged
from sandbox.workspace.tree import MAX_BYTES, MAX_DEPTH, MAX_ENTRIES, entry_of, joined, opened, walk

MAX_CHANGES: Final = 2_000
"""Changes that one difference names, in the order of their paths; what is past them is counted, not applied."""
MAX_LINKS: Final = 100
"""Links that one is followed through; the kernel follows 40. More than that is a circle, and leads nowhere."""
MAX_STEPS: Final = 2_000
"""Steps of a way through links; what is longer than that is taken to lead out."""
MAX_LEFT_OUT: Final = 200
"""Things left out that are named one by one."""


class Action(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"
    MODE = "mode"
    """Its permissions alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One path that is not what it was. What became of another kind is removed and added."""

    action: Action
    before: Entry | None
    """As staged; None: it was not there."""
    after: Entry | None
    """As found; None: it is gone."""

    @property
    def entry(self) -> Entry:
        """What it is, or was."""
        found = self.after or self.before
        assert found is not None
        return found

    @property
    def path(self) -> str:
        return self.entry.path

    @property
    def kind(self) -> Kind:
        return self.entry.kind

    @property
    def mode(self) -> int:
        """The permissions that it gets: no special bits, and nothing new that others may write to."""
        return self.entry.mode & (0o755 if self.action is Action.ADDED else 0o777)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Everything that can be applied, and what cannot."""

    changes: tuple[Change, ...]
    left_out: tuple[LeftOut, ...] = ()
    more: int = 0
    """Changes past `MAX_CHANGES`."""
    more_left_out: int = 0

    @property
    def digest(self) -> str:
        """Equal for differences that would have the same effect if all of them were applied."""
        said = [
            [change.action, change.kind, change.path, change.mode, _content(change.before), _content(change.after)]
            for change in self.changes
        ]
        return hashlib.sha256(json.dumps([said, self.more]).encode()).hexdigest()


def diff(staged: Staged) -> Difference:
    """Compare a copy with its manifest. What was not touched since is not read again.

    Raises:
        SandboxError: the copy holds too much to be looked at.
    """
    try:
        with opened(staged.copy) as root:
            found, left = _found(staged, root)
    except OSError as broken:
        raise SandboxError("workspace", f"{staged.copy}: {broken.strerror}", "Drop it.") from broken
    changes = []
    links = {path: entry.target for path, entry in found.items() if entry.kind is Kind.LINK}
    for change in _changes(staged.entries, found, {one.path for one in left}):
        if why := _unfit(change, links):
            left.append(LeftOut(path=change.path, why=why))
            continue
        if change.after is not None and change.after.mode & 0o7000 and change.kind is not Kind.LINK:
            left.append(LeftOut(path=change.path, why="its set-user-id, set-group-id or sticky bit"))
        changes.append(change)
    return Difference(
        changes=tuple(changes[:MAX_CHANGES]),
        left_out=tuple(left[:MAX_LEFT_OUT]),
        more=max(0, len(changes) - MAX_CHANGES),
        more_left_out=max(0, len(left) - MAX_LEFT_OUT),
    )


def chosen(changes: Sequence[Change], paths: Collection[str]) -> tuple[Change, ...]:
    """The changes at exactly these paths, and the new folders that they need."""
    wanted = {change.path for change in changes if change.path in paths}
    made = {change.path for change in changes if change.action is Action.ADDED and change.kind is Kind.FOLDER}
    wanted |= {folder for path in wanted for folder in way(path) if folder in made}
    return tuple(change for change in changes if change.path in wanted)


def way(path: str) -> Iterator[str]:
    """The path, and every folder that it is in."""
    while path:
        yield path
        path = path.rpartition("/")[0]


def _found(staged: Staged, root: int) -> tuple[dict[str, Entry], list[LeftOut]]:
    found: dict[str, Entry] = {}
    left: list[LeftOut] = []
    room = MAX_BYTES
    for level in walk(root, most=2 * MAX_ENTRIES):
        if isinstance(level, LeftOut):
            left.append(level)
            continue
        for name, _ in level.children:
            path = joined(level.path, name)
            known = staged.entries.get(path)
            entry = entry_of(level.descriptor, name, path, limit_bytes=room, known=known)
            if isinstance(entry, LeftOut):
                left.append(entry)
            elif entry is not None:
                found[path] = entry
                room -= 0 if known is not None and known.digest == entry.digest else entry.size
    return found, left


def _changes(before: Mapping[str, Entry], after: Mapping[str, Entry], hidden: set[str]) -> Iterator[Change]:
    for path in sorted(before.keys() | after.keys()):
        was, now = before.get(path), after.get(path)
        if now is None:
            if not _is_in(path, hidden):
                yield Change(action=Action.REMOVED, before=was, after=None)
        elif was is None:
            yield Change(action=Action.ADDED, before=None, after=now)
        elif was.kind is not now.kind:
            yield Change(action=Action.REMOVED, before=was, after=None)
            yield Change(action=Action.ADDED, before=None, after=now)
        elif not was.says_what(now):
            yield Change(action=Action.CHANGED, before=was, after=now)
        elif was.mode != now.mode:
            yield Change(action=Action.MODE, before=was, after=now)


def _is_in(path: str, hidden: set[str]) -> bool:
    """Whether it lies where we could not look: then nobody knows that it is gone."""
    return bool(hidden) and ("" in hidden or any(one in hidden for one in way(path)))


def _unfit(change: Change, links: Mapping[str, str]) -> str:
    """Why this is never applied; empty where it may be."""
    if not change.path.isprintable():
        return "its name holds characters that cannot be shown"
    if change.after is not None and change.kind is Kind.LINK:
        target = change.after.target
        if not target.isprintable():
            return "a link to a name that cannot be shown"
        if leads_out(change.path, target) or _leads_on(change.path, links):
            return f"a link that leads out of the workspace: {target}"
    return ""


def leads_out(path: str, target: str) -> bool:
    """Whether a link at `path` could leave the workspace: only steps up at its start can be counted on."""
    steps = [step for step in target.split("/") if step not in ("", ".")]
    up = next((count for count, step in enumerate(steps) if step != ".."), len(steps))
    return target.startswith("/") or ".." in steps[up:] or up > path.count("/")


def _leads_on(path: str, links: Mapping[str, str]) -> bool:
    """Whether the links that it leads through, a person's own among them, lead out in the end."""
    here, todo, followed, steps = list[str](), deque(path.split("/")), 0, 0
    while todo and followed < MAX_LINKS:
        if (steps := steps + 1) > MAX_STEPS:
            return True
        step = todo.popleft()
        if step in ("", "."):
            continue
        if step != "..":
            here.append(step)
        elif not here:
            return True
        else:
            here.pop()
        is_looked_at = step != ".." and len(here) <= MAX_DEPTH + 2  # deeper there is none
        if is_looked_at and (target := links.get("/".join(here))) is not None:
            if target.startswith("/"):
                return True
            followed += 1
            here.pop()
            todo.extendleft(reversed(target.split("/")))
    return False


def _content(entry: Entry | None) -> str | None:
    return None if entry is None else f"{entry.kind}:{entry.digest or entry.target}"
