"""S1: the travel agent's day with nobody attacking. It completes, a person is asked once, and the log tells it.

Ten variants (fifty with `PRATIQUE_SOAK=1`), each a task of its own with four sandboxed servers of its own, through one
gateway. A call that is refused, or asked about besides the payment, is a false block.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from support.live import approving, connected
from support.scene import SOAK, beside, events, grant, scene, verified
from support.trip import USER, Trip, make_world, travel, trips

from gateway.bootstrap import Running
from gateway.demo.roads import SERVERS
from gateway.demo.world import World, look, make_folders, server_options

DAYS = 10 * SOAK
AT_ONCE = 2
TOLD = {"calendar.list_events", "flights.search", "flights.book", "bank.pay", "mail.send"}


@dataclass
class Played:
    """One variant, as its agent saw it."""

    trip: Trip
    refused: list[str] = field(default_factory=list)
    calls: int = 0


@asynccontextmanager
async def clients(trip: Trip, url: str, token: str) -> AsyncIterator[dict[str, Client]]:
    async with AsyncExitStack() as stack:
        if trip.per_server:
            yield {
                name: await stack.enter_async_context(connected(f"{url}/mcp/{name}", token, trip.mode))
                for name in SERVERS
            }
        else:
            client = await stack.enter_async_context(connected(f"{url}/mcp", token, trip.mode))
            yield dict.fromkeys(SERVERS, client)


async def played(trip: Trip, url: str, token: str) -> Played:
    seen = Played(trip)
    async with clients(trip, url, token) as to:

        async def call(server: str, tool: str, **arguments: Any) -> dict[str, Any]:
            name = tool if trip.per_server else f"{server}__{tool}"
            for _ in range(100):
                seen.calls += 1
                result = await to[server].call_tool(name, arguments)
                code = ((result.meta or {}).get("dev.pratique/decision") or {}).get("code", "")
                if code != "pending":
                    break
                await asyncio.sleep(0.05)
            if code and not (code == "arguments_invalid" and trip.stumbles):
                seen.refused.append(f"{name}: {code}")
            return result.structured_content or {}

        await travel(trip, call)
    return seen


def told(gateway: Running, task: str) -> list[str]:
    """The day as the log has it: what ran and matters, and the person's answer between."""
    story = []
    for event in events(gateway, task=task):
        name = f"{event.server}.{event.tool}"
        if event.kind == "approval.decided":
            story.append("approval")
        elif event.kind == "effect.outcome" and name in TOLD and event.verdict == "ok":
            story.append(name)
    return story


@pytest.mark.promise("benign-day")
@pytest.mark.timeout(150 * SOAK)
async def test_ten_days_complete_each_with_one_question_and_no_false_block(tmp_path: Path) -> None:
    days = trips(DAYS)
    make_folders(tmp_path / "world")
    make_world(tmp_path / "world", days)
    servers = server_options(tmp_path / "world").values()
    turns = asyncio.Semaphore(AT_ONCE)
    async with scene(tmp_path / "state", *servers) as gateway, beside(gateway, gateway.pipeline, hold_s=0.0) as hasty:
        gateway.table.most = 4 * AT_ONCE + 4  # an idle server makes room for the next day's

        async def spend(trip: Trip) -> tuple[Trip, Played, list[str], int]:
            async with turns:
                granted = await grant(gateway, *trip.allow, spend={"EUR": 80_000})
                seen = await played(trip, gateway.url if trip.holds else hasty, granted.token)
                asked = events(gateway, task=granted.task.id, kind="approval.requested")
                assert [f"{event.server}.{event.tool}" for event in asked] == ["bank.pay"], trip.title
                return trip, seen, told(gateway, granted.task.id), len(asked)

        async with approving(gateway) as asked:
            spent = await asyncio.gather(*map(spend, days))
        report = verified(gateway.database.path, tmp_path / "copy.db")

    for trip, seen, story, questions in spent:
        assert seen.refused == [], f"false block in {trip.title!r}"
        assert questions == 1
        expected = ["calendar.list_events", "flights.search", "flights.book", "approval", "bank.pay", "mail.send"]
        assert [one for n, one in enumerate(story) if one not in story[:n]] == expected, trip.title
    world = look(tmp_path / "world")
    assert {to for to, _ in world.mails} == {USER}
    assert sorted(world.payments) == sorted((trip.iban, trip.price_cents) for trip in days)
    assert_counts(world, len(days))
    assert len(asked) == len(days)
    assert report.ok
    print(
        {"days": len(days), "calls": sum(seen.calls for _, seen, _, _ in spent), "false blocks": 0, "asks": len(asked)}
    )


def assert_counts(world: World, days: int) -> None:
    assert (len(world.mails), world.bookings) == (days, days)
