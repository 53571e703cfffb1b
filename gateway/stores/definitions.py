"""Pinned definitions: what a server said of its tools when that was first believed, and what it says now.

First use is the server's, not the tool's: what it says when it is first discovered may be believed; a tool that comes
later waits for a person (`sighting.py`). A tool that is no longer listed stays pinned, unlisted. Rows change in units;
the catalog that decisions read is replaced after they are durable.
"""

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from audit.event import Event
from gateway import options
from gateway.errors import OperatorError
from gateway.ports import Done, Ledger
from gateway.stores.sighting import Offer, Sighting, event_of, rows_of, write
from policies.case import Definition, Pin
from policies.describe import Described, Survey
from policies.jsonvalue import JSON, canonical


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

    def schemas(self, server: str) -> dict[str, JSON]:
        """The input schema of each of a server's tools, accepted or not; none until it has been discovered once."""
        return {name: tool.body.get("inputSchema") for (owner, name), tool in self.tools.items() if owner == server}

    def names(self, server: str) -> frozenset[str]:
        """The names of a server's tools that were accepted once, whatever became of them."""
        return frozenset(
            name for (owner, name), tool in self.tools.items() if owner == server and tool.pin is not Pin.PENDING
        )


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
        self._install(rows_of(db))

    async def observe(self, survey: Survey) -> None:
        """Take in a discovery: pin it on first use, or keep what is new waiting, quarantine what changed, forgive what
        was taken back. For the operator's own discoveries alone. The catalog has it on return.

        Raises:
            Unrecordable: nothing was written, and the catalog is as it was.
        """
        said = survey.said
        if not self._is_news(survey, said):
            return
        trusting = self._policies.get(survey.server) is options.Definitions.TRUST_ON_FIRST_USE

        def unit(db: sqlite3.Connection) -> Done[None]:
            seen = Sighting(db, survey.server, self._clock(), trusting=trusting)
            events = [*seen.withdraw(said), *(event for each in said.values() if (event := seen.observe(each)))]
            rows = rows_of(db)

            def after() -> None:
                refused = {**survey.refused, **seen.refused}
                self._heard[survey.server] = _Heard(frozenset(said) - seen.refused.keys(), refused)
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
                for row in rows_of(db).values()
                if row.server == server and row.pin is not Pin.PINNED and tool in {None, row.name}
            ]
            if not waiting:
                return Done(value=OperatorError("nothing of that waits to be accepted", status=404), keep=False)
            if seen and any((row.offered_digest or row.digest) != seen for row in waiting):
                return Done(value=OperatorError("the server offers another definition by now"), keep=False)
            events = [_accept(db, row, by, self._clock()) for row in waiting]
            rows = rows_of(db)
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


def _definition(row: Offer) -> Definition:
    return Definition(server=row.server, name=row.name, digest=row.digest, body=row.body, pin=row.pin)


def _accept(db: sqlite3.Connection, row: Offer, by: str, now: float) -> Event:
    digest = row.offered_digest or row.digest
    body = row.offered_body if row.offered_digest else row.body
    text = canonical(body).decode()
    write(db, row, now, pin=Pin.PINNED, digest=digest, body=text, offered_digest=None, offered_body=None)
    payload = {"was": row.digest, "digest": digest, "body": body, "by": by}
    return event_of("definition.accepted", row.server, row.name, now, payload)
