"""Operators of a real gateway: a console session, the control socket, and a payment that waits for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from gateway.bootstrap import Running
from gateway.control import Granted
from gateway.edges.operators import COOKIE, KEY_HEADER
from support.scene import PAYEE, Agent, Said, grant, recorded, scene, till, until

PAY_RULE = f'till.pay(to = "{PAYEE}", currency in ["EUR"])'


@dataclass
class Shop:
    """A gateway with a till, one task that may pay, and the agent of that task."""

    gateway: Running
    granted: Granted
    folder: Path
    held: list[asyncio.Task[Said]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.gateway.url

    @property
    def paid(self) -> list[int]:
        """What the till says it was paid."""
        return [one["amount_cents"] for one in recorded(self.folder) if one["tool"] == "pay"]

    async def asks(self, cents: int = 4250, memo: str = "rent", *, to: str = PAYEE) -> str:
        """The agent pays, and is held; the ticket that waits for a person."""
        return await self.held_for("till__pay", to=to, amount_cents=cents, currency="EUR", memo=memo)

    async def held_for(self, tool: str, /, **arguments: Any) -> str:
        """The agent calls, and is held; the ticket that waits for a person."""
        before = set(self.gateway.desk.waiting())
        agent = Agent(self.url, self.granted.token)
        self.held.append(asyncio.create_task(agent.call(tool, **arguments)))
        await until(lambda: set(self.gateway.desk.waiting()) - before)
        return next(iter(set(self.gateway.desk.waiting()) - before))

    def session(self) -> tuple[str, str]:
        """Cookie and key of a fresh console session."""
        opened = self.gateway.sessions.enter(self.gateway.sessions.link())
        assert opened is not None
        return opened

    def browser(self, *, key: bool = True, **headers: str) -> httpx.AsyncClient:
        """HTTP as a page of the console sends it; without the key, as whoever has only the cookie."""
        cookie, secret = self.session()
        own = {"origin": self.url, "sec-fetch-site": "same-origin"} | ({KEY_HEADER: secret} if key else {})
        return httpx.AsyncClient(base_url=self.url, cookies={COOKIE: cookie}, headers=own | headers, trust_env=False)

    def socket(self) -> httpx.AsyncClient:
        """HTTP over the control socket."""
        transport = httpx.AsyncHTTPTransport(uds=str(self.gateway.options.state / "control.sock"))
        return httpx.AsyncClient(base_url="http://localhost", transport=transport, trust_env=False)


@asynccontextmanager
async def shop(folder: Path, *allow: str, **options: Any) -> AsyncIterator[Shop]:
    """A shop in an empty folder of this test's own; whoever is still held at the end is let go."""
    async with scene(folder / "state", till(folder / "till"), **options) as gateway:
        granted = await grant(
            gateway, *(allow or (PAY_RULE, "till.read", "till.note")), spend={"EUR": 100_000}, agent="shopper"
        )
        made = Shop(gateway, granted, folder / "till")
        try:
            yield made
        finally:
            for held in made.held:
                held.cancel()
            await asyncio.gather(*made.held, return_exceptions=True)


def approve(ticket: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The body that says yes to what was seen."""
    return {"decision": "approve", "call_digest": ticket["call_digest"], **more}
