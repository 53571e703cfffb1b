"""The table of upstream servers: the only holder of roads to their tools.

A process serves one task: connections are keyed by (principal, task, server, sandbox driver), started when a call
needs one, closed when idle. Starting one runs untrusted code, so it is written to the log before it happens. Servers
that fail to start are left alone for a while, doubling; none disturbs another.

What a server offers is taken from the operator's own process alone, which no task has spoken to. Where a task's process
lists something else, the operator looks again, and only that decides for everybody.

A server may list more to a client that answers its requests for a model. So the operator's process is told that they
are wherever there is a model, and gets no answer: it works on no call. A task's process is told so where its grant lets
the server ask, and may otherwise list less.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TypeAlias

from gateway.errors import PratiqueError, Unrecordable, UpstreamError
from gateway.options import ServerOptions
from gateway.ports import Intent, Outcome, OutcomeKind, Progress, Sampler
from gateway.upstreams.backoff import Backoff
from gateway.upstreams.handshake import ProbeFailed
from gateway.upstreams.launch import Launch, Record
from gateway.upstreams.peer import Listing, Peer
from gateway.upstreams.stdio import Connection
from gateway.wire import upstream
from gateway.wire.upstream import Era
from policies.action import Action
from policies.describe import Survey, survey
from policies.jsonvalue import JSONObject
from policies.verdict import Code

logger = logging.getLogger(__name__)

Key: TypeAlias = tuple[str, str, str, str]
"""Principal, task, server, sandbox driver."""

Report: TypeAlias = Callable[[Survey], Awaitable[None]]
"""Told of every discovery; returns once it is durable."""
Pinned: TypeAlias = Callable[[str], frozenset[str]]
"""The names of a server's tools that are pinned already."""

CLOSED = "the gateway is closing"
DROPPED = "its workspace was dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """What the operator's own connection found."""

    era: Era
    survey: Survey


@dataclass(slots=True, kw_only=True)
class Table:
    """Implements `ports.Road` over stdio servers."""

    servers: Mapping[str, ServerOptions]
    launch: Launch
    record: Record
    report: Report
    pinned: Pinned
    sampler: Sampler | None = None
    """Who answers servers that ask for a model; None: there is no model, and no server is told of one."""
    cheapest: Callable[[str], str] = lambda _: ""
    """The sandbox driver in which the operator looks at a server: the one that calls without special demands get."""
    start_s: float = 30.0
    """How long a server may take to start, answer the greeting and list its tools, each."""
    idle_s: float = 300.0
    most: int = 64
    """Processes at once."""
    backoffs: dict[str, Backoff] = field(default_factory=dict)
    on_difference: Callable[[str], None] = lambda _: None
    """Told of a server when a task's process lists something else than the operator's did."""
    _discovered: dict[str, Mapping[str, str]] = field(default_factory=dict)
    """What each server listed for the operator, as digests."""
    _eras: dict[str, Era] = field(default_factory=dict)
    """The era each server was discovered in; a task's connection is opened in that one and no other."""
    _peers: dict[Key, Peer] = field(default_factory=dict)
    _starting: dict[Key, asyncio.Task[Peer]] = field(default_factory=dict)
    _calls: dict[str, Peer | None] = field(default_factory=dict)
    """In flight, by action; None while its server is still starting."""
    _called_off: set[str] = field(default_factory=set)
    _endings: set[asyncio.Task[None]] = field(default_factory=set)
    _closed: bool = False

    # ---- the road ---------------------------------------------------------------------------------------------

    def frame(self, action: Action) -> bytes:
        """The bytes that `execute` would send for this action, in the era its server was discovered in."""
        era = self._eras.get(action.server, Era.LEGACY)
        return upstream.call(era, action, samples=self._samples(action.subject.task, action.server))

    async def execute(self, intent: Intent, progress: Progress | None = None) -> Outcome:
        """Send the frame once and wait for its answer, the deadline, or the end of the server. Never raises.

        A broad catch (decision 10): somebody else's program is on the other side, and a call without an outcome blocks
        its equals for ever.
        """
        action = intent.action
        if action.id in self._calls:
            return _not_sent(Code.DUPLICATE, "this action is in flight already")
        self._calls[action.id] = None
        try:
            return await self._execute(intent, progress)
        except Exception:
            logger.exception("a road broke", extra={"server": action.server, "action": action.id})
            return self._broken(self._calls[action.id])
        finally:
            del self._calls[action.id]
            self._called_off.discard(action.id)

    def cancel(self, action_id: str) -> None:
        """Ask the server to stop; the outcome is still awaited and recorded."""
        if action_id in self._calls:
            self._called_off.add(action_id)
            if (peer := self._calls[action_id]) is not None:
                peer.calls.cancel(action_id)

    # ---- for the operator -------------------------------------------------------------------------------------

    async def discover(self, server: str) -> Discovery:
        """Start the server for the operator, end it, and report what it offered.

        Raises:
            UpstreamError: it could not be started, spoken to or understood.
            Unrecordable: that it was started, or what it offers, could not be recorded.
        """
        options = self.servers[server]
        try:
            peer, listing = await self._start(options, driver=self.cheapest(server), task="", era=None)
        except ProbeFailed:
            peer, listing = await self._start(options, driver=self.cheapest(server), task="", era=Era.LEGACY)
        self._end(peer, "discovered")
        assert peer.greeting is not None
        era = peer.greeting.era
        found = await asyncio.to_thread(survey, server, listing.tools, listing.instructions, self.pinned(server))
        await self.report(found)
        self._discovered[server] = listing.digests
        if self._eras.get(server, era) is not era:
            for key in [key for key in self._peers if key[2] == server]:
                self._end(self._peers.pop(key), "the server now speaks another era of the protocol")
        self._eras[server] = era
        self._backoff(server).succeeded()
        return Discovery(era=era, survey=found)

    def retire(self, task: str, server: str) -> None:
        """End a task's processes of a server: what they stand in is about to go."""
        for key in [key for key in self._peers if key[1:3] == (task, server)]:
            self._end(self._peers.pop(key), DROPPED)
        for key in [key for key in self._starting if key[1:3] == (task, server)]:
            self._starting[key].cancel()

    async def close(self) -> None:
        """End every server; what is in flight has an unknown outcome."""
        self._closed = True
        for starting in self._starting.values():
            starting.cancel()
        await asyncio.gather(*self._starting.values(), return_exceptions=True)
        for key in list(self._peers):
            self._end(self._peers.pop(key), CLOSED)
        while self._endings:
            await asyncio.gather(*self._endings, return_exceptions=True)

    # ---- one call ---------------------------------------------------------------------------------------------

    async def _execute(self, intent: Intent, progress: Progress | None) -> Outcome:
        action, definition = intent.action, intent.case.seen.definition
        loop = asyncio.get_running_loop()
        ends = loop.time() + intent.deadline_s
        subject, options = action.subject, self.servers.get(action.server)
        if options is None:
            return _not_sent(Code.UNKNOWN_TOOL, "no such server")
        key = (subject.principal, subject.task, action.server, intent.case.sandbox)
        peer = self._peers.get(key)
        if peer is None or not peer.settled.is_set():
            try:
                async with asyncio.timeout_at(ends):
                    peer = peer or await self._peer(key, options)
                    await peer.settled.wait()
            except TimeoutError:
                return _not_sent(Code.UPSTREAM_TIMEOUT, "the server was not ready in time")
            except Unrecordable as error:
                return _not_sent(Code.UNAVAILABLE, str(error))
            except UpstreamError as error:
                return _not_sent(Code.UPSTREAM_FAILED, str(error))
            except Overloaded:
                return _not_sent(Code.OVERLOADED, f"{self.most} servers run already, all busy")
        if action.name not in peer.offered and self.sampler is not None and not peer.samples:
            return _not_sent(
                Code.NO_CAPABILITY, "this process offers no such tool; its task has no grant for the model"
            )
        if definition is None or peer.offered.get(action.name) != definition.digest:
            return _not_sent(Code.DEFINITION_CHANGED, "this process offers another definition than the one decided on")
        if self.frame(action) != intent.frame:
            return _not_sent(Code.DEFINITION_CHANGED, "the frame is not what the server would be sent now")
        if action.id in self._called_off:
            return _not_sent(Code.UPSTREAM_FAILED, "cancelled before it was sent")
        self._calls[action.id] = peer
        outcome = await peer.calls.make(action, intent.frame, ends, partial(self._announce, action), progress)
        peer.used = loop.time()
        return outcome

    async def _announce(self, action: Action, frame: bytes) -> None:
        """The log has every frame before a tool does: this one is not in the sealed intent."""
        payload: JSONObject = {"action": action.id, "sha256": sha256(frame).hexdigest(), "bytes": len(frame)}
        await self.record("effect.continued", payload, server=action.server, task=action.subject.task)

    async def _peer(self, key: Key, options: ServerOptions) -> Peer:
        """The connection for `key`, started by whoever needs it first and shared by all who wait."""
        starting = self._starting.get(key)
        if starting is None:
            if self._closed:
                raise UpstreamError(CLOSED)
            starting = asyncio.create_task(self._open(key, options), name="upstream start")
            self._starting[key] = starting
            starting.add_done_callback(lambda done: self._started(key, done))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            if starting.cancelled():
                raise UpstreamError(CLOSED if self._closed else DROPPED) from None
            raise

    def _started(self, key: Key, done: asyncio.Task[Peer]) -> None:
        del self._starting[key]
        if not done.cancelled():
            done.exception()  # whoever waits has it; where nobody does any more, it is not news either

    async def _open(self, key: Key, options: ServerOptions) -> Peer:
        loop, backoff = asyncio.get_running_loop(), self._backoff(options.name)
        if (wait_s := backoff.wait_s(loop.time())) > 0:
            raise UpstreamError(f"server '{options.name}' is tried again in {wait_s:.0f} s; {backoff.reason}")
        era = self._eras.get(options.name)
        if era is None:
            raise UpstreamError(f"server '{options.name}' has not been discovered yet")
        self._make_room()
        try:
            peer, listing = await self._start(options, driver=key[3], task=key[1], era=era)
        except UpstreamError as error:
            backoff.failed(loop.time(), str(error))
            raise
        backoff.succeeded()
        peer.used = loop.time()
        if peer.connection.ended:
            raise UpstreamError(f"server '{options.name}': {peer.connection.ended}")
        peer.on_listed = lambda listing: self._compare(options.name, listing, peer.samples)
        self._compare(options.name, listing, peer.samples)
        peer.connection.on_end = lambda reason: self._gone(key, reason)
        self._peers[key] = peer
        loop.call_later(self.idle_s, self._close_if_idle, key, peer)
        return peer

    async def _start(self, options: ServerOptions, *, driver: str, task: str, era: Era | None) -> tuple[Peer, Listing]:
        await self.record("server.started", announcement(options, driver), server=options.name, task=task)
        session = await self.launch(options, driver=driver, task=task)
        peer = Peer(
            options=options,
            task=task,
            connection=Connection(session=session, max_result_bytes=options.max_result_bytes),
            timeout_s=self.start_s,
            sampler=self.sampler if self._samples(task, options.name) else None,
        )
        return peer, await peer.open(era)

    def _samples(self, task: str, server: str) -> bool:
        """Whether a process for this task (none: the operator's own look) is told that a model answers it."""
        return self.sampler is not None and (not task or self.sampler.offers(task, server))

    def _compare(self, server: str, listing: Listing, samples: bool) -> None:
        found, discovered = listing.digests, self._discovered.get(server, {})
        is_told_less = self.sampler is not None and not samples
        if found != discovered and not (is_told_less and found.items() <= discovered.items()):
            self.on_difference(server)

    def _broken(self, peer: Peer | None) -> Outcome:
        """What became of a call whose road broke; its server is not used again."""
        if peer is None:
            return _not_sent(Code.UPSTREAM_FAILED, "the road to the server broke before anything was sent")
        peer.connection.end("the road to it broke")
        return Outcome(kind=OutcomeKind.UNKNOWN, code=Code.UPSTREAM_FAILED, detail="the road to the server broke")

    # ---- ends -------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Raises:
        Overloaded: as many run as may, and none is idle.
        """
        if len(self._peers) + len(self._starting) <= self.most:
            return
        idle = [(peer.used, key) for key, peer in self._peers.items() if not peer.is_busy]
        if not idle:
            raise Overloaded
        key = min(idle)[1]
        self._end(self._peers.pop(key), "room is needed for another server")

    def _close_if_idle(self, key: Key, peer: Peer) -> None:
        if self._peers.get(key) is not peer:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + self.idle_s if peer.is_busy else peer.used + self.idle_s
        if due > loop.time():
            loop.call_at(due, self._close_if_idle, key, peer)
        else:
            self._end(self._peers.pop(key), "idle")

    def _gone(self, key: Key, reason: str) -> None:
        """The connection ended by itself: the next call gets a new one."""
        if (peer := self._peers.pop(key, None)) is not None:
            self._end(peer, reason)

    def _end(self, peer: Peer, reason: str) -> None:
        peer.connection.on_end = lambda _: None
        ending = asyncio.create_task(self._finish(peer, reason), name="upstream end")
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def _finish(self, peer: Peer, reason: str) -> None:
        status = await peer.close(reason, politely=not peer.connection.ended)
        noise = peer.connection.noise
        dropped = {
            "late": noise.late,
            "malformed": noise.malformed,
            "refused": noise.refused,
            "ignored": noise.ignored,
        }
        payload: JSONObject = {"reason": reason, "status": status, "dropped": dropped}
        try:
            await self.record("server.stopped", payload, server=peer.options.name, task=peer.task)
        except PratiqueError:
            logger.warning("the end of an upstream could not be recorded", extra={"server": peer.options.name})

    def _backoff(self, server: str) -> Backoff:
        return self.backoffs.setdefault(server, Backoff())


class Overloaded(Exception):
    """No more processes may run."""


def announcement(options: ServerOptions, driver: str) -> JSONObject:
    """What is about to run, for the log: names of variables, never their values."""
    return {
        "argv": list(options.command),
        "sandbox": options.sandbox,
        "driver": driver,
        "image": options.image or "",
        "network": options.network.value,
        "mounts": [{"path": str(mount.path), "access": mount.access.value} for mount in options.mounts],
        "env": sorted(options.env),
    }


def _not_sent(code: Code, detail: str) -> Outcome:
    return Outcome(kind=OutcomeKind.NOT_SENT, code=code, detail=detail)
