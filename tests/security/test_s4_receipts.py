"""S4, its first part: a yes is for one exact call and used once, whatever is retried, changed or sent at once."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest
from support.scene import OPERATOR, PAYEE, STRANGER, Agent, decide, grant, recorded, scene, till

from gateway.errors import OperatorError
from gateway.stores import tickets

PAY = {"to": PAYEE, "amount_cents": 100, "currency": "EUR", "memo": "rent"}
GRANT = (f'till.pay(to in ["{PAYEE}", "{STRANGER}"], currency = "EUR")', "till.echo")


@pytest.mark.promise("receipt-once")
async def test_a_yes_is_used_once_and_the_next_equal_call_is_asked_about(tmp_path: Path) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder), hold_s=0.0) as gateway:
        agent = Agent(gateway.url, (await grant(gateway, *GRANT, spend={"EUR": 10_000})).token)
        await agent.call("till__echo", value=1)  # from here on every call carries the same
        for already in range(3):
            assert (await agent.call("till__pay", **PAY)).code == "pending"
            assert len(recorded(folder)) == already
            (ticket,) = tickets.listed(gateway.memory.reader, state=tickets.TicketState.PENDING)
            await decide(gateway, ticket.id)
            assert not (await agent.call("till__pay", **PAY)).code
    assert len(recorded(folder)) == 3


@pytest.mark.promise("receipt-once")
async def test_of_many_equal_calls_at_once_a_yes_lets_one_through(tmp_path: Path) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder), hold_s=0.0) as gateway:
        token = (await grant(gateway, *GRANT, spend={"EUR": 10_000})).token
        await decide(gateway, (await Agent(gateway.url, token).call("till__pay", **PAY)).ticket)
        said = await asyncio.gather(*(Agent(gateway.url, token).call("till__pay", **PAY) for _ in range(20)))
    codes = Counter(one.code for one in said)
    assert codes[""] == 1
    assert set(codes) <= {"", "pending", "duplicate"}
    assert len(recorded(folder)) == 1


@pytest.mark.promise("receipt-is-exact")
@pytest.mark.parametrize("change", [{"amount_cents": 101}, {"to": STRANGER}, {"memo": "rent."}, {"memo": "Rent"}])
async def test_a_yes_is_for_exactly_what_was_shown(tmp_path: Path, change: dict[str, object]) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder), hold_s=0.0) as gateway:
        agent = Agent(gateway.url, (await grant(gateway, *GRANT, spend={"EUR": 10_000})).token)
        await decide(gateway, (await agent.call("till__pay", **PAY)).ticket)
        assert (await agent.call("till__pay", **PAY | change)).code == "pending"
        assert recorded(folder) == []


@pytest.mark.promise("receipt-is-exact")
async def test_two_approvers_at_once_decide_once_and_nobody_after_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder), hold_s=0.0, expire_s=1.0) as gateway:
        agent = Agent(gateway.url, (await grant(gateway, *GRANT, spend={"EUR": 10_000})).token)
        ticket = tickets.load(gateway.memory.reader, (await agent.call("till__pay", **PAY)).ticket)
        assert ticket is not None
        answers = [
            gateway.desk.decide(ticket.id, approve=approve, by=OPERATOR, call_digest=ticket.call_digest)
            for approve in (True, False, True)
        ]
        decided = await asyncio.gather(*answers, return_exceptions=True)
        assert sum(isinstance(one, OperatorError) for one in decided) == 2

        other = tickets.load(gateway.memory.reader, (await agent.call("till__pay", **PAY | {"to": STRANGER})).ticket)
        assert other is not None
        await gateway.desk.decided(other.id, 10.0)  # closed by the clockwork: the default is no
        with pytest.raises(OperatorError):
            await decide(gateway, other.id)
        await agent.call("till__pay", **PAY | {"to": STRANGER})
    assert recorded(folder) == []
