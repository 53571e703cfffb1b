"""Pinned definitions: what a server said of its tools when that was first believed, and what it says now.

A row keeps the pinned body; beside it stands what the server offers when that differs, and then the tool is quarantined
until a person accepts it or the server takes it back. The server's instructions are the row whose name is empty. A tool
that is no longer listed stays pinned, unlisted. Rows change in units; the catalog that decisions read is replaced after
they are durable.
"""

import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from audit.event import Event
from gateway import options
from gateway.errors import OperatorError
from gateway.ids import new_id
from gateway.ports import Done, Ledger
from policies.case import Definition, Pin
from policies.describe import Described, Survey
from policies.jsonvalue import JSON, JSONObject, canonical


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One row as a person sees it (`server diff`): what is pinned, and what the server offers instead."""

    server: str
    name: str
    """Empty: the server's instructions."""
    pin: Pin
    digest: str
    body: JSON = field(repr=False)
    offered_digest: str = ""
    """Empty unless it differs from what is pinned."""
    offered_body: JSON = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """Everything pinned, at one moment. Immutable."""

    rows: Mapping[tuple[str, str], Offer] = field(default_factory=dict)
    tools: Mapping[tuple[str, str], Definition] = field(default_factory=dict)
    listed: frozenset[tuple[str, str]] = frozenset()
    """What was on its server's last listing; nothing, until the server has been discovered."""
    refused: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Tools of the last listing that were not taken, and why."""

    def find(self, server: str, name: str) -> Definition | None:
        return self.tools.get((server, name))

    def instructions(self, server: str) -> str:
        """The accepted instructions; empty while they are changed, pending or absent."""
        row = self.rows.get((server, ""))
        return row.body if row is not None and row.pin is Pin.PINNED and (server, "") in self.listed else ""

    def callable(self, server: str | None = None) -> tuple[Definition, ...]:
        """The tools that an agent may be shown: pinned and still listed, ordered by server and name."""
        keys = sorted(key for key in self.listed if key in self.tools and server in {None, key[0]})
        return tuple(self.tools[key] for key in keys if self.tools[key].pin is Pin.PINNED)

    def names(self, server: str) -> frozenset[str]:
        """The names of a server's tools that are known, whatever their standing."""
        return frozenset(name for owner, name in self.tools if owner == server)


class _Heard(NamedTuple):
    """What this process has heard since it started; not durable."""

    listed: frozenset[str]
    refused: Mapping[str, str]


class Definitions:
    """The catalog, and the units that change it."""

    def __init__(self, ledger: Ledger, clock: Callable[[], float], policies: Mapping[str, options.Definitions]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._policies = policies
        """By server: what first sight is worth."""
        self._heard: dict[str, _Heard] = {}
        self._catalog = Catalog()

    @property
    def catalog(self) -> Catalog:
        return self._catalog

    def find(self, server: str, name: str) -> Definition | None:
        return self._catalog.find(server, name)

    def read(self, db: sqlite3.Connection) -> None:
        """Take in what the store holds, at start."""
        self._install(_rows(db))

    async def observe(self, survey: Survey) -> None:
        """Pin what is new, quarantine what changed, forgive what was taken back. The catalog has it on return.

        Raises:
            Unrecordable: nothing was written, and the catalog is as it was.
        """
        said = dict(survey.offered)
        if survey.instructions is not None:
            said[""] = survey.instructions
        if not self._is_news(survey, said):
            return
        trusted = self._policies.get(survey.server) is options.Definitions.TRUST_ON_FIRST_USE

        def unit(db: sqlite3.Connection) -> Done[None]:
            events = [
                event
                for described in said.values()
                if (event := _observe(db, survey.server, described, trusted, self._clock()))
            ]
            rows = _rows(db)

            def after() -> None:
                self._heard[survey.server] = _Heard(frozenset(said), dict(survey.refused))
                self._install(rows)

            return Done(value=None, events=events, after=after)

        await self._ledger.run(unit)

    async def accept(self, server: str, tool: str | None, by: str, *, seen: str = "") -> tuple[str, ...]:
        """Pin what the server offers now: of one tool (empty name: its instructions), or of all that wait.

        `seen` is the digest that the person was shown; another one by now is refused.

        Raises:
            OperatorError: nothing waits, or it is no longer what was seen.
            Unrecordable: nothing was written.
        """

        def unit(db: sqlite3.Connection) -> Done[tuple[str, ...] | OperatorError]:
            waiting = [
                row
                for row in _rows(db).values()
                if row.server == server and row.pin is not Pin.PINNED and tool in {None, row.name}
            ]
            if not waiting:
                return Done(value=OperatorError("nothing of that waits to be accepted", status=404), keep=False)
            if seen and any((row.offered_digest or row.digest) != seen for row in waiting):
                return Done(value=OperatorError("the server offers another definition by now"), keep=False)
            events = [_accept(db, row, by, self._clock()) for row in waiting]
            rows = _rows(db)
            names = tuple(row.name for row in waiting)
            return Done(value=names, events=events, after=lambda: self._install(rows))

        done = await self._ledger.run(unit)
        if isinstance(done, OperatorError):
            raise done
        return done

    def _is_news(self, survey: Survey, said: Mapping[str, Described]) -> bool:
        """Whether a listing says anything that the catalog does not hold: most connections only say the same again."""
        if self._heard.get(survey.server) != _Heard(frozenset(said), dict(survey.refused)):
            return True
        rows = (self._catalog.rows[survey.server, name] for name in said)
        return any(
            (row.offered_digest or row.digest) != each.digest for row, each in zip(rows, said.values(), strict=True)
        )

    def _install(self, rows: Mapping[tuple[str, str], Offer]) -> None:
        self._catalog = Catalog(
            rows=rows,
            tools=MappingProxyType({key: _definition(row) for key, row in rows.items() if row.name}),
            listed=frozenset((server, name) for server, heard in self._heard.items() for name in heard.listed),
            refused={(server, name): why for server, h in self._heard.items() for name, why in h.refused.items()},
        )


_COLUMNS = "server, name, digest, body, pin, offered_digest, offered_body"


def _rows(db: sqlite3.Connection) -> Mapping[tuple[str, str], Offer]:
    found = db.execute(f"SELECT {_COLUMNS} FROM definitions ORDER BY server, name")  # noqa: S608 - a constant
    return MappingProxyType({(row[0], row[1]): _offer(row) for row in found})


def _offer(row: tuple[Any, ...]) -> Offer:
    server, name, digest, body, pin, offered_digest, offered_body = row
    return Offer(
        server=server,
        name=name,
        pin=Pin(pin),
        digest=digest,
        body=json.loads(body),
        offered_digest=offered_digest or "",
        offered_body=None if offered_body is None else json.loads(offered_body),
    )


def _definition(row: Offer) -> Definition:
    return Definition(server=row.server, name=row.name, digest=row.digest, body=row.body, pin=row.pin)


def _observe(db: sqlite3.Connection, server: str, said: Described, trusted: bool, now: float) -> Event | None:
    """Bring one row up to what the server says; the event, where that is news."""
    select = f"SELECT {_COLUMNS} FROM definitions WHERE server = ? AND name = ?"  # noqa: S608 - a constant
    name = said.name
    found = db.execute(select, (server, name)).fetchone()
    body = canonical(said.body).decode()
    if found is None:
        pin = Pin.PINNED if trusted else Pin.PENDING
        values = (server, name, said.digest, body, pin.value, now)
        db.execute("INSERT INTO definitions (server, name, digest, body, pin, time) VALUES (?, ?, ?, ?, ?, ?)", values)
        return _event(
            "definition.pinned", server, name, now, {"digest": said.digest, "body": said.body, "pin": pin.value}
        )
    row = _offer(found)
    if said.digest == (row.offered_digest or row.digest):
        return None
    was = {"was": row.digest, "offered_before": row.offered_digest}
    if row.pin is Pin.PENDING:
        _write(db, row, now, digest=said.digest, body=body)
    elif said.digest == row.digest:
        _write(db, row, now, pin=Pin.PINNED, offered_digest=None, offered_body=None)
        return _event("definition.pinned", server, name, now, {**was, "digest": said.digest, "taken_back": True})
    else:
        _write(db, row, now, pin=Pin.CHANGED, offered_digest=said.digest, offered_body=body)
    return _event("definition.changed", server, name, now, {**was, "digest": said.digest, "body": said.body})


def _accept(db: sqlite3.Connection, row: Offer, by: str, now: float) -> Event:
    digest = row.offered_digest or row.digest
    body = row.offered_body if row.offered_digest else row.body
    text = canonical(body).decode()
    _write(db, row, now, pin=Pin.PINNED, digest=digest, body=text, offered_digest=None, offered_body=None)
    payload = {"was": row.digest, "digest": digest, "body": body, "by": by}
    return _event("definition.accepted", row.server, row.name, now, payload)


def _write(db: sqlite3.Connection, row: Offer, now: float, **values: str | None) -> None:
    columns = ", ".join(f"{column} = ?" for column in values)
    statement = f"UPDATE definitions SET {columns}, time = ? WHERE server = ? AND name = ?"  # noqa: S608 - our names
    db.execute(statement, (*values.values(), now, row.server, row.name))


def _event(kind: str, server: str, name: str, now: float, payload: JSONObject) -> Event:
    return Event(id=new_id("evt"), kind=kind, time=now, server=server, tool=name, payload=payload)
