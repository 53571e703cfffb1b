"""S5: a person approves what policy denies. It stays denied, and the question is not even put."""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.scene import (
    PACK,
    PAYEE,
    STRANGER,
    Agent,
    beside,
    decide,
    events,
    grant,
    recorded,
    scene,
    till,
)

from gateway.bootstrap import Running
from gateway.ports import Stage
from gateway.stores import tickets
from policies.case import Case
from policies.verdict import Verdict

NO_PAYMENTS = 'package operator\n\ndeny contains "no payments from here" if input.effect == "spend"\n'
PAY = {"to": PAYEE, "amount_cents": 100, "currency": "EUR", "memo": "rent"}
GRANT = f'till.pay(to = "{PAYEE}", currency = "EUR")'


@dataclass(frozen=True)
class Lenient:
    """The policy stage with that one control off: what it denies, a person may allow."""

    policy: Stage
    name: str = "policy"

    async def consider(self, case: Case) -> Case:
        after = await self.policy.consider(case)
        return replace(after, verdict=Verdict(asks=after.verdict.asks | after.verdict.denials))


def rules(place: Path) -> tuple[Path, ...]:
    folder = place / "rules"
    folder.mkdir(exist_ok=True)
    (folder / "payments.rego").write_text(NO_PAYMENTS)
    return (folder,)


def offered(gateway: Running) -> int:
    return len(tickets.listed(gateway.memory.reader))


@pytest.mark.promise("deny-not-offered")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, "policy_refused"),
        ({"to": STRANGER}, "no_capability"),
        ({"amount_cents": "100"}, "arguments_invalid"),
        ({"amount_cents": 2**53}, "arguments_invalid"),
    ],
)
async def test_what_is_denied_is_no_question(tmp_path: Path, change: dict[str, object], code: str) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder), bundles=rules(tmp_path), hold_s=0.0) as gateway:
        agent = Agent(gateway.url, (await grant(gateway, GRANT, spend={"EUR": 10_000})).token)
        said = await agent.call("till__pay", **PAY | change)

        assert said.code == code or (said.body.get("error") and change == {"amount_cents": 2**53})
        assert offered(gateway) == 0
        assert events(gateway, kind="approval.requested") == []
        assert recorded(folder) == []


@pytest.mark.promise("deny-not-offered")
async def test_a_yes_from_before_the_rule_does_not_override_it(tmp_path: Path) -> None:
    """Asked and approved while it was allowed; then the operator forbids payments and restarts."""
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder), hold_s=0.0) as gateway:
        granted = await grant(gateway, GRANT, spend={"EUR": 10_000})
        agent = Agent(gateway.url, granted.token)
        ticket = (await agent.call("till__pay", **PAY)).ticket
        await decide(gateway, ticket)
    async with scene(tmp_path / "state", till(folder), bundles=rules(tmp_path), hold_s=0.0) as gateway:
        agent = Agent(gateway.url, granted.token)
        assert (await agent.call("till__pay", **PAY)).code == "policy_refused"
        found = tickets.load(gateway.memory.reader, ticket)
        assert found is not None
        assert found.state == "approved", "and it was not used up"
    assert recorded(folder) == []


async def test_were_a_denial_only_a_question_the_yes_would_pay(tmp_path: Path) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder), bundles=rules(tmp_path)) as gateway:
        stages = [Lenient(one) if one.name == "policy" else one for one in gateway.pipeline.stages]
        token = (await grant(gateway, GRANT, spend={"EUR": 10_000})).token
        async with beside(gateway, replace(gateway.pipeline, stages=stages), hold_s=0.0) as url:
            agent = Agent(url, token)
            await decide(gateway, (await agent.call("till__pay", **PAY)).ticket)
            assert not (await agent.call("till__pay", **PAY)).code
    assert [one["to"] for one in recorded(folder)] == [PAYEE]


@pytest.mark.promise("secret-class-denies")
async def test_a_secret_reaches_no_sink_and_nobody_is_asked(tmp_path: Path) -> None:
    folder = tmp_path / "till"
    pack = PACK.replace('class = "passport"', 'class = "secret"')
    async with scene(tmp_path / "state", till(folder, pack=pack), hold_s=0.0) as gateway:
        (folder / "secret.json").write_text('{"passport": "C01X00T47"}')
        agent = Agent(gateway.url, (await grant(gateway, 'till.note(to = "me")', "till.read")).token)
        await agent.call("till__read", what="secret")
        assert (await agent.call("till__note", to="me", text="no secret in here, it says")).code == "flow_refused"
        assert offered(gateway) == 0
    assert recorded(folder) == []


@pytest.mark.promise("no-is-sticky")
@pytest.mark.parametrize(
    "again",
    [
        {"memo": "please"},
        dict(reversed(PAY.items())),
        {"amount_cents": 99},
        {"to": " ".join(PAYEE[at : at + 4] for at in range(0, 22, 4))},
        {"to": PAYEE.lower()},
    ],
    ids=["another body", "another order of keys", "another amount", "blanks", "small letters"],
)
async def test_a_no_is_not_asked_again(tmp_path: Path, again: dict[str, object]) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder), hold_s=0.0) as gateway:
        agent = Agent(gateway.url, (await grant(gateway, 'till.pay(currency = "EUR")', spend={"EUR": 10_000})).token)
        await decide(gateway, (await agent.call("till__pay", **PAY)).ticket, approve=False)
        asked = again if len(again) > 1 else PAY | again
        assert (await agent.call("till__pay", **asked)).code == "denied_by_person"
        assert offered(gateway) == 1
    assert recorded(folder) == []
