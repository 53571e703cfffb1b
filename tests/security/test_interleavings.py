"""No effect without a permit and a durable intent, at most one send: every order in which calls can overtake.

The oracle is the bank's own record. Two actors are played in every order; three in seeded random ones.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator

import pytest
from support.cases import ALICE
from support.world import IBAN, PAY, Actor, World, played, unattended

from gateway.ports import Answer, Done
from gateway.stores import tasks, tickets
from gateway.stores.calls import CallState
from gateway.stores.tickets import TicketState
from policies.verdict import Code

RANDOM_RUNS = 40 * (10 if os.environ.get("PRATIQUE_SOAK") else 1)
EXHAUSTIVE = 600 * (10 if os.environ.get("PRATIQUE_SOAK") else 1)
"""At most so many orders of one pair: past it the search is cut, newest choice first."""


def calls(name: str, action: str, answers: dict[str, Answer]) -> Actor:
    async def actor(world: World) -> None:
        answers[action] = await world.call(name, PAY if name == "pay" else {}, action)

    return actor


async def approve_all(world: World) -> None:
    """A person says yes to whatever waits, once, as soon as it waits."""
    await world.gates("person")
    for ticket in tickets.listed(world.db, state=TicketState.PENDING):
        await world.desk.decide(ticket.id, approve=True, by="control:test", call_digest=ticket.call_digest)


async def revoke(world: World) -> None:
    await world.gates("operator")

    def unit(db: object) -> Done[None]:
        tasks.revoke_task(world.db, ALICE.task)
        after = tasks.load(world.db, ALICE.task)
        assert after is not None
        return Done(value=None, after=lambda: world.memory.added(after))

    await world.ledger.run(unit)
    world.revoked_after = len(world.intents())


async def redefine(world: World) -> None:
    await world.gates("server")
    await world.pinned("now it says something else")
    world.redefined_after = len(world.intents())


async def fresh(*, approved: int = 0) -> World:
    """A world whose tools are pinned, with so many payments approved and not yet made."""
    world = World()
    await unattended(world, world.pinned())
    if approved:
        asked = await unattended(world, world.call("pay", PAY, "act_ask"))
        assert asked.code is Code.PENDING
        ticket = tickets.load(world.db, asked.ticket)
        assert ticket is not None
        await unattended(
            world, world.desk.decide(ticket.id, approve=True, by="control:test", call_digest=ticket.call_digest)
        )
    return world


def check(world: World) -> None:
    """What must hold whatever happened."""
    sends = Counter(action for action, _, _ in world.effects)
    assert all(count == 1 for count in sends.values()), f"sent twice: {sends}"
    intents = world.intents()
    assert sends.keys() <= intents.keys(), "an effect without a durable intent"
    for action, name, arguments in world.effects:
        assert arguments.get("to", IBAN) == IBAN
        assert intents[action].payload["frame"]
        assert intents[action].tool == name
    payments = [action for action, name, _ in world.effects if name == "pay"]
    used = [intents[action].ticket for action in payments]
    assert all(used), "a payment that nobody approved"
    assert len(used) == len(set(used)), "one approval paid twice"
    spent = world.db.execute("SELECT used FROM budgets WHERE name = 'spend:EUR'").fetchone()[0]
    reserving = (CallState.OK, CallState.EXECUTING, CallState.UNKNOWN, CallState.ERROR)
    marks = ", ".join("?" * len(reserving))
    held = world.db.execute(f"SELECT count(*) FROM calls WHERE tool = 'pay' AND state IN ({marks})", reserving)
    assert spent == 100 * held.fetchone()[0], "the budget does not say what was paid"


def orders(most: int) -> Generator[list[int], list[int], None]:
    """Every list of choices, depth first: each is completed by zeros, and the caller says how many options it met."""
    path: list[int] = []
    for _ in range(most):
        options = yield path
        path = [*path, *([0] * (len(options) - len(path)))][: len(options)]
        while path and path[-1] + 1 >= options[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1


Play = Callable[[Iterator[int]], Awaitable[list[int]]]


async def every_order(play: Play) -> int:
    """Play in every order; how many there were."""
    search, count = orders(EXHAUSTIVE), 0
    path = next(search)
    while True:
        options = await play(iter(path))
        count += 1
        try:
            path = search.send(options)
        except StopIteration:
            return count


async def random_orders(play: Play, seed: int) -> None:
    for run in range(RANDOM_RUNS):
        draw = random.Random(f"{seed}/{run}")
        await play(iter(lambda draw=draw: draw.randrange(1_000), -1))


@pytest.mark.promise("at-most-one-send")
@pytest.mark.parametrize("other", ["pay", "balance"])
async def test_two_calls_in_every_order_send_each_at_most_once(other: str) -> None:
    async def play(choices: Iterator[int]) -> list[int]:
        world, answers = await fresh(approved=1), {}
        options = await played(world, [calls("pay", "act_1", answers), calls(other, "act_2", answers)], choices)
        check(world)
        assert sum(1 for _, name, _ in world.effects if name == "pay") == 1
        return options

    assert await every_order(play) > 5


@pytest.mark.promise("revoked-before-commit-never-runs")
async def test_a_revocation_in_every_order_lets_nothing_begin_after_it() -> None:
    async def play(choices: Iterator[int]) -> list[int]:
        world, answers = await fresh(approved=1), {}
        options = await played(world, [calls("pay", "act_1", answers), revoke], choices)
        check(world)
        assert len(world.intents()) == world.revoked_after
        return options

    assert await every_order(play) > 5


@pytest.mark.promise("redefined-before-commit-never-runs")
async def test_a_redefinition_in_every_order_lets_nothing_begin_after_it() -> None:
    async def play(choices: Iterator[int]) -> list[int]:
        world, answers = await fresh(approved=1), {}
        options = await played(world, [calls("pay", "act_1", answers), redefine], choices)
        check(world)
        assert len(world.intents()) == world.redefined_after
        return options

    assert await every_order(play) > 5


@pytest.mark.promise("one-approval-one-effect")
@pytest.mark.parametrize("seed", range(3))
async def test_equal_payments_and_one_approver_pay_once_for_each_yes(seed: int) -> None:
    async def play(choices: Iterator[int]) -> list[int]:
        world, answers = await fresh(), {}

        def asks(action: str) -> Actor:
            async def actor(world: World) -> None:
                for attempt in range(3):
                    answers[action] = await world.call("pay", PAY, f"{action}_{attempt}")
                    await world.gates("retry")

            return actor

        options = await played(world, [asks("act_1"), asks("act_2"), approve_all], choices)
        check(world)
        yeses = world.db.execute("SELECT count(*) FROM tickets WHERE state IN ('approved', 'consumed')").fetchone()[0]
        assert len(world.effects) <= yeses
        return options

    await random_orders(play, seed)


@pytest.mark.promise("cancel-keeps-outcome")
@pytest.mark.parametrize("seed", range(2))
async def test_a_client_that_leaves_at_any_moment_leaves_an_outcome_behind(seed: int) -> None:
    async def play(choices: Iterator[int]) -> list[int]:
        world = await fresh(approved=1)

        async def impatient(world: World) -> None:
            call = asyncio.ensure_future(world.call("pay", PAY, "act_1"))
            await world.gates("leave")
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

        options = await played(world, [impatient], choices)
        check(world)
        outcomes = {event.action for event in world.events if event.kind == "effect.outcome"}
        assert world.intents().keys() == outcomes
        return options

    await random_orders(play, seed)


@pytest.mark.promise("crash-never-repeats")
@pytest.mark.parametrize("seed", range(4))
async def test_a_crash_at_any_moment_repeats_nothing_and_blocks_its_equals(seed: int) -> None:
    async def play(choices: Iterator[int]) -> list[int]:
        world = await fresh(approved=1)
        call = asyncio.ensure_future(world.call("pay", PAY, "act_1"))
        await world.gates.settled()
        options = []
        for _ in range(next(choices) % 6):
            if world.gates.waiting:
                options.append(len(world.gates.waiting))
                world.gates.open(0)
                await world.gates.settled()
        for task in [call, *world.pipeline._performing]:
            task.cancel()
        await asyncio.gather(call, *world.pipeline._performing, return_exceptions=True)
        world.gates.waiting.clear()
        before = dict(world.db.execute("SELECT name, used FROM budgets"))
        world.boot()
        lost = await unattended(world, world.recovered())
        assert dict(world.db.execute("SELECT name, used FROM budgets")) == before, "a crash gave rights back"
        again = await unattended(world, world.call("pay", PAY, "act_2"))
        check(world)
        if lost:
            assert again.code in (Code.DUPLICATE, Code.PENDING)
        assert sum(1 for _, name, _ in world.effects if name == "pay") <= 1
        return options

    await random_orders(play, seed)


async def test_the_search_finds_a_gateway_that_forgets_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """The law can fail: with the duplicate guard and the approval's single use taken out, some order pays twice."""
    monkeypatch.setattr("gateway.stages.commit.is_guarded", lambda case: False)
    monkeypatch.setattr("gateway.stores.tickets.consume", lambda db, ticket, now: True)
    twice = 0

    async def play(choices: Iterator[int]) -> list[int]:
        nonlocal twice
        world, answers = await fresh(approved=1), {}
        options = await played(world, [calls("pay", "act_1", answers), calls("pay", "act_2", answers)], choices)
        twice += sum(1 for _, name, _ in world.effects if name == "pay") > 1
        return options

    await every_order(play)
    assert twice
