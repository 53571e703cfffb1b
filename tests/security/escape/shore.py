"""Where the probes are tried: the island, its engine, the drivers as seen from there, and a report of each kept."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Final

from security.escape.baits import laid
from security.escape.defences import without
from security.escape.engine import engine
from security.escape.island import Island, island
from security.escape.judge import Report, tried
from security.escape.probes import main as _  # noqa: F401  # the probes enter the table
from security.escape.probes.table import PROBES
from support.drivers import find

from sandbox.driver import Driver

ORDER: Final = ("files", "proc", "network", "control", "kernel", "times", "resources")
"""Those that may end their whole sandbox come last, and have one of their own."""


@dataclass(slots=True, kw_only=True)
class Shore:
    island: Island
    socket: str
    """The engine's."""
    _drivers: dict[str, Driver] = field(default_factory=dict)
    _reports: dict[tuple[str, str, bool], Report] = field(default_factory=dict)

    def driver(self, name: str) -> Driver:
        """As it is found by whoever is on the island."""
        if name not in self._drivers:
            with _engine_at(self.socket):
                self._drivers[name] = self.island.call(lambda: find(name))
        return self._drivers[name]

    def defended(self, name: str, *, resources: bool) -> Report:
        """All the probes of resources, or all the others, in a sandbox as it should be."""
        names = [one for one in _ordered() if (PROBES[one].group == "resources") == resources]
        return self._report("", name, names, resources=resources)

    def weakened(self, defence: str, name: str) -> Report:
        """The probes that this defence is to stop, without it."""
        return self._report(defence, name, [one for one in _ordered() if PROBES[one].stopped_by == defence])

    def _report(self, defence: str, name: str, names: Sequence[str], *, resources: bool = False) -> Report:
        key = (defence, name, resources)
        if key not in self._reports:
            driver = None if name == "nothing" else self.driver(name)
            self._reports[key] = self.island.call(lambda: self._try(defence, name, driver, names))
        return self._reports[key]

    def _try(self, defence: str, name: str, driver: Driver | None, names: Sequence[str]) -> Report:
        with laid(self.socket, name) as bait:
            starts = driver if driver and not defence else without(defence, driver, bait)
            return asyncio.run(tried(starts, name, bait, names))


@contextmanager
def shore() -> Iterator[Shore]:
    with ExitStack() as undo:
        land = undo.enter_context(island())
        there = engine()
        socket = land.call(there.__enter__)
        undo.callback(land.call, lambda: there.__exit__(None, None, None))
        yield Shore(island=land, socket=socket)


def _ordered() -> list[str]:
    return sorted(PROBES, key=lambda name: ORDER.index(PROBES[name].group))  # stable: the table's order within a group


@contextmanager
def _engine_at(socket: str) -> Iterator[None]:
    before = os.environ.get("DOCKER_HOST")
    os.environ["DOCKER_HOST"] = f"unix://{socket}"
    try:
        yield
    finally:
        os.environ.pop("DOCKER_HOST")
        if before is not None:
            os.environ["DOCKER_HOST"] = before
