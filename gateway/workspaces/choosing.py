"""From the paths that a person named to contents that stand ready beside their originals: all of them, or none."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from gateway.errors import OperatorError
from gateway.workspaces.copies import Copy
from gateway.workspaces.documents import Compared, path_of
from sandbox.workspace import Change, Prepared, abandon, chosen, prepare

Left: TypeAlias = list[dict[str, str]]
"""Paths that were left alone, each with why."""
Ready: TypeAlias = list[tuple[Copy, Prepared]]


def prepared(found: Sequence[Compared], paths: Collection[str], note: Mapping[str, Any]) -> tuple[Ready, Left]:
    """What was chosen (everything where no path is named), ready; or why some of it is not, and nothing is ready.

    Raises:
        OperatorError: a path is not in the difference (422), or there is nothing to apply (409).
        SandboxError: an original cannot be written.
    """
    _check_known(paths, found)
    ready: Ready = []
    left: Left = []
    try:
        for one in found:
            changes = _wanted(one, paths) if paths else one.difference.changes
            made = prepare(one.staged, changes, note) if changes else ()
            if isinstance(made, Prepared):
                ready.append((one.copy, made))
            else:
                left += [{"path": path_of(one.staged, refused.path), "why": refused.why} for refused in made]
    except BaseException:
        forget(ready)
        raise
    if left:
        forget(ready)
        return [], left
    if not ready:
        raise OperatorError("nothing differs: there is nothing to apply")
    return ready, []


def forget(ready: Ready) -> None:
    """Nothing of it is applied."""
    for _, one in ready:
        abandon(one)


def _wanted(one: Compared, paths: Collection[str]) -> tuple[Change, ...]:
    changes, root = one.difference.changes, one.staged.original
    named = [Path(path) for path in paths]
    return chosen(changes, {str(path.relative_to(root)) for path in named if path.is_relative_to(root)})


def _check_known(paths: Collection[str], found: Sequence[Compared]) -> None:
    known = {path_of(one.staged, change.path) for one in found for change in one.difference.changes}
    for path in sorted(paths):
        if path not in known:
            raise OperatorError(f"{path} is not in the difference", status=422)
