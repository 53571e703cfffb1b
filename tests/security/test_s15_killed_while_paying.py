"""S15: kill -9 while a payment is sent and unanswered, and while a person is asked about another.

Real processes, real sandbox, real SQLite. The till's record says what was paid.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.mortal import Mortal, Nursery, nursery
from support.scene import PACK, PAYEE, Agent, Said, iban, recorded, until, verified, wait_until_closed

from gateway.cli.client import operator

OTHER = iban(7)
HELD: dict[str, Any] = {"to": PAYEE, "amount_cents": 300, "currency": "EUR", "memo": "hold this"}
ASKED: dict[str, Any] = {"to": OTHER, "amount_cents": 200, "currency": "EUR", "memo": "asked about"}
IDEMPOTENT = PACK.replace('effect = "spend"', 'effect = "spend"\nidempotent = true')
"""What an operator would have to claim for the duplicate guard to be off."""


@dataclass
class Shop:
    """One store over two lives of its gateway."""

    parent: Nursery
    state: Path
    folder: Path
    pack: str
    token: str = ""
    task: str = ""
    clerk: str = ""
    """Another agent's token: what it is asked about carries nothing of the payment that hangs."""
    mortal: Mortal | None = None
    url: str = ""

    async def open(self) -> int:
        """Start the gateway; how many outcomes it found to be unknown."""
        self.mortal = await self.parent.start(self.state, self.folder, real=True, pack=self.pack, hold_s=0.0)
        self.url = await self.mortal.url
        return int((await self.mortal.ready)["unknown"])

    async def kill(self) -> None:
        assert self.mortal is not None
        await self.mortal.kill()
        await asyncio.to_thread(wait_until_closed, self.folder)

    async def grant(self) -> None:
        allow = [f'till.pay(to in ["{PAYEE}", "{OTHER}"], currency = "EUR")']
        granted = await self.post("/tasks", {"text": "Pay both.", "allow": allow, "spend": {"EUR": 1_000}})
        self.token, self.task = granted["token"], granted["task"]
        self.clerk = (await self.post("/tasks", {"text": "Pay.", "allow": allow, "spend": {"EUR": 1_000}}))["token"]

    async def pay(self, payment: dict[str, Any], token: str = "") -> Said:
        agent = Agent(self.url, token or self.token)
        try:
            return await agent.call("till__pay", **payment)
        finally:
            agent.close()

    async def pending(self) -> list[dict[str, Any]]:
        page = await asyncio.to_thread(operator(self.state).get, "/approvals", state="pending")
        found: list[dict[str, Any]] = page["approvals"]
        return found

    async def approve(self) -> None:
        """Yes to the one question that waits."""
        (ticket,) = await self.pending()
        answer = {"decision": "approve", "call_digest": ticket["call_digest"], "version": ticket["version"]}
        await self.post(f"/approvals/{ticket['id']}/decisions", answer)

    async def left(self) -> int:
        task = await asyncio.to_thread(operator(self.state).get, f"/tasks/{self.task}")
        return int(task["budgets"]["spend:EUR"])

    async def unknown(self) -> list[str]:
        task = await asyncio.to_thread(operator(self.state).get, f"/tasks/{self.task}")
        return [call["action"] for call in task["unknown"]]

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        return await asyncio.to_thread(operator(self.state).post, path, body)

    @property
    def paid(self) -> list[str]:
        return [effect["to"] for effect in recorded(self.folder)]


@asynccontextmanager
async def killed_while_paying(place: Path, pack: str) -> AsyncIterator[Shop]:
    """A shop whose gateway was killed with one payment unanswered and one asked about, and started again."""
    async with nursery() as parent:
        shop = Shop(parent, place / "state", place / "till", pack)
        await shop.open()
        await shop.grant()
        await shop.pay(HELD)
        await shop.approve()
        paying = asyncio.create_task(shop.pay(HELD))
        await until(lambda: shop.paid)
        assert (await shop.pay(ASKED, shop.clerk)).code == "pending"
        assert await shop.left() == 700
        await shop.kill()
        with pytest.raises((OSError, EOFError)):
            await paying
        assert await shop.open() == 1
        yield shop
        await shop.kill()
        assert verified(shop.state / "pratique.db", place / "copy.db").ok


@pytest.mark.promise("crash-pays-once")
async def test_the_payment_is_not_repeated_and_the_question_still_waits(tmp_path: Path) -> None:
    async with killed_while_paying(tmp_path, PACK) as shop:
        assert shop.paid == [PAYEE], "restarting sends nothing"
        (unknown,) = await shop.unknown()
        (ticket,) = await shop.pending()
        assert ticket["card"]["tool"] == "pay"
        assert await shop.left() == 700, "neither gained nor lost"

        await shop.approve()  # of what was asked before the kill
        assert not (await shop.pay(ASKED, shop.clerk)).code
        assert (await shop.pay(ASKED, shop.clerk)).code == "pending", "a yes is used once"
        assert (shop.paid, await shop.left()) == ([PAYEE, OTHER], 700)

        for again in (HELD, {**dict(reversed(HELD.items())), "memo": "another memo"}):
            await deny_all(shop)
            said = await shop.pay(again)
            if said.code == "pending":
                await shop.approve()
                said = await shop.pay(again)
            assert said.code == "duplicate"
        assert shop.paid == [PAYEE, OTHER]

        await shop.post("/tasks/settle", {"action": unknown, "outcome": "ok"})
        assert await shop.left() == 700, "what was paid stays paid"
        assert (await shop.pay({**HELD, "memo": "another memo"})).code in ("", "pending")


@pytest.mark.promise("crash-pays-once")
async def test_a_payment_that_a_person_found_not_made_gives_its_money_back_and_may_be_made(tmp_path: Path) -> None:
    async with killed_while_paying(tmp_path, PACK) as shop:
        (unknown,) = await shop.unknown()
        await shop.post("/tasks/settle", {"action": unknown, "outcome": "failed"})
        assert await shop.left() == 1_000
        assert await shop.unknown() == []


async def test_without_the_duplicate_guard_it_would_have_been_paid_twice(tmp_path: Path) -> None:
    async with killed_while_paying(tmp_path, IDEMPOTENT) as shop:
        await deny_all(shop)
        again = {**HELD, "memo": "another memo"}
        assert (await shop.pay(again)).code == "pending"
        await shop.approve()
        assert not (await shop.pay(again)).code
        assert shop.paid == [PAYEE, PAYEE]


async def deny_all(shop: Shop) -> None:
    for ticket in await shop.pending():
        answer = {"decision": "deny", "call_digest": ticket["call_digest"], "version": ticket["version"]}
        await shop.post(f"/approvals/{ticket['id']}/decisions", answer)
