"""Starts servers: from options, a driver's name and a task to a session, with everything of its own that it needs.

launch  (1) the driver, if it holds what is promised   (2) the mounts: a reviewed one is the task's own copy
        (3) the image, by digest                        (4) the way out, if the profile has one
        (5) one that was started ahead, or a new one
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias

from gateway.errors import PratiqueError, UpstreamError
from gateway.options import Access, ServerOptions
from gateway.outlets import equipped, outlet_for
from gateway.upstreams.launch import Record
from gateway.upstreams.table import announcement
from gateway.walls import Walls, exposed, spec_of
from policies.jsonvalue import JSONObject
from sandbox.driver import Session
from sandbox.errors import SandboxError
from sandbox.images.store import find_image
from sandbox.pool import Pool
from sandbox.spec import Mount

logger = logging.getLogger(__name__)

Kind: TypeAlias = tuple[str, str]
"""Server and driver: what one that is started ahead is good for."""


class Workspaces(Protocol):
    """Whose copies stand in for the folders that a server may write to."""

    async def mounts(self, server: ServerOptions, task: str) -> tuple[Mount, ...]: ...


@dataclass(slots=True, kw_only=True)
class _Ahead:
    """A session that was started ahead, and whom its connections are told of once it has a task."""

    session: Session
    owner: "_Owner"
    server: str
    _ending: asyncio.Task[int] = field(init=False)

    def __post_init__(self) -> None:
        self._ending = asyncio.create_task(self._end(), name="ahead")

    async def wait(self) -> int:
        return await asyncio.shield(self._ending)

    async def _end(self) -> int:
        """Its exit status; written down unless a task has taken it, whose own end that is then."""
        status = await self.session.wait()
        if not self.owner.task:
            payload: JSONObject = {"reason": "nobody had taken it", "status": status, "dropped": {}}
            try:
                await self.owner.record("server.stopped", payload, server=self.server)
            except PratiqueError:
                logger.warning("the end of an upstream could not be recorded", extra={"server": self.server})
        return status

    def kill(self) -> None:
        self.session.kill()
        self.session.stdin.close()


@dataclass(slots=True, kw_only=True)
class _Owner:
    """Records what a sandbox's way out does, under the task it serves; none yet while it waits in a pool."""

    record: Record
    task: str

    async def __call__(self, kind: str, payload: JSONObject, *, server: str, task: str = "") -> None:
        await self.record(kind, payload, server=server, task=task or self.task)


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Implements `upstreams.launch.Launch`."""

    walls: Walls
    workspaces: Workspaces
    record: Record
    state: Path
    """The gateway's own folder: no server ever sees it."""
    pool: Pool[Kind, _Ahead] = field(default_factory=Pool)

    async def __call__(self, server: ServerOptions, *, driver: str, task: str) -> Session:
        """Start one server, or hand out one that was started ahead.

        Raises:
            UpstreamError: a guarantee of the profile does not hold here, or the sandbox could not be started.
        """
        warm = self.walls.profiles[server.sandbox].warm
        if not (task and warm and is_poolable(server)):
            return await self._start(server, driver, _Owner(record=self.record, task=task))
        self.pool.keep((server.name, driver), warm, lambda: self._ahead(server, driver))
        ahead = self.pool.take((server.name, driver))
        if ahead is None:
            return await self._start(server, driver, _Owner(record=self.record, task=task))
        ahead.owner.task = task
        return ahead.session

    def warm_up(self, servers: Iterable[ServerOptions]) -> None:
        """Start ahead whatever profiles ask for, before the first task comes."""
        for server in servers:
            warm, driver = self.walls.profiles[server.sandbox].warm, self.walls.cheapest(server)
            if warm and driver and is_poolable(server):
                self.pool.keep((server.name, driver), warm, partial(self._ahead, server, driver))

    async def _ahead(self, server: ServerOptions, driver: str) -> _Ahead | None:
        """One for the pool. It runs somebody's code, so it is written down first, like any start."""
        owner = _Owner(record=self.record, task="")
        try:
            await self.record("server.started", {**announcement(server, driver), "ahead": True}, server=server.name)
            return _Ahead(session=await self._start(server, driver, owner), owner=owner, server=server.name)
        except PratiqueError as error:
            logger.warning("a server was not started ahead", extra={"server": server.name, "why": str(error)})
            return None

    async def _start(self, server: ServerOptions, driver: str, owner: _Owner) -> Session:
        profile = self.walls.profiles[server.sandbox]
        try:
            chosen = self.walls.driver(server, driver)  # (1)
            if shown := exposed((mount.path for mount in server.mounts), self.state):
                raise UpstreamError(f"server '{server.name}': {shown}")
            mounts = await self.workspaces.mounts(server, owner.task)  # (2)
            image = await asyncio.to_thread(find_image, self.state, server.image) if server.image else None  # (3)
            spec = spec_of(server, profile, mounts, image)
            outlet = outlet_for(server, profile, owner, owner.task)  # (4)
            return await chosen.start(await asyncio.to_thread(equipped, spec, outlet), outlet)  # (5)
        except SandboxError as error:
            raise UpstreamError(f"server '{server.name}' could not be started in its sandbox: {error}") from error


def is_poolable(server: ServerOptions) -> bool:
    """Whether one process is as good as another until it is spoken to: a reviewed copy belongs to one task."""
    return all(mount.access is not Access.REVIEW for mount in server.mounts)
