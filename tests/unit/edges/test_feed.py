"""The live feed: what waits first, then every move, until the reader may no longer look."""

import json
from typing import Any

import pytest
from support.world import PAY, World, unattended

from gateway.edges.feed import feed


async def pending() -> tuple[World, str]:
    bank = World()
    await unattended(bank, bank.pinned())
    answer = await unattended(bank, bank.call("pay", {**PAY, "memo": ""}, "act_1"))
    return bank, answer.ticket


def data(event: str) -> Any:
    return json.loads(event.partition("data: ")[2])


async def test_a_feed_begins_with_all_that_waits_and_tells_each_move() -> None:
    bank, ticket = await pending()
    said = feed(bank.desk, may_look=lambda: True)

    first = await anext(said)
    seen = bank.db.execute("SELECT call_digest FROM tickets").fetchone()[0]
    await unattended(bank, bank.desk.decide(ticket, approve=False, by="test", call_digest=seen))
    second = await anext(said)
    await said.aclose()

    assert (first.partition("\n")[0], data(first)) == ("event: waiting", {"waiting": [ticket]})
    assert second.startswith(f"event: approval\nid: {ticket}:2\n")
    assert data(second) == {"id": ticket, "state": "denied", "version": 2}
    assert bank.desk.listeners == set()


@pytest.mark.promise("feed-ends-with-session")
async def test_a_feed_ends_when_its_reader_may_no_longer_look() -> None:
    bank, _ = await pending()
    allowed = [True, True, False]
    said = feed(bank.desk, may_look=lambda: allowed.pop(0), alive_s=0.0)

    heard = [event async for event in said]

    assert [event.partition("\n")[0] for event in heard] == ["event: waiting", ": alive", ": alive"]
    assert bank.desk.listeners == set()


async def test_a_reader_that_falls_behind_is_cut_off() -> None:
    bank, ticket = await pending()
    said = feed(bank.desk, may_look=lambda: True)
    await anext(said)
    moved = bank.desk._pending[ticket]
    for _ in range(2_000):
        for listener in tuple(bank.desk.listeners):
            listener(moved)

    assert [event async for event in said] == []
