"""QEMU's monitor protocol: JSON objects, a line each. See QEMU's docs/interop/qmp-spec.txt."""

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sandbox.errors import SandboxError
from sandbox.vm.wires import MONITOR, Wires


@dataclass(slots=True)
class Monitor:
    """One machine's. Whoever talks to it sets a deadline; all of it raises EOFError once QEMU is gone."""

    wires: Wires
    _events: list[Mapping[str, Any]] = field(default_factory=list)

    async def execute(self, command: str, **arguments: object) -> None:
        """Raises SandboxError if QEMU refuses."""
        self.wires[MONITOR].writer.write(_line(command, arguments))
        await self._answered(command)

    async def give(self, name: str, descriptor: int) -> None:
        """Pass a descriptor, known to QEMU by that name from then on."""
        socket.send_fds(self.wires.monitor_socket, [_line("getfd", {"fdname": name})], [descriptor])
        await self._answered("getfd")

    async def event(self, name: str, **data: object) -> None:
        """Wait for an event with such data. Raises EOFError if a migration fails meanwhile, too."""
        while True:
            message = self._events.pop(0) if self._events else await self._receive()
            said = message.get("data", {})
            if said.get("status") == "failed":
                raise EOFError(name)
            if message.get("event") == name and data.items() <= said.items():
                return

    async def _answered(self, command: str) -> None:
        while True:
            message = await self._receive()
            if "error" in message:
                raise SandboxError("vm", f"QEMU refused {command}: {message['error'].get('desc')}", "Update QEMU.")
            if "return" in message:
                return
            self._events.append(message)

    async def _receive(self) -> Mapping[str, Any]:
        line = await self.wires[MONITOR].reader.readline()
        if not line:
            raise EOFError(MONITOR)
        message: Mapping[str, Any] = json.loads(line)
        return message


def _line(command: str, arguments: Mapping[str, object]) -> bytes:
    return json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
