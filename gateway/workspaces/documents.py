"""What a person is shown of copies that differ, as JSON, and the digest that binds a yes."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from gateway.workspaces.copies import Copy
from policies.jsonvalue import canonical
from sandbox.workspace import Change, Difference, Entry, Staged, clashes, diff, unified

MAX_SHOWN_CHARS = 1_000_000
"""Characters of all texts together that are shown; past it files are named by digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One copy and what differs in it."""

    copy: Copy
    difference: Difference

    @property
    def staged(self) -> Staged:
        return self.copy.staged


def compared(copies: Sequence[Copy]) -> list[Compared]:
    """Look at every copy. Blocking.

    Raises:
        SandboxError: one holds too much to be looked at.
    """
    return [Compared(copy=copy, difference=diff(copy.staged)) for copy in copies]


def digest_of(found: Sequence[Compared]) -> str:
    """Equal while applying all of it would do the same."""
    said = [[one.copy.server, shown_name(str(one.staged.source)), one.difference.digest] for one in found]
    return sha256(canonical(said)).hexdigest()


def document(task: str, found: Sequence[Compared]) -> dict[str, Any]:
    """All that differs, each text in lines. Blocking: it reads them.

    Raises:
        SandboxError: an original is not there any more.
    """
    room = [MAX_SHOWN_CHARS]
    return {
        "task": task,
        "digest": digest_of(found),
        "changes": sum(len(one.difference.changes) + one.difference.more for one in found),
        "workspaces": [_workspace(one, room) for one in found],
    }


def shown_name(path: str) -> str:
    """A path in characters that can be sent; bytes that are none are spelled out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def path_of(staged: Staged, path: str) -> str:
    """Where a path of a copy really is."""
    return str(staged.original / path)


def _workspace(one: Compared, room: list[int]) -> dict[str, Any]:
    staged, difference = one.staged, one.difference
    moved = {clash.path: clash.why for clash in clashes(staged, difference.changes)}
    return {
        "server": one.copy.server,
        "source": shown_name(str(staged.source)),
        "changes": [_change(staged, change, moved.get(change.path, ""), room) for change in difference.changes],
        "more": difference.more,
        "left_out": [
            {"path": shown_name(path_of(staged, left.path)), "why": shown_name(left.why)}
            for left in difference.left_out
        ],
        "more_left_out": difference.more_left_out,
        "skipped": [{"path": shown_name(path_of(staged, left.path)), "why": left.why} for left in staged.skipped],
    }


def _change(staged: Staged, change: Change, clash: str, room: list[int]) -> dict[str, Any]:
    lines = unified(staged, change) if room[0] > 0 else None
    if lines is not None and (size := sum(map(len, lines))) <= room[0]:
        room[0] -= size
    else:
        lines = None
    return {
        "path": path_of(staged, change.path),
        "action": change.action.value,
        "kind": change.kind.value,
        "before": _entry(change.before),
        "after": _entry(change.after) and {**_entry(change.after), "mode": f"{change.mode:04o}"},
        "clash": clash,
        "diff": None if lines is None else list(lines),
    }


def _entry(entry: Entry | None) -> dict[str, Any]:
    """Empty of nothing."""
    if entry is None:
        return {}
    return {
        "mode": f"{entry.mode & 0o777:04o}",
        "size": entry.size,
        "sha256": entry.digest,
        "target": shown_name(entry.target),
    }
