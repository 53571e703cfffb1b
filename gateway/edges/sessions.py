"""Legacy sessions between memory and disk: a restarted gateway still knows them, as most clients never start over."""

from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from gateway.errors import Unrecordable
from gateway.ids import new_id
from gateway.stores.sessions import Session as Row
from gateway.wire.http import Reply
from gateway.wire.jsonrpc import Request
from gateway.wire.legacy import Legacy, Opened, Session

TOUCH_S = 60.0
"""How often the last use of a session is written down: it only has to be right to a fraction of the idle bound."""


class SessionStore(Protocol):
    """Where sessions are rows; each change is durable when it returns."""

    async def save(self, session: Row) -> None: ...

    async def load(self, session_id: str) -> Row | None: ...

    async def touch(self, session_id: str, now: float) -> None: ...

    async def delete(self, session_id: str) -> None: ...


class Sessions:
    """The machine's sessions, kept equal to the rows."""

    def __init__(self, machine: Legacy, store: SessionStore, clock: Callable[[], float]) -> None:
        self._machine = machine
        self._store = store
        self._clock = clock
        self._written: dict[str, float] = {}
        """When the last use of each was written."""

    async def open(self, request: Request, owner: str) -> Reply:
        """Answer a handshake; the session is on disk before its client learns of it.

        Raises:
            Unrecordable: there is no session.
        """
        now = self._clock()
        outcome = self._machine.initialize(request, owner=owner, session_id=new_id("ses"), now=now)
        if not isinstance(outcome, Opened):
            return outcome
        for session_id in (*outcome.displaced, *self._machine.expired(now)):
            await self.end(session_id)
        session = outcome.session
        await self._store.save(Row(id=session.id, owner=owner, body={"version": session.version}, touched=now))
        self._written[session.id] = now
        self._machine.resume(session)
        return outcome.reply

    async def find(self, session_id: str, owner: str) -> Session | None:
        """The session, for its owner, while it lives; from its row where an earlier process opened it."""
        now = self._clock()
        if not self._machine.knows(session_id):
            row = await self._store.load(session_id)
            if row is None:
                return None
            self._machine.resume(Session(row.id, row.owner, str(row.body.get("version")), row.touched))
            self._written.setdefault(session_id, row.touched)
        session = self._machine.find(session_id, owner, now)
        if session is not None and now - self._written[session_id] > TOUCH_S:
            self._written[session_id] = now
            with suppress(Unrecordable):  # it only lives less long after a restart
                await self._store.touch(session_id, now)
        return session

    async def end(self, session_id: str) -> None:
        """Forget it, on disk first.

        Raises:
            Unrecordable: it is still there.
        """
        await self._store.delete(session_id)
        self._machine.end(session_id)
        self._written.pop(session_id, None)
