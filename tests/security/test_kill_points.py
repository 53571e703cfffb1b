"""A gateway killed at a hundred seeded instants, and a till whose own record is the oracle.

Each point is one kill -9: in a burst of concurrent payments and notes, or (every seventh) while it starts. The till
runs without a sandbox here, as a plain child that outlives its gateway and finishes what was sent to it; the next
gateway starts over the same store. After each restart:

    every effect has an intent, with the very arguments that the till took        nothing is lost
    no action, and no call of the agents', has two effects                        nothing is doubled
    an answer that an agent got stands in the log; `not_sent` had no effect       nothing is claimed
    budgets hold exactly what stands in the log as taken                          nothing is gained
    an equal call is denied while an outcome is unknown; a copy of the log verifies
"""

import asyncio
import json
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.mortal import Mortal, Nursery, nursery
from support.scene import SOAK, Agent, Said, iban, recorded, verified, wait_until_closed

from audit.query import Filter, Record, query
from gateway.cli.client import operator

POINTS = 100 * SOAK
LIVES = 4
"""Stores, each killed `POINTS / LIVES` times: a log that grows for ever would be the test's whole cost."""
SEED = 20_270_514
BURST_S = 0.15
STARTING_S = 0.12
PAYEES = [iban(number) for number in range(6)]
MOST_CENTS, MOST_CALLS = 30_000, 2_000


@dataclass
class Book:
    """What the agents saw and the log says, over all lives of one gateway's store."""

    state: Path
    folder: Path
    token: str = ""
    root: str = ""
    answered: list[Said] = field(default_factory=list)
    intents: dict[str, Record] = field(default_factory=dict)
    outcomes: dict[str, list[str]] = field(default_factory=dict)
    settled: dict[str, str] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)
    """Actions that the log says anything of."""
    used: dict[str, int] = field(default_factory=dict)
    read: int = -1

    def catch_up(self) -> None:
        with closing(self._open()) as db:
            while page := query(db, Filter(), after=self.read, limit=1000):
                self.read = page[-1].index
                for record in page:
                    self.told.add(record.action)
                    if record.kind == "effect.intent":
                        assert record.action not in self.intents
                        self.intents[record.action] = record
                    elif record.kind == "effect.outcome":
                        self.outcomes.setdefault(record.action, []).append(record.verdict)
                    elif record.kind == "unknown.settled":
                        assert record.payload is not None
                        self.settled[record.action] = record.payload["state"]

    def check(self) -> None:
        self.catch_up()
        effects = recorded(self.folder)
        by_action = Counter(effect["action"] for effect in effects)
        by_call = Counter(effect.get("memo") or effect.get("text") for effect in effects)
        assert set(by_action.values()) <= {1}, "an action had two effects"
        assert set(by_call.values()) <= {1}, "a call had two effects"
        for effect in effects:
            assert self._asked(effect["action"]) == {k: v for k, v in effect.items() if k not in ("action", "tool")}
            assert self.outcomes[effect["action"]] != ["not_sent"]
        assert set(self.outcomes) == set(self.intents)
        assert {len(each) for each in self.outcomes.values()} <= {1}
        for said in self.answered:
            if not said.code:
                action = said.result["done"]
                assert self.outcomes[action] == ["ok"]
                assert by_action[action] == 1
            elif said.code != "unavailable":
                assert said.action in self.told, said
        self._check_budgets()

    def _check_budgets(self) -> None:
        with closing(self._open()) as db:
            used = dict(db.execute("SELECT name, used FROM budgets WHERE root = ?", (self.root,)).fetchall())
        taken = [action for action in self.intents if self._is_taken(action)]
        reserved: Counter[str] = Counter()
        for action in taken:
            payload = self.intents[action].payload
            assert payload is not None
            reserved.update(dict(payload["reserved"]))
        assert used == {name: reserved[name] for name in used}
        self.used = used

    def _is_taken(self, action: str) -> bool:
        return self.outcomes[action] != ["not_sent"] and self.settled.get(action) != "settled_failed"

    def _asked(self, action: str) -> Any:
        payload = self.intents[action].payload
        assert payload is not None
        return json.loads(payload["frame"])["params"]["arguments"]

    def unknown(self) -> list[str]:
        return [a for a, verdicts in self.outcomes.items() if verdicts == ["unknown"] and a not in self.settled]

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self.state / 'pratique.db'}?mode=ro", uri=True)


@asynccontextmanager
async def first_life(parent: Nursery, place: Path) -> AsyncIterator[Book]:
    book = Book(state=place / "state", folder=place / "till")
    mortal = await parent.start(book.state, book.folder, jitter=True, unsafe_without=["spend"])
    await mortal.ready
    slot = ", ".join(f'"{payee}"' for payee in PAYEES)
    granted = operator(book.state).post(
        "/tasks",
        {
            "text": "Pay and write.",
            "allow": [f'till.pay(to in [{slot}], currency = "EUR")', f"till.note(to in [{slot}])"],
            "calls": MOST_CALLS,
            "spend": {"EUR": MOST_CENTS},
        },
    )
    book.token = granted["token"]
    book.root = operator(book.state).get(f"/tasks/{granted['task']}")["tokens"][0]["id"]
    await mortal.kill()
    yield book


async def burst(book: Book, url: str, seed: int) -> None:
    """Six agents that pay and write as fast as they are answered, until the gateway is gone."""

    async def work(place: int) -> None:
        rng, agent = random.Random(f"{seed}/{place}"), Agent(url, book.token)
        try:
            for number in range(10_000):
                name, memo = rng.choice(["till__pay", "till__note"]), f"{seed}/{place}/{number}"
                where = {"to": PAYEES[place]}
                more = {"amount_cents": rng.randint(1, 9), "currency": "EUR", "memo": memo}
                said = await agent.call(name, **where, **(more if name == "till__pay" else {"text": memo}))
                book.answered.append(said)
        except (OSError, EOFError):
            pass  # killed
        finally:
            agent.close()

    await asyncio.gather(*(work(place) for place in range(len(PAYEES))))


async def restarted(parent: Nursery, book: Book) -> Mortal:
    await asyncio.to_thread(wait_until_closed, book.folder)
    mortal = await parent.start(book.state, book.folder, jitter=True, unsafe_without=["spend"])
    said = await mortal.ready
    book.check()
    assert len(book.unknown()) >= said["unknown"]
    return mortal


async def settle(book: Book, url: str) -> int:
    """While it is unknown, its equal is denied; then a person looks at the till and says what became of it."""
    effects, agent = {effect["action"] for effect in recorded(book.folder)}, Agent(url, book.token)
    for action in book.unknown():
        intent = book.intents[action]
        payload = intent.payload
        assert payload is not None
        arguments = json.loads(payload["frame"])["params"]["arguments"]
        again = await agent.call(f"till__{intent.tool}", **arguments)
        assert again.code == "duplicate"
        outcome = "ok" if action in effects else "failed"
        await asyncio.to_thread(operator(book.state).post, "/tasks/settle", {"action": action, "outcome": outcome})
    agent.close()
    return len(book.unknown())


@pytest.mark.promise("kill-points")
@pytest.mark.timeout(450 * SOAK)
async def test_no_kill_loses_doubles_or_gains_anything(tmp_path: Path, record_property: Any) -> None:
    rng, figures = random.Random(SEED), Counter[str]()
    async with nursery() as parent:
        for life in range(LIVES):
            place = tmp_path / str(life)
            place.mkdir()
            async with first_life(parent, place) as book:
                for point in range(POINTS // LIVES):
                    await kill_once(parent, book, rng, life * 1000 + point, figures)
                mortal = await restarted(parent, book)
                await mortal.kill()
                assert verified(book.state / "pratique.db", place / "copy.db").ok
                assert book.used["calls"] <= MOST_CALLS
                assert book.used["spend:EUR"] <= MOST_CENTS
                figures["effects"] += len(recorded(book.folder))
                figures["intents"] += len(book.intents)
                figures["unknown"] += sum(each == ["unknown"] for each in book.outcomes.values())
    for name, value in figures.items():
        record_property(name, value)
    print(dict(figures))
    assert figures["kills"] == POINTS // LIVES * LIVES
    assert figures["unknown"] > 0, "no kill fell between an intent and its outcome: the test shows nothing"


async def kill_once(parent: Nursery, book: Book, rng: random.Random, seed: int, figures: Counter[str]) -> None:
    """One point: a restart with everything checked, a burst, and the kill."""
    if seed % 7 == 3:
        await asyncio.to_thread(wait_until_closed, book.folder)
        starting = await parent.start(book.state, book.folder, jitter=True, unsafe_without=["spend"])
        await asyncio.sleep(rng.uniform(0, STARTING_S))
        await starting.kill()
        figures["kills"] += 1
        return
    mortal = await restarted(parent, book)
    figures["settled"] += await settle(book, await mortal.url)
    working = asyncio.create_task(burst(book, await mortal.url, seed))
    await asyncio.sleep(rng.uniform(0.01, BURST_S))
    await mortal.kill()
    await working
    assert verified(book.state / "pratique.db", book.state.parent / "copy.db").ok
    figures["kills"] += 1
