"""The road from a person's yes to the originals.

apply   (1) the difference once more: another digest than the one that was shown is a conflict
        (2) every new content stands beside its original, as it was shown
        (3) the files' labels and the event are durable
        (4) the contents are renamed into place; a crash from here on is finished by `resume`
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gateway.errors import OperatorError, Unrecordable
from gateway.options import Access, ServerOptions
from gateway.ports import Ledger
from gateway.stores import tasks
from gateway.stores.memory import Memory
from gateway.workspaces.choosing import Left, Ready, forget, prepared
from gateway.workspaces.copies import Copies, Copy, as_it_is
from gateway.workspaces.documents import Compared, compared, digest_of, document, path_of, shown_name
from gateway.workspaces.register import Register
from sandbox.errors import SandboxError
from sandbox.spec import Mount
from sandbox.workspace import commit, diff, drop, load, unfinished

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_TOLD = 10
"""Paths that one sentence names."""


@dataclass(slots=True, kw_only=True)
class Workspaces:
    """All copies of this gateway, for the servers that write to them and the operators who decide."""

    folder: Path
    ledger: Ledger
    memory: Memory
    clock: Callable[[], float]
    retire: Callable[[str, str], None] = lambda _task, _server: None
    """Told of a task and a server whose copy is about to go, so that no process goes on in it."""
    register: Register = field(init=False)
    _copies: Copies = field(init=False)
    _acting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One apply or drop at a time: what is compared is what is then changed."""
    _acts: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.register = Register(ledger=self.ledger, memory=self.memory, clock=self.clock)
        self._copies = Copies(folder=self.folder)

    async def mounts(self, server: ServerOptions, task: str) -> tuple[Mount, ...]:
        """The server's own mounts, at their places: a task's copies of the `rw` ones.

        The operator's own process (no task) sees the originals of those, and writes to nothing of them.

        Raises:
            SandboxError: a copy cannot be made.
        """
        if task and any(mount.access is Access.REVIEW for mount in server.mounts):
            return await asyncio.to_thread(self._copies.mounts, server, task)
        return tuple(map(as_it_is, server.mounts))

    # ---- for operators ------------------------------------------------------------------------------------------

    async def listed(self) -> list[dict[str, Any]]:
        """Each task whose copies differ, and how many changes of which server wait to be looked at."""
        return await asyncio.to_thread(lambda: list(filter(None, map(self._counted, self._copies.tasks()))))

    async def shown(self, task: str, server: str | None = None) -> dict[str, Any]:
        """What differs, for people, and the digest that a yes has to carry.

        Raises:
            OperatorError: there is no such workspace (404), or it cannot be looked at (409).
        """
        with _told():
            return await asyncio.to_thread(lambda: document(task, self._found(task, server)))

    async def apply(
        self, task: str, server: str | None, paths: Sequence[str], *, digest: str, by: str
    ) -> dict[str, Any]:
        """Make what was chosen real: all of it where no path is named. Done whatever becomes of whoever asked.

        Raises:
            OperatorError: it is not what was shown, or an original changed since (409); no such path (422).
            Unrecordable: nothing was changed.
        """
        return await self._owned(self._apply(task, server, frozenset(paths), digest, by))

    async def drop(self, task: str, server: str | None = None, *, digest: str = "", by: str) -> dict[str, Any]:
        """Forget the copies of a task, or of one of its servers; whatever is there where no digest is given.

        Raises:
            OperatorError: no such workspace (404), or not what was shown any more (409).
            Unrecordable: nothing was dropped.
        """
        return await self._owned(self._drop(task, server, digest, by))

    async def resume(self) -> None:
        """At start: finish what a crash interrupted, and drop copies of ended tasks that hold nothing new.

        Raises:
            Unrecordable: it could not be written down, so it was not done.
        """
        async with self._acting:
            for copy in [copy for task in self._copies.tasks() for copy in self._copies.found(task)]:
                try:
                    await self._finish([copy])
                    if self._is_over(copy.task):
                        await asyncio.to_thread(_drop_if_clean, copy)
                except SandboxError as error:
                    logger.warning("a workspace was left as it is", extra={"task": copy.task, "error": str(error)})

    # ---- acts ---------------------------------------------------------------------------------------------------

    async def _apply(
        self, task: str, server: str | None, paths: frozenset[str], digest: str, by: str
    ) -> dict[str, Any]:
        await self._finish(await asyncio.to_thread(self._copies.found, task, server))
        found = await self._as_shown(task, server, digest)
        if not paths and any(one.difference.more for one in found):
            raise OperatorError("there are more changes than can be shown: name the paths to apply, or drop it all")
        note = {"by": by, "digest": digest}
        ready, refused = await asyncio.to_thread(prepared, found, paths, note)
        if refused:
            await self.register.conflict(task, server or "", note, refused)
            raise OperatorError(f"nothing was applied: {_sentence(refused)}")
        try:
            await self.register.applied(ready, note)
        except Unrecordable:
            await asyncio.to_thread(forget, ready)
            raise
        left = await self._commit(ready, note)
        named = {one["path"] for one in left}
        done = [path_of(one.staged, change.path) for _, one in ready for change in one.changes]
        return {"applied": [path for path in done if path not in named], "left": left}

    async def _drop(self, task: str, server: str | None, digest: str, by: str) -> dict[str, Any]:
        await self._finish(await asyncio.to_thread(self._copies.found, task, server))
        found = await self._as_shown(task, server, digest) if digest else None
        copies = [one.copy for one in found] if found else await asyncio.to_thread(self._copies.found, task, server)
        if not copies:
            raise _none_of(task, server)
        for name in sorted({copy.server for copy in copies}):
            payload = {"by": by, "digest": digest, "sources": _sources(copy for copy in copies if copy.server == name)}
            await self.register.dropped(task, name, payload)
            self.retire(task, name)
        for copy in copies:
            await asyncio.to_thread(drop, copy.staged.folder)
        return {"task": task, "dropped": _sources(copies)}

    async def _finish(self, copies: Sequence[Copy]) -> None:
        """What an apply left to do when a crash, or a disk, stopped it."""
        for copy in copies:
            left = await asyncio.to_thread(unfinished, copy.staged)
            if left is not None:
                note = {**left.note, "resumed": True}
                await self.register.applied([(copy, left)], note)
                await self._commit([(copy, left)], note)

    async def _as_shown(self, task: str, server: str | None, digest: str) -> list[Compared]:
        found = await asyncio.to_thread(self._found, task, server)
        if digest_of(found) != digest:
            raise OperatorError("this is not what was shown any more: look again")
        return found

    async def _commit(self, ready: Ready, note: Mapping[str, Any]) -> Left:
        """(4) What was left alone because its original changed at the last moment."""
        left: Left = []
        for copy, one in ready:
            refused = await asyncio.to_thread(commit, one)
            told = [{"path": path_of(copy.staged, refusal.path), "why": refusal.why} for refusal in refused]
            if told:
                await self.register.conflict(copy.task, copy.server, note, told)
            left += told
        return left

    # ---- looking ------------------------------------------------------------------------------------------------

    def _found(self, task: str, server: str | None) -> list[Compared]:
        copies = self._copies.found(task, server)
        if not copies:
            raise _none_of(task, server)
        return compared(copies)

    def _counted(self, task: str) -> dict[str, Any] | None:
        servers: dict[str, int] = {}
        for copy in self._copies.found(task):
            try:
                difference = diff(copy.staged)
            except SandboxError:
                changes = 1  # more than can be counted; looking at it says so
            else:
                changes = len(difference.changes) + difference.more
            if changes:
                servers[copy.server] = servers.get(copy.server, 0) + changes
        return {"task": task, "servers": servers} if servers else None

    def _is_over(self, task: str) -> bool:
        row = tasks.load(self.memory.reader, task)
        return row is None or row.revoked or (row.grant.expires is not None and row.grant.expires <= self.clock())

    # ---- writing down -------------------------------------------------------------------------------------------

    async def _owned(self, act: Coroutine[Any, Any, T]) -> T:
        """An act in a task of ours, one after the other; its errors in a person's words."""

        async def acted() -> T:
            async with self._acting:
                with _told():
                    return await act

        task = asyncio.create_task(acted())
        self._acts.add(task)
        task.add_done_callback(self._acts.discard)
        return await asyncio.shield(task)


@contextmanager
def _told() -> Iterator[None]:
    """What a workspace cannot do, as an operator's refusal."""
    try:
        yield
    except SandboxError as error:
        raise OperatorError(str(error)) from error


def _drop_if_clean(copy: Copy) -> None:
    if (staged := load(copy.staged.folder)) is not None and not diff(staged).changes:
        drop(staged.folder)


def _none_of(task: str, server: str | None) -> OperatorError:
    return OperatorError(f"no workspace of {task}" + (f" and {server}" if server else ""), status=404)


def _sources(copies: Iterable[Copy]) -> list[str]:
    return [shown_name(str(copy.staged.source)) for copy in copies]


def _sentence(left: Left) -> str:
    """Why nothing was applied, by the first few paths."""
    said = "; ".join(f"{one['path']}: {one['why']}" for one in left[:MAX_TOLD])
    return f"{said}; and {len(left) - MAX_TOLD} more" if len(left) > MAX_TOLD else said
