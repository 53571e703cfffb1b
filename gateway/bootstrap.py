"""The composition root: settings in, running objects out. The only file that knows every part."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from audit.log import AuditLog
from gateway.books import GatewayBooks
from gateway.control import Control
from gateway.corridor import AgentCorridor, measures_nothing
from gateway.desk.desk import ApprovalDesk
from gateway.edges.asgi import ASGIApp
from gateway.edges.console.pages import console_app
from gateway.edges.front import by_path
from gateway.edges.http import Edge
from gateway.edges.listen import Listener, as_operator, bind_tcp, listen_tcp, listen_unix
from gateway.edges.openai.edge import ModelEdge
from gateway.edges.operators import ConsoleSessions
from gateway.edges.rest import Office, rest_app
from gateway.errors import ConfigError, Unrecordable
from gateway.keyring import open_keyring
from gateway.launcher import Launcher
from gateway.llm import mount as llm
from gateway.llm.desk import LlmDesk
from gateway.loading import (
    is_fresh,
    open_ledger,
    packs_in_force,
    policy_in_force,
    read_bundle,
    read_pack,
    recorder,
)
from gateway.options import MODEL_SERVER, Options
from gateway.options import Definitions as FirstSight
from gateway.pipeline import Pipeline
from gateway.recovery import recover
from gateway.roads import Roads
from gateway.servers import Servers
from gateway.stages.capability import Capability
from gateway.stages.confinement import Confinement
from gateway.stages.dataflow import DataFlow
from gateway.stages.definition import DefinitionStage
from gateway.stages.policy import Policy
from gateway.stores import sessions
from gateway.stores.database import Database, open_database
from gateway.stores.definitions import Definitions
from gateway.stores.files import FileLabels
from gateway.stores.ledger import Ledger
from gateway.stores.memory import Memory
from gateway.stores.sessions import LedgerSessions
from gateway.upstreams.discovery import Finder
from gateway.upstreams.table import Table
from gateway.walls import Walls, exposed, try_walls
from gateway.wire import legacy
from gateway.workspaces import Workspaces
from policies.bundle import InForce
from policies.capability import Authority, Refused

logger = logging.getLogger(__name__)

DISCOVER_S = 20.0
"""How long a start waits for the servers' first answers; slower ones join when they are there."""
TICK_S = 1.0
"""How often the clockwork looks: expired approvals, counted refusals."""


@dataclass(slots=True, kw_only=True)
class Running:
    """A gateway that is up."""

    options: Options
    port: int
    database: Database
    ledger: Ledger
    memory: Memory
    pipeline: Pipeline
    desk: ApprovalDesk
    control: Control
    servers: Servers
    workspaces: Workspaces
    sessions: ConsoleSessions
    table: Table
    books: GatewayBooks
    finder: Finder
    rules: InForce
    log: AuditLog
    unknown: int
    """Calls whose outcome was lost with the last process."""
    mounted: llm.Mounted | None
    """The gateway's own model."""
    corridor: AgentCorridor
    discovering: asyncio.Task[None]
    """The first look at every server."""

    @property
    def url(self) -> str:
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"http://{host}:{self.port}"

    async def reload_policy(self) -> None:
        """Read the bundles again. A bad one changes nothing and is named in the log; decisions under way are stale."""
        if error := self.rules.reload(self.options.bundles):
            logger.error("the policy stays as it was", extra={"error": str(error)})
            return
        await policy_in_force(self.ledger, self.rules.bundle.revision, self.options)

    def console_link(self) -> str:
        """A fresh one-time link."""
        return f"{self.url}/console/enter#{self.sessions.link()}"


async def serve(
    options: Options,
    *,
    ready: Callable[[Running], None] | None = None,
    stopping: Callable[[], None] | None = None,
) -> None:
    """Run a gateway until SIGINT or SIGTERM, reading its policy again at SIGHUP; `ready` is told when it answers, and
    `stopping` when it no longer does.

    Raises:
        PratiqueError: it cannot run with these settings, this store, or on this machine.
    """
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    reloads: list[asyncio.Task[None]] = []
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, stopped.set)
    async with running(options) as gateway:
        loop.add_signal_handler(signal.SIGHUP, lambda: reloads.append(loop.create_task(gateway.reload_policy())))
        if ready:
            ready(gateway)
        _settle_heap()
        await stopped.wait()
        if stopping:
            stopping()


def _settle_heap() -> None:
    """What start-up made stays: the collector looks at what calls make, and less often. It was a tenth of each call."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 100)


@contextlib.asynccontextmanager
async def running(options: Options, walls: Walls | None = None) -> AsyncIterator[Running]:
    """A gateway, up within the block and down after it: nothing is left that it started.

    `walls`: where the caller has tried this machine already; otherwise that is done now.
    """
    database = open_database(options.state)
    try:
        async with _assembled(options, database, walls) as gateway:
            yield gateway
    finally:
        database.close()


@contextlib.asynccontextmanager
async def _assembled(options: Options, database: Database, walls: Walls | None) -> AsyncIterator[Running]:
    """Everything built, in the order in which it needs each other; taken down in the opposite order."""
    async with contextlib.AsyncExitStack() as closing:
        yield await _build(options, database, walls, closing)


async def _build(
    options: Options, database: Database, walls: Walls | None, closing: contextlib.AsyncExitStack
) -> Running:
    _check_mounts(options)
    keyring = open_keyring(options.state, fresh=is_fresh(database))
    packs = {name: read_pack(server) for name, server in options.servers.items()}
    rules = InForce(read_bundle(options))
    bound = closing.enter_context(bind_tcp(options.host, options.port))
    if walls is None:
        walls = await try_walls(options.servers.values(), options.sandboxes, every=rules.bundle.demands_sandboxes)
    log = AuditLog(keyring.origin, keyring.signer)
    ledger = await open_ledger(database, log)
    closing.push_async_callback(ledger.stop)
    await policy_in_force(ledger, rules.bundle.revision, options)
    await packs_in_force(ledger, packs)
    reader = closing.enter_context(contextlib.closing(database.reader()))
    first_sight = {name: server.definitions for name, server in options.servers.items()}
    confines = {name: walls.confines(server) for name, server in options.servers.items()}
    if options.llm is not None:  # a server of our own: its pack and its pins are ours as well
        packs[MODEL_SERVER], confines[MODEL_SERVER] = llm.PACK, llm.CONFINES
        first_sight[MODEL_SERVER] = FirstSight.TRUST_ON_FIRST_USE
    definitions = Definitions(ledger, time.time, first_sight)
    definitions.read(reader)
    memory = Memory(
        reader=reader,
        key=keyring.equality,
        definitions=definitions,
        packs=packs,
        confines=confines,
        clock=time.time,
        files=FileLabels(mounts={name: server.mounts for name, server in options.servers.items()}),
    )
    unknown = await recover(ledger, memory.worst_label, time.time, harmless=frozenset({MODEL_SERVER}))
    mounted = await _mounted(options, ledger, memory, definitions, keyring.equality)
    await ledger.run(sessions.expire(time.time() - legacy.IDLE_S))
    workspaces = Workspaces(
        folder=options.state / "workspaces",
        ledger=ledger,
        memory=memory,
        clock=time.time,
        retire=lambda task, server: table.retire(task, server),  # noqa: PLW0108 - the table comes after
    )
    await workspaces.resume()
    launcher = Launcher(walls=walls, workspaces=workspaces, record=recorder(ledger), state=options.state)
    table = Table(
        servers=options.servers,
        launch=launcher,
        cheapest=lambda server: walls.cheapest(options.servers[server]),
        record=recorder(ledger),
        report=definitions.observe,
        pinned=lambda server: definitions.catalog.names(server),  # noqa: PLW0108 - the catalog is replaced
        sampler=mounted.sampler(lambda: corridor) if mounted else None,
    )
    roads = Roads(upstream=table, own={MODEL_SERVER: mounted.road} if mounted else {})
    limits = {**options.servers, **({MODEL_SERVER: mounted.limits()} if mounted else {})}
    finder = Finder(table=table)
    books = GatewayBooks(ledger=ledger, memory=memory, road=roads, servers=limits, clock=time.time)
    desk = ApprovalDesk(ledger=ledger, memory=memory, clock=time.time, expire_s=options.expire_s)
    pipeline = Pipeline(
        stages=(DefinitionStage(), Capability(keyring.authority), DataFlow(), Policy(rules), Confinement()),
        archive=memory,
        books=books,
        road=roads,
        desk=desk,
    )
    corridor = AgentCorridor(
        authority=keyring.authority,
        pipeline=pipeline,
        desk=desk,
        ledger=ledger,
        memory=memory,
        definitions=definitions,
        clock=time.time,
        hold_s=options.hold_s,
        measure=mounted.measure if mounted else measures_nothing,
    )
    control = Control(
        authority=keyring.authority,
        ledger=ledger,
        memory=memory,
        clock=time.time,
        servers=frozenset(limits),
        tools=lambda server: definitions.catalog.schemas(server),  # noqa: PLW0108 - the catalog is replaced
    )
    servers = Servers(options=options.servers, finder=finder, definitions=definitions, packs=packs)
    gateway = Running(
        options=options,
        port=bound.getsockname()[1],
        database=database,
        ledger=ledger,
        memory=memory,
        pipeline=pipeline,
        desk=desk,
        control=control,
        servers=servers,
        workspaces=workspaces,
        sessions=ConsoleSessions(clock=time.time),
        table=table,
        books=books,
        finder=finder,
        rules=rules,
        log=log,
        unknown=unknown,
        mounted=mounted,
        corridor=corridor,
        discovering=asyncio.create_task(finder.first()),
    )
    closing.callback(books.stop)
    closing.push_async_callback(launcher.pool.close)
    closing.push_async_callback(table.close)
    if mounted:
        mounted.model.start()
        closing.push_async_callback(mounted.model.stop)
    closing.callback(gateway.discovering.cancel)
    await asyncio.wait({gateway.discovering}, timeout=DISCOVER_S)
    launcher.warm_up(options.servers.values())
    await _open(gateway, keyring.authority, bound, closing)
    return gateway


async def _open(
    gateway: Running, authority: Authority, bound: socket.socket, closing: contextlib.AsyncExitStack
) -> None:
    """The doors: agents, programs of the model, operators and their browsers; and what happens by itself."""
    model_desk = gateway.mounted.desk if gateway.mounted else None
    office = Office(
        control=gateway.control,
        desk=gateway.desk,
        servers=gateway.servers,
        workspaces=gateway.workspaces,
        sessions=gateway.sessions,
        reader=gateway.memory.reader,
        console_url=gateway.url,
        is_agent_token=lambda token: not isinstance(authority.inspect(token), Refused),
        model=model_desk,
    )
    api = rest_app(office)
    corridor, sessions = gateway.corridor, LedgerSessions(gateway.ledger, gateway.memory.reader)
    model = ModelEdge(gateway.mounted.corridor(corridor) if gateway.mounted else None, public=gateway.url)
    is_ready = gateway.discovering.done
    beside = by_path(api, console_app(office), origin=gateway.url, is_ready=is_ready, model=model)
    edge = Edge(corridor, sessions, beside, public=gateway.url, mirrors_of=corridor.mirrors)
    listeners = await _listen(closing, edge, api, bound, gateway.options.state)
    closing.push_async_callback(_let_go, gateway, listeners)
    for work in (_clockwork(gateway), _rediscover(gateway.discovering, gateway.finder), _explain(model_desk)):
        closing.callback(asyncio.create_task(work).cancel)


def _check_mounts(options: Options) -> None:
    """Raises:
    ConfigError: a server would see the gateway's own state.
    """
    for server in options.servers.values():
        if shown := exposed((mount.path for mount in server.mounts), options.state):
            raise ConfigError(f"server '{server.name}': {shown}")


async def _mounted(
    options: Options, ledger: Ledger, memory: Memory, definitions: Definitions, key: bytes
) -> llm.Mounted | None:
    """The gateway's own model, with its tools pinned; None where the settings name none."""
    if options.llm is None:
        return None
    mounted = llm.Mounted.of(options.llm, options.extracts, ledger=ledger, memory=memory, key=key, state=options.state)
    await mounted.offer(definitions, f"pratique {version('pratique')}")
    return mounted


async def _listen(
    closing: contextlib.AsyncExitStack, edge: ASGIApp, api: ASGIApp, bound: socket.socket, state: Path
) -> tuple[Listener, ...]:
    """The three addresses: agents and browsers, the forwarder, operators."""
    uid = os.geteuid()
    operators = as_operator(api, f"control:uid={uid}")
    opened = []
    for opening in (
        listen_tcp(edge, bound),
        listen_unix(edge, state / "agent.sock", peer_uid=uid),
        listen_unix(operators, state / "control.sock", peer_uid=uid),
    ):
        opened.append(listener := await opening)
        closing.push_async_callback(listener.close)
    return tuple(opened)


async def _let_go(gateway: Running, listeners: Sequence[Listener]) -> None:
    """Nothing new, nothing held; a moment for what runs; then the servers end, and every call has its outcome."""
    gateway.corridor.is_closing = True
    gateway.desk.let_go()
    await asyncio.gather(*(listener.drain() for listener in listeners))
    if gateway.mounted:
        gateway.mounted.road.suspend_all()
    await gateway.table.close()
    await gateway.pipeline.drain()
    for listener in listeners:
        if listener.state.tasks:
            await asyncio.wait(listener.state.tasks, timeout=1.0)


async def _rediscover(first: asyncio.Task[None], finder: Finder) -> None:
    """Try the servers that were not there at start until they are."""
    await asyncio.wait({first})
    await finder.keep_trying()


async def _explain(desk: LlmDesk | None) -> None:
    """The model's words on calls that wait: in their own time, which may be long."""
    while desk is not None:
        await asyncio.sleep(TICK_S)
        try:
            await desk.explain_pending()
        except Unrecordable:
            logger.error("a summary could not be recorded")


async def _clockwork(gateway: Running) -> None:
    """What happens by itself: approvals expire, counted refusals and old sessions are written down or dropped."""
    record = recorder(gateway.ledger)
    while True:
        await asyncio.sleep(TICK_S)
        try:
            await gateway.desk.expire()
            for root, count in gateway.books.untold_refusals().items():
                await record("refusals.counted", {"root": root, "count": count}, server="")
        except Unrecordable:
            logger.error("the clockwork could not write; trying again")
