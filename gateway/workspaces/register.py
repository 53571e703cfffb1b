"""What is written down of workspaces: events for the log, and labels for the files, before anything is changed."""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from audit.event import Event
from gateway.errors import OperatorError
from gateway.ids import new_id
from gateway.ports import Done, Ledger
from gateway.stores import files, tasks
from gateway.stores.files import FileLabel
from gateway.stores.memory import Memory
from gateway.workspaces.choosing import Left, Ready
from gateway.workspaces.copies import Copy
from gateway.workspaces.documents import path_of
from policies.label import Label, join_all
from sandbox.workspace import Action, Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """Every method returns once it is durable, or raises `Unrecordable`: then nothing was written."""

    ledger: Ledger
    memory: Memory
    clock: Callable[[], float]

    async def applied(self, ready: Ready, note: Mapping[str, Any]) -> None:
        """Before anything is changed: that it will be, and whose data the files will hold."""
        events, rows = [], []
        for copy, one in ready:
            label, now = self._label(copy), self.clock()
            said = [_said(path_of(copy.staged, change.path), change) for change in one.changes]
            payload = {**note, "changes": said}
            events.append(self._event("workspace.applied", payload, task=copy.task, server=copy.server))
            rows += [
                FileLabel(
                    path=path_of(copy.staged, change.path),
                    server=copy.server,
                    label=label,
                    task=copy.task,
                    digest=change.after.digest,
                    time=now,
                )
                for change in one.changes
                if change.after is not None and change.action is not Action.MODE
            ]

        def unit(db: sqlite3.Connection) -> Done[None]:
            raised = files.raise_labels(db, rows)
            return Done(value=None, events=events, after=lambda: self.memory.files.raised(raised))

        await self.ledger.run(unit)

    async def conflict(self, task: str, server: str, note: Mapping[str, Any], left: Left) -> None:
        """What was not applied, and why."""
        await self._record(self._event("workspace.conflict", {**note, "left": left}, task=task, server=server))

    async def dropped(self, task: str, server: str, payload: dict[str, Any]) -> None:
        await self._record(self._event("workspace.dropped", payload, task=task, server=server))

    async def cleared(self, path: str, *, by: str) -> list[str]:
        """Forget the labels at a path and beneath it: a person vouches for what is there.

        Raises:
            OperatorError: nothing there is labelled (404).
        """

        def unit(db: sqlite3.Connection) -> Done[tuple[FileLabel, ...]]:
            rows = files.clear(db, path)
            event = self._event("workspace.cleared", {"by": by, "paths": sorted({row.path for row in rows})})
            return Done(value=rows, events=(event,) if rows else (), after=lambda: self.memory.files.cleared(rows))

        if not (cleared := await self.ledger.run(unit)):
            raise OperatorError(f"nothing at {path} is labelled", status=404)
        return sorted({row.path for row in cleared})

    def labelled(self) -> list[FileLabel]:
        """Every path that carries a label."""
        return list(files.listed(self.memory.reader))

    def _label(self, copy: Copy) -> Label:
        """What a file that this server wrote for this task may hold: all that the task's holders have read, and
        whatever the server says."""
        holders = {token.holder for token in tasks.tokens_of(self.memory.reader, copy.task)}
        return join_all((self.memory.worst_label(copy.server, ""), *map(self.memory.mark, sorted(holders))))

    async def _record(self, event: Event) -> None:
        await self.ledger.run(lambda _db: Done(value=None, events=(event,)))

    def _event(self, kind: str, payload: dict[str, Any], *, task: str = "", server: str = "") -> Event:
        return Event(id=new_id("evt"), kind=kind, time=self.clock(), payload=payload, task=task, server=server)


def _said(path: str, change: Change) -> dict[str, Any]:
    """One change, for the log."""
    digest = change.after.digest if change.after else ""
    said = {"path": path, "action": change.action.value, "kind": change.kind.value, "sha256": digest}
    return {**said, "mode": f"{change.mode:04o}"}
