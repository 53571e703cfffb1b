"""S6, its first part: budgets hold whatever runs at once, and a revocation ends what waits, runs or streams."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import pytest
from support.scene import (
    OPERATOR,
    PAYEE,
    Agent,
    Said,
    decide,
    events,
    grant,
    iban,
    recorded,
    request,
    scene,
    till,
    until,
)

from gateway.errors import OperatorError
from gateway.stores import budgets

PAY = f'till.pay(to = "{PAYEE}", currency = "EUR")'
AT_ONCE = 50


async def at_once(url: str, token: str, name: str, *calls: dict[str, object]) -> list[Said]:
    """Every call on a connection of its own, all sent before any is answered."""
    agents = [Agent(url, token) for _ in calls]
    for agent, arguments in zip(agents, calls, strict=True):
        await agent.send(request(token, name, arguments)[:-1])
    for agent in agents:
        await agent.send(b"}")
    return await asyncio.gather(*(agent.answer() for agent in agents))


def payment(number: int, cents: int = 1) -> dict[str, object]:
    return {"to": PAYEE, "amount_cents": cents, "currency": "EUR", "memo": f"{number}"}


@pytest.mark.promise("budget-exact")
@pytest.mark.parametrize(("calls", "succeed"), [(10, 10), (None, AT_ONCE)])
async def test_fifty_calls_at_once_on_a_budget_of_ten(tmp_path: Path, calls: int | None, succeed: int) -> None:
    """Exactly ten succeed. Without the budget (the control off), all of them."""
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder)) as gateway:
        granted = await grant(gateway, "till.read", calls=calls)
        many: list[dict[str, object]] = [{"what": "nothing"} for _ in range(AT_ONCE)]
        (folder / "nothing.json").write_text("{}")

        said = await at_once(gateway.url, granted.token, "till__read", *many)

        codes = Counter(one.code for one in said)
        assert codes[""] == succeed
        assert codes["capability_exhausted"] == AT_ONCE - succeed
        assert len(events(gateway, kind="effect.intent", task=granted.task.id)) == succeed


@pytest.mark.promise("budget-exact")
async def test_a_budget_of_money_is_never_overdrawn_by_payments_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder, "--jitter"), unsafe_without=frozenset({"spend"})) as gateway:
        payees = [iban(number) for number in range(8)]  # payments to one payee at once are duplicates of each other
        slot = ", ".join(f'"{payee}"' for payee in payees)
        granted = await grant(gateway, f'till.pay(to in [{slot}], currency = "EUR")', spend={"EUR": 1_000})

        async def keep_paying(payee: str) -> list[Said]:
            agent = Agent(gateway.url, granted.token)
            return [await agent.call("till__pay", **payment(number, 60) | {"to": payee}) for number in range(12)]

        said = await asyncio.gather(*map(keep_paying, payees))

        assert Counter(one.code for some in said for one in some)[""] == 16
        assert sum(one["amount_cents"] for one in recorded(folder)) == 960
        assert budgets.left(gateway.memory.reader, granted.token_id) == {"spend:EUR": 40}


@pytest.mark.promise("revocation-within-a-second")
async def test_a_revocation_ends_what_is_held_what_runs_and_what_streams_within_a_second(tmp_path: Path) -> None:
    folder, other = tmp_path / "till", tmp_path / "other"
    async with scene(tmp_path / "state", till(folder), till(other, name="other")) as gateway:
        granted = await grant(gateway, PAY, "till.tick", "till.note", spend={"EUR": 100})
        untouched = await grant(gateway, 'other.note(to = "me")')
        token = granted.token
        held, runs, queued, streams, bystander = (Agent(gateway.url, token) for _ in range(5))
        bystander.token = untouched.token
        await held.send(request(token, "till__pay", payment(1)))
        await streams.send(request(token, "till__tick", {"seconds": 30}, progress=True))
        await runs.send(request(token, "till__tick", {"seconds": 31}))
        await queued.send(
            request(token, "till__tick", {"seconds": 32})
        )  # behind the others: the till does one at a time
        await until(
            lambda: len(events(gateway, kind="effect.intent")) == 3 and events(gateway, kind="approval.requested")
        )
        (ticket,) = events(gateway, kind="approval.requested")

        revoked = time.monotonic()
        await gateway.control.revoke(granted.task.id, by=OPERATOR)
        said = await asyncio.gather(*(agent.answer() for agent in (held, runs, queued, streams)))
        took_s = time.monotonic() - revoked

        assert [one.code for one in said] == ["revoked"] * 4
        assert said[3].events > 0
        assert took_s < 1.0
        assert not (await bystander.call("other__note", to="me", text="still here")).code
        again = await held.ask(request(token, "till__pay", payment(2)))
        assert again.status == 401
        with pytest.raises(OperatorError, match="revoked"):
            await decide(gateway, ticket.ticket)
        assert recorded(folder) == []


def test_the_hand_made_requests_are_json() -> None:
    body = request("t", "n", {}).partition(b"\r\n\r\n")[2]
    assert body.endswith(b"}")
    assert json.loads(body)["params"]["name"] == "n"
