"""What edges may ask for an agent: admit it, list what its token reaches, mediate one call and hold for a person.

Holding is this file's business, not the pipeline's: while it waits it has no unit, budget, upstream or read open, and
if the client goes away the wait ends and nothing is executed.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import TypeAlias

from gateway.ids import new_id
from gateway.pipeline import Pipeline
from gateway.ports import Answer, Desk, Done, Ledger, Progress, Unauthorised
from gateway.stages.evidence import event_of
from gateway.stores.definitions import Definitions
from gateway.stores.memory import Memory
from gateway.wire.mirrors import Mirror, mirrors
from policies.action import MEDIATED, Action, Kind, Subject
from policies.capability import Authority, Refused
from policies.case import Definition, Pin
from policies.jsonvalue import JSONObject, digest
from policies.verdict import Code

_UNSTAGED = frozenset(Kind) - MEDIATED

MAX_LISTED = 10_000
"""Listings that are remembered, so that an equal one is not recorded again."""
TICK_S = 5.0
"""How often a held call shows that it still waits."""
TICK = 2.0**-20
"""What each tick adds to the progress shown: far below one, so that a tool's own numbers still rise above it."""


Measure: TypeAlias = Callable[[str, str, JSONObject], Awaitable[tuple[tuple[str, int], ...]]]


async def measures_nothing(server: str, tool: str, arguments: JSONObject) -> tuple[tuple[str, int], ...]:
    """Where there is no model."""
    del server, tool, arguments
    return ()


@dataclass(slots=True, kw_only=True)
class AgentCorridor:
    """Implements `ports.Corridor`."""

    authority: Authority
    pipeline: Pipeline
    desk: Desk
    ledger: Ledger
    memory: Memory
    definitions: Definitions
    clock: Callable[[], float]
    hold_s: float
    measure: Measure = measures_nothing
    """What a call of (server, tool, arguments) needs beside what its arguments say."""
    is_closing: bool = False
    """Nothing is held any more: what waits for a person is `pending`, and an equal call meets the answer later."""
    _listed: dict[tuple[str, str], str] = field(default_factory=dict)
    """What each token was last shown, by digest."""
    _mirrors: dict[str, tuple[Mirror, ...]] = field(default_factory=dict)
    """By definition digest."""

    def admit(self, credential: str) -> Subject | Unauthorised:
        """Who holds this token; a sentence for whoever presented it where it cannot be taken."""
        subject = self.authority.read(credential, now=self.clock())
        if isinstance(subject, Refused):
            return Unauthorised(subject.reason)
        if not self.memory.is_live(subject):
            return Unauthorised("the token was revoked or has expired; ask for a new grant")
        return subject

    def is_live(self, subject: Subject) -> bool:
        return self.memory.is_live(subject)

    async def tools(self, subject: Subject, server: str | None) -> list[JSONObject]:
        """The pinned tools that some rule of the grant names, sorted by public name; the listing is recorded."""
        listed = [
            {**tool.body, "name": tool.name if server else f"{tool.server}__{tool.name}"}
            for tool in self.definitions.catalog.callable(server)
            if self._reaches(subject, tool) and self.memory.is_callable(tool)
        ]
        listed.sort(key=lambda tool: str(tool["name"]))
        await self._shown(subject, server or "", listed)
        return listed

    async def call(
        self, subject: Subject, server: str, tool: str, arguments: JSONObject, progress: Progress | None = None
    ) -> Answer:
        """Mediate one call; while a person is asked, hold as long as the settings say, then answer `pending`.

        Raises:
            Unrecordable: the ledger could not write; nothing ran.
        """
        action = Action(
            id=new_id("act"),
            kind=Kind.CALL_TOOL,
            subject=subject,
            server=server,
            name=tool,
            arguments=arguments,
            takes=await self.measure(server, tool, arguments),
        )
        return await self.held(action, progress)

    async def held(self, action: Action, progress: Progress | None = None) -> Answer:
        """Mediate an action, holding as `call` does.

        Raises:
            Unrecordable: the ledger could not write; nothing ran.
        """
        shown = _Rising(progress, lambda: self._expose(action)) if progress else None
        answer = await self.pipeline.mediate(action, shown.report if shown else None)
        until = monotonic() + self.hold_s
        while answer.code is Code.PENDING and (left := until - monotonic()) > 0 and not self.is_closing:
            if await self.desk.decided(answer.ticket, min(left, TICK_S)) and not self.is_closing:
                answer = await self.pipeline.mediate(action, shown.report if shown else None)
            elif shown:
                shown.tick()
        return answer

    def mirrors(self, subject: Subject, server: str, tool: str) -> tuple[Mirror, ...]:
        """Which arguments of a pinned tool in the subject's reach are mirrored in headers."""
        definition = self.definitions.find(server, tool)
        if definition is None or definition.pin is not Pin.PINNED or not self._reaches(subject, definition):
            return ()
        if definition.digest not in self._mirrors:
            self._mirrors[definition.digest] = mirrors(definition.body.get("inputSchema"))
        return self._mirrors[definition.digest]

    async def refuse_method(self, subject: Subject, method: str, params: JSONObject) -> None:
        """A method that has no stages yet is an action all the same: the pipeline refuses it, and the log has it."""
        if method in _UNSTAGED:
            await self.pipeline.mediate(
                Action(id=new_id("act"), kind=Kind(method), subject=subject, server="", name="", arguments=params)
            )

    def _reaches(self, subject: Subject, tool: Definition) -> bool:
        """Whether some rule of the grant names the tool; with which arguments is judged per call."""
        memory = self.memory.task(subject.task)
        rules = memory.task.grant.rules if memory else ()
        return any(rule.server == tool.server and rule.tool in ("*", tool.name) for rule in rules)

    async def _shown(self, subject: Subject, server: str, listed: list[JSONObject]) -> None:
        """Record what an agent was shown, unless it is what this token was shown last: lists are asked for often."""
        shown = digest(listed)
        if self._listed.get((subject.token, server)) == shown:
            return
        await self._record(subject, "listed", {"tools": [tool["name"] for tool in listed], "sha256": shown})
        if len(self._listed) >= MAX_LISTED:
            self._listed.pop(next(iter(self._listed)))
        self._listed[subject.token, server] = shown

    async def _record(self, subject: Subject, kind: str, payload: JSONObject) -> None:
        action = Action(id="", kind=Kind.CALL_TOOL, subject=subject, server="", name="", arguments={})
        event = event_of(action, kind, self.clock(), payload, verdict="")
        await self.ledger.run(lambda _db: Done(value=None, events=(event,)))

    def _expose(self, action: Action) -> None:
        """Before the first number of a tool leaves: a number is 52 bits of somebody's data."""
        self.memory.raise_mark(action.subject.holder, self.memory.worst_label(action.server, action.name))


class _Rising:
    """Progress as it leaves: finite, strictly rising, and never before the mark has risen."""

    def __init__(self, send: Progress, expose: Callable[[], None]) -> None:
        self._send = send
        self._expose = expose
        self._last = 0.0
        self._exposed = False

    def report(self, progress: float, total: float | None) -> None:
        """One of the tool's own numbers."""
        if progress <= self._last:
            return
        if not self._exposed:
            self._expose()
            self._exposed = True
        self._last = progress
        self._send(progress, total)

    def tick(self) -> None:
        """A sign of life of ours while a person is asked; says nothing of any tool."""
        self._last += TICK
        self._send(self._last, None)
