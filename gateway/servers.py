"""The servers as operators see them: how each is, what it says of itself, what of that waits to be accepted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.errors import OperatorError
from gateway.options import Network, ServerOptions
from gateway.stores.definitions import Definitions
from gateway.stores.sighting import Offer
from gateway.upstreams.discovery import Finder
from policies.case import Pin
from policies.describe import diff
from policies.fit import pack_problems
from policies.pack import Pack


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """A view over the settings, the discoveries and the pins."""

    options: Mapping[str, ServerOptions]
    finder: Finder
    definitions: Definitions
    packs: Mapping[str, Pack]

    def listed(self) -> list[dict[str, Any]]:
        return [self._summary(server) for server in self.options.values()]

    def shown(self, name: str) -> dict[str, Any]:
        """One server with its command and every tool's pin.

        Raises:
            OperatorError: no such server (404).
        """
        server = self._server(name)
        catalog = self.definitions.catalog
        return {
            **self._summary(server),
            "command": list(server.command),
            "mounts": [f"{mount.path}:{mount.access.value}" for mount in server.mounts],
            "env": sorted(server.env),
            "pack": server.pack,
            "pack_problems": self._pack_problems(name),
            "pins": {row.name or "(instructions)": {"pin": row.pin, "digest": row.digest} for row in self._rows(name)},
            "refused": {tool: why for (owner, tool), why in catalog.refused.items() if owner == name},
        }

    def diff(self, name: str) -> list[dict[str, Any]]:
        """Every definition that is not what was pinned, or was never accepted: its name and a diff in lines.

        Raises:
            OperatorError: no such server (404).
        """
        self._server(name)
        return [
            {
                "name": row.name or "(instructions)",
                "pin": row.pin,
                "seen": row.offered_digest or row.digest,
                "diff": _lines(row),
            }
            for row in self._rows(name)
            if row.pin is not Pin.PINNED
        ]

    async def accept(self, name: str, tool: str | None, *, by: str, seen: str = "") -> list[str]:
        """Pin what the server offers now.

        Raises:
            OperatorError: no such server, or nothing of that waits (404), or it is not what was seen (409).
            Unrecordable: nothing was written.
        """
        self._server(name)
        wanted = "" if tool == "(instructions)" else tool
        return [one or "(instructions)" for one in await self.definitions.accept(name, wanted, by, seen=seen)]

    def _server(self, name: str) -> ServerOptions:
        if name not in self.options:
            raise OperatorError(f"no server named {name}; configured: {', '.join(sorted(self.options))}", status=404)
        return self.options[name]

    def _rows(self, name: str) -> list[Offer]:
        """What it ever said; that a server had no instructions is a row as well, of nothing."""
        rows = self.definitions.catalog.rows.values()
        return [row for row in rows if row.server == name and (row.name or row.body)]

    def _pack_problems(self, name: str) -> list[str]:
        catalog = self.definitions.catalog
        not_taken = dict.fromkeys(tool for owner, tool in catalog.refused if owner == name)
        return list(pack_problems(self.packs[name], not_taken | catalog.schemas(name), self.options))

    def _warnings(self, server: ServerOptions) -> Iterator[str]:
        if server.network is Network.HOST:
            yield "shares the host's network"
        if self._pack_problems(server.name):
            yield "its pack names what is not there (`server show` tells what)"

    def _summary(self, server: ServerOptions) -> dict[str, Any]:
        waiting = sum(1 for row in self._rows(server.name) if row.pin is not Pin.PINNED)
        error = self.finder.failures.get(server.name, "")
        state = "failed" if error else ("ready" if server.name in self.finder.found else "starting")
        return {
            "name": server.name,
            "state": f"{state}, {waiting} to accept" if waiting else state,
            "tools": len(self.definitions.catalog.callable(server.name)),
            "sandbox": server.sandbox,
            "network": server.network,
            "warning": "; ".join(self._warnings(server)),
            "error": error,
        }


def _lines(row: Offer) -> list[str]:
    offered = row.offered_body if row.offered_digest else row.body
    return diff(None if row.pin is Pin.PENDING else row.body, offered).splitlines()
