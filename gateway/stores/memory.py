"""What snapshots are made from: the committed state in memory, moved only by what is durable.

Tasks are loaded from the store when they are first met. Everything here is touched on the event loop alone; a unit's
`after` brings the news once its transaction is on disk.
"""

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from gateway.stores import budgets, tasks, tickets, values
from gateway.stores.files import NOTHING, FileLabels
from gateway.stores.tasks import Task
from gateway.stores.tickets import Ticket, TicketState
from policies.action import Action, Kind, Subject
from policies.case import Approval, Definition, Offer, Snapshot
from policies.grant import Grant
from policies.jsonvalue import JSONObject
from policies.label import Integrity, Label
from policies.pack import NO_PACK, Pack
from policies.proofs import ProofIndex
from policies.reading import Reading, overflow, read_result

NO_GRANT = Grant(rules=())


class Definitions(Protocol):
    """The pinned definitions as they stand."""

    def find(self, server: str, name: str) -> Definition | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Confines:
    """What a server's sandbox profile promises, and which sandboxes were found to hold what."""

    demanded: frozenset[str]
    offers: tuple[Offer, ...]
    """The sandboxes it may run in, the cheapest first."""
    image: str = ""
    """The digest of the image that they are made of, if any."""
    sealed: bool
    """No network and no mount of its own: even a read-only one may hold a pipe or a socket that others listen on."""


@dataclass(slots=True, kw_only=True)
class TaskMemory:
    """One task as decisions see it."""

    task: Task
    proofs: ProofIndex = field(default_factory=ProofIndex)
    endorsed: frozenset[tuple[str, str, str, str]] = frozenset()
    flows: frozenset[tuple[str, str]] = frozenset()
    approvals: dict[str, tuple[str, Approval]] = field(default_factory=dict)
    """By ticket: (server.tool, the unused yes)."""
    refused: frozenset[str] = frozenset()
    """Authority digests that a person refused."""

    @property
    def is_bounded(self) -> bool:
        grant = self.task.grant
        return grant.calls is not None or grant.tokens is not None or grant.bits is not None or bool(grant.spend)

    def endorse(self, rows: list[tuple[str, str, str, str]]) -> None:
        self.endorsed |= {row for row in rows if row[1] != "flow"}
        self.flows |= {(value, tool) for tool, path, _, value in rows if path == "flow"}

    def decided(self, ticket: Ticket) -> None:
        """Take in what became of a ticket."""
        self.approvals.pop(ticket.id, None)
        if ticket.state is TicketState.APPROVED:
            self.approvals[ticket.id] = (ticket.tool, ticket.approval)
        if ticket.state is TicketState.DENIED:
            self.refused |= {ticket.authority}


@dataclass(slots=True, kw_only=True)
class Memory:
    """The committed state of every task met so far, every holder's mark, and every revocation."""

    reader: sqlite3.Connection
    key: bytes = field(repr=False)
    definitions: Definitions
    packs: Mapping[str, Pack]
    confines: Mapping[str, Confines]
    clock: Callable[[], float]
    files: FileLabels = field(default_factory=FileLabels)
    revoked: set[str] = field(default_factory=set)
    _tasks: dict[str, TaskMemory] = field(default_factory=dict)
    _marks: dict[str, Label] = field(default_factory=dict)
    _durable: dict[str, Label] = field(default_factory=dict)
    _flow: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.revoked.update(tasks.revocations(self.reader))
        self._flow = _all_flows(self.packs.values())
        self.files.read(self.reader, worst=lambda server: self._overflow(server, ""))

    async def snapshot(self, action: Action) -> Snapshot:
        """One consistent read: nothing here awaits."""
        subject, now = action.subject, self.clock()
        memory = self.task(subject.task)
        tool = f"{action.server}.{action.name}"
        confines = self.confines.get(action.server)
        return Snapshot(
            now=now,
            task=subject.task,
            task_version=memory.task.version if memory else 0,
            grant=memory.task.grant if memory else NO_GRANT,
            revoked=memory is None or not self.is_live(subject),
            mark=self.mark(subject.holder).join(action.carried),
            proofs=memory.proofs if memory else ProofIndex(),
            endorsed=memory.endorsed if memory else frozenset(),
            flows=memory.flows if memory else frozenset(),
            flow=self._flow,
            budgets=budgets.left(self.reader, subject.root) if memory and memory.is_bounded else {},
            definition=self.definitions.find(action.server, action.name) if action.server in self.packs else None,
            pack=self.packs.get(action.server, NO_PACK),
            approvals=tuple(
                approval
                for name, approval in (memory.approvals.values() if memory else ())
                if name == tool and approval.expires > now
            ),
            refused=memory.refused if memory else frozenset(),
            key=self.key,
            offers=confines.offers if confines else (),
            image=confines.image if confines else "",
            demanded=confines.demanded if confines else frozenset(),
            sealed=confines is not None and confines.sealed,
        )

    def is_live(self, subject: Subject) -> bool:
        """Whether nothing the subject stands on was revoked or has expired."""
        memory = self.task(subject.task)
        return (
            memory is not None
            and not memory.task.revoked
            and (subject.expires is None or self.clock() < subject.expires)
            and self.revoked.isdisjoint(subject.chain)
        )

    def task(self, task: str) -> TaskMemory | None:
        """The task, read from the store when it is first met."""
        if task not in self._tasks:
            row = tasks.load(self.reader, task)
            if row is None:
                return None
            self._tasks[task] = self._load(row)
        return self._tasks[task]

    def added(self, task: Task) -> None:
        """A task that was just created, or whose rights have just moved."""
        if task.id in self._tasks:
            self._tasks[task.id].task = task
        else:
            self._tasks[task.id] = TaskMemory(task=task)

    def used(self, task: str, ticket: str) -> None:
        """A yes that a commit has used up: an equal call is a new question."""
        if memory := self.task(task):
            memory.approvals.pop(ticket, None)

    def mark(self, holder: str) -> Label:
        if holder not in self._marks:
            self._marks[holder] = self._durable[holder] = values.mark_of(self.reader, holder)
        return self._marks[holder]

    def is_callable(self, tool: Definition) -> bool:
        """Whether agents call it as a tool; what the model does has a road of its own."""
        return self.packs.get(tool.server, NO_PACK).tool(tool.name).kind is Kind.CALL_TOOL

    def raise_mark(self, holder: str, label: Label, *, durable: bool = False) -> None:
        """Join `label` into the holder's mark; `durable` where a unit has just written it."""
        self._marks[holder] = self.mark(holder).join(label.coarse())
        if durable:
            self._durable[holder] = self._durable[holder].join(label.coarse())

    def mark_to_write(self, holder: str, label: Label) -> Label | None:
        """The mark once `label` is joined to it; None where that is on disk already, as for most results."""
        raised = self.mark(holder).join(label.coarse())
        return None if raised == self._durable[holder] else raised

    def worst_label(self, server: str, tool: str) -> Label:
        """The label that a result of this tool may have, whatever it says."""
        return self._overflow(server, tool).join(self.files.carried(server).label)

    def _overflow(self, server: str, tool: str) -> Label:
        pack = self.packs.get(server, NO_PACK).tool(tool)
        # what was given to a tool of our own is in the mark already: its answer adds that a model chose the words
        return Label(integrity=Integrity.UNTRUSTED) if pack.inside else overflow(pack, server, tool, "").label

    def read(self, action: Action, result: JSONObject | None) -> Reading:
        """What a result is worth under the operator's pack; none came, or past what a task may remember: the worst.

        Whatever it says, it may have been read from a file in the server's mounts.
        """
        return self._with_files(action.server, self._read(action, result))

    def _with_files(self, server: str, reading: Reading) -> Reading:
        """The reading under the labels of those files; what another server wrote proves nothing."""
        carried = self.files.carried(server)
        if carried is NOTHING:
            return reading
        atoms = () if carried.is_foreign else reading.atoms
        return replace(reading, label=reading.label.join(carried.label), atoms=atoms)

    def _read(self, action: Action, result: JSONObject | None) -> Reading:
        tool = self.packs.get(action.server, NO_PACK).tool(action.name)
        if result is not None:
            reading = read_result(result, tool, action.server, action.name, action.id)
            memory = self.task(action.subject.task)
            if memory is None:
                return reading
            if memory.proofs.has_room_for(news := memory.proofs.news(reading)):
                return news
        return overflow(tool, action.server, action.name, action.id)

    def learn(self, task: str, reading: Reading) -> None:
        """Take a durable result's proofs in."""
        if memory := self.task(task):
            memory.proofs.add(reading)

    def _load(self, row: Task) -> TaskMemory:
        memory = TaskMemory(task=row)
        memory.endorse(tickets.endorsements(self.reader, row.id))
        for state in (TicketState.APPROVED, TicketState.DENIED):
            for ticket in tickets.listed(self.reader, state=state, task=row.id, limit=10_000):
                memory.decided(ticket)
        for past in values.proving(self.reader, row.id):
            if (body := past.body) is not None:
                tool = self.packs.get(past.server, NO_PACK).tool(past.tool)
                memory.proofs.take(read_result(body, tool, past.server, past.tool, past.action))
        return memory


def _all_flows(packs: Iterable[Pack]) -> dict[str, tuple[str, ...]]:
    flows: dict[str, tuple[str, ...]] = {}
    for pack in packs:
        for name, sinks in pack.flow.items():
            flows[name] = flows.get(name, ()) + sinks
    return flows
