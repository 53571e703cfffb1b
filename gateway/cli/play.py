"""The travel agent's day, put on: a gateway of its own, the two columns, and what the person may click afterwards."""

import asyncio
import sys
from pathlib import Path
from typing import Any

from gateway.bootstrap import running
from gateway.cli.client import Operator, operator
from gateway.cli.logs import log_to_stderr
from gateway.cli.show import inert
from gateway.demo import check, report
from gateway.demo.day import Day, live
from gateway.demo.human import Person, value_of
from gateway.demo.roads import SERVERS
from gateway.demo.world import make_folders, server_options
from gateway.edges.listen import bind_tcp
from gateway.errors import ConfigError, PratiqueError
from gateway.options import Options
from gateway.settings import SHIPPED, STANDARD
from sandbox.bubblewrap import Bubblewrap, hand_over
from sandbox.driver import Capabilities
from sandbox.errors import SandboxError


class DemoError(PratiqueError):
    """The demo cannot be played on this machine, or did not go as it must."""


async def play(folder: Path, *, once: bool, port: int) -> None:
    """Play the day in an empty folder; unless `once`, stay up until cancelled.

    Raises:
        ConfigError: the port is taken.
        DemoError: servers cannot be sandboxed here, or (with `once`) something that must happen did not.
    """
    await _need_sandbox()
    log_to_stderr()
    out = report.console()
    make_folders(folder / "mediated")
    for server in SERVERS:
        hand_over(folder / "mediated" / server)
    options = Options(
        state=folder / "state", port=port, servers=server_options(folder / "mediated"), sandboxes=dict(SHIPPED)
    )
    _need_port(options)
    async with running(options) as gateway:
        office = _Office(operator(options.state))

        command = sys.argv[0] if Path(sys.argv[0]).name == "pratique" else "pratique"

        def tell(ticket: dict[str, Any]) -> None:
            amount, to = value_of(ticket, "/amount_cents"), value_of(ticket, "/to")
            out.print(f"a person is asked: pay {report.euros(amount)} to", inert(to))
            if not once:
                out.print(f"decide at {gateway.console_link()}", soft_wrap=True)
                out.print(f"or: {command} approvals approve {ticket['id']} --state {options.state}", soft_wrap=True)

        day = await live(
            url=f"{gateway.url}/mcp",
            office=office,
            person=Person(tell=tell, decides=once),
            folder=folder,
            database=options.state / "pratique.db",
            say=out.print,
        )
        out.print(report.page(day))
        if once:
            _check(day)
            out.print("everything that must have happened did")
            return
        out.print(f"\nThe gateway stays up. Console: {gateway.console_link()}", soft_wrap=True)
        out.print(f"Look around: {command} audit query --state {options.state}", soft_wrap=True)
        out.print("Ctrl-C ends it and removes what it made.")
        await asyncio.Event().wait()


def lacking(found: Capabilities) -> list[str]:
    """What this machine does not enforce of what the demo's servers are promised, and what mends it."""
    return [f"{name}: {why}" for name, why in sorted(found.why_not.items()) if name in STANDARD.guarantees]


async def _need_sandbox() -> None:
    """Say what is missing before anything is started."""
    try:
        missing = lacking(await Bubblewrap.find().probe())
    except SandboxError as error:
        missing = [str(error)]
    if missing:
        raise DemoError("\n  ".join(["the demo's servers cannot be sandboxed here:", *missing]))


def _need_port(options: Options) -> None:
    try:
        bind_tcp(options.host, options.port).close()
    except ConfigError as error:
        raise ConfigError(
            f"cannot listen on port {options.port}: name another with --port (0: any that is free)"
        ) from error


class _Office:
    """The operator's road, off the event loop."""

    def __init__(self, road: Operator) -> None:
        self._road = road

    async def get(self, path: str, **query: str | int) -> Any:
        return await asyncio.to_thread(self._road.get, path, **query)

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        return await asyncio.to_thread(self._road.post, path, body)


def _check(day: Day) -> None:
    if wrong := check.complaints(day):
        raise DemoError("this did not hold:\n  " + "\n  ".join(wrong))
