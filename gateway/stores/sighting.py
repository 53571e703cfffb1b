"""One discovery of one server, as it is written: the rows of `definitions`, and what each may become.

A row keeps the pinned body; beside it stands what the server offers when that differs, and then the tool is quarantined
until a person accepts it or the server takes it back. The instructions are the row whose name is empty; it stands from
first use on. What waited and is no longer offered waits no more.
"""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from audit.event import Event
from gateway.ids import new_id
from policies.case import Pin
from policies.describe import Described, described
from policies.jsonvalue import JSON, JSONObject, canonical

MAX_ROWS = 1_024
MAX_BYTES = 8_000_000
"""What is kept of one server; the discovery that would pass it is told so, tool by tool."""
NO_INSTRUCTIONS = described("", "")


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


class Sighting:
    """One discovery of one server, as it is written."""

    def __init__(self, db: sqlite3.Connection, server: str, now: float, *, trusting: bool) -> None:
        self._db, self._server, self._now = db, server, now
        found = db.execute(f"SELECT {_COLUMNS} FROM definitions WHERE server = ?", (server,))  # noqa: S608 - a constant
        self._rows = {row[1]: _offer(row) for row in found}
        self._bytes = sum(len(canonical(row.body)) + len(canonical(row.offered_body)) for row in self._rows.values())
        self._trusted = trusting and not self._rows
        self.refused: dict[str, str] = {}
        """New ones for which there is no room, and why."""
        if "" not in self._rows:
            self._insert(NO_INSTRUCTIONS, Pin.PINNED)  # from here on, even a server that offered nothing was used

    def withdraw(self, said: Mapping[str, Described]) -> list[Event]:
        """What waited and is no longer offered cannot be accepted, and takes no room."""
        events = []
        for row in [row for row in self._rows.values() if row.pin is not Pin.PINNED and row.name not in said]:
            if row.pin is Pin.PENDING:
                self._delete(row.name)
            else:
                self._write(row, pin=Pin.PINNED, offered_digest=None, offered_body=None)
            self._bytes -= len(canonical(row.offered_body if row.offered_digest else row.body))
            events.append(self._event("definition.withdrawn", row.name, {"digest": row.offered_digest or row.digest}))
        return events

    def observe(self, said: Described) -> Event | None:
        """Bring one row up to what the server says; the event, where that is news.

        A body enters the log when it is pinned, when it first differs, and when it is accepted: what a server says
        meanwhile, as often as it likes, is named by its digest.
        """
        row = self._rows.get(said.name)
        if row is None or row.body == row.name == "":  # a server that had no instructions until now
            return self._first_seen(said)
        if said.digest == (row.offered_digest or row.digest):
            return None
        was = {"was": row.digest, "offered_before": row.offered_digest, "digest": said.digest}
        if row.pin is Pin.PENDING:
            self._write(row, digest=said.digest, body=canonical(said.body).decode())
        elif said.digest == row.digest:
            self._write(row, pin=Pin.PINNED, offered_digest=None, offered_body=None)
            return self._event("definition.pinned", said.name, {**was, "taken_back": True})
        else:
            self._write(row, pin=Pin.CHANGED, offered_digest=said.digest, offered_body=canonical(said.body).decode())
        body = {"body": said.body} if row.pin is Pin.PINNED else {}
        return self._event("definition.changed", said.name, {**was, **body})

    def _first_seen(self, said: Described) -> Event | None:
        size = len(canonical(said.body))
        if len(self._rows) >= MAX_ROWS or self._bytes + size > MAX_BYTES:
            self.refused[said.name] = f"more than {MAX_ROWS} definitions or {MAX_BYTES} bytes of this server are kept"
            return None
        self._bytes += size
        pin = Pin.PINNED if self._trusted else Pin.PENDING
        self._insert(said, pin)
        body = {"body": said.body} if self._trusted else {}
        return self._event("definition.pinned", said.name, {"digest": said.digest, **body, "pin": pin.value})

    def _delete(self, name: str) -> None:
        if name:
            self._db.execute("DELETE FROM definitions WHERE server = ? AND name = ?", (self._server, name))
            del self._rows[name]
        else:
            self._insert(NO_INSTRUCTIONS, Pin.PINNED)

    def _insert(self, said: Described, pin: Pin) -> None:
        body = canonical(said.body).decode()
        values = (self._server, said.name, said.digest, body, pin.value, self._now)
        insert = "INSERT OR REPLACE INTO definitions (server, name, digest, body, pin, time) VALUES (?, ?, ?, ?, ?, ?)"
        self._db.execute(insert, values)
        self._rows[said.name] = Offer(server=self._server, name=said.name, pin=pin, digest=said.digest, body=said.body)

    def _write(self, row: Offer, **values: str | None) -> None:
        write(self._db, row, self._now, **values)

    def _event(self, kind: str, name: str, payload: JSONObject) -> Event:
        return event_of(kind, self._server, name, self._now, payload)


_COLUMNS = "server, name, digest, body, pin, offered_digest, offered_body"


def rows_of(db: sqlite3.Connection) -> Mapping[tuple[str, str], Offer]:
    """Every row, by server and name."""
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


def write(db: sqlite3.Connection, row: Offer, now: float, **values: str | None) -> None:
    columns = ", ".join(f"{column} = ?" for column in values)
    statement = f"UPDATE definitions SET {columns}, time = ? WHERE server = ? AND name = ?"  # noqa: S608 - our names
    db.execute(statement, (*values.values(), now, row.server, row.name))


def event_of(kind: str, server: str, name: str, now: float, payload: JSONObject) -> Event:
    return Event(id=new_id("evt"), kind=kind, time=now, server=server, tool=name, payload=payload)
