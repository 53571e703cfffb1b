"""Usage: what the recorded decisions add up to, whose it was, and how long requests waited for which reason."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine

from audit.event import Event
from audit.keys import generate
from audit.log import AuditLog
from audit.schema import metadata
from gateway.ids import new_id
from gateway.llm.usage import KIND, MOST_REASONS, OTHER, Tally, Wanted, tallied
from llmcore.messages import Decision

ORIGIN = "pratique.test/log"


def decided(kind: str, request: str = "act_1", *, at: float = 0.0, tenant: str = "agt_1", **more: Any) -> Decision:
    return Decision(time=at, kind=kind, request=request, tenant=tenant, **more)


def tallied_up(*decisions: Decision, names: dict[str, tuple[str, str]] | None = None, **wanted: Any) -> dict[str, Any]:
    tally = Tally(wanted=Wanted(**wanted))
    tally.add(decisions, names or {})
    return tally.document()


class Log:
    """A real log in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        path = folder / "pratique.db"
        engine = create_engine(f"sqlite:///{path}")
        metadata.create_all(engine)
        engine.dispose()
        self.connection = sqlite3.connect(path, isolation_level=None)
        self._log = AuditLog(ORIGIN, generate(ORIGIN))
        self._log.rebuild(self.connection)

    def write(self, kind: str, payload: dict[str, Any], *, time: float = 0.0, **names: str) -> None:
        event = Event(id=new_id("evt"), kind=kind, time=time, payload=payload, **names)
        self.connection.execute("BEGIN IMMEDIATE")
        self._log.append(self.connection, [event])
        self.connection.execute("COMMIT")
        self._log.committed()

    def decided(self, *decisions: Decision, time: float = 0.0) -> None:
        self.write(KIND, {"decisions": msgspec.to_builtins(decisions)}, time=time, server="llm")

    def usage(self, **wanted: Any) -> dict[str, Any]:
        tally = Tally(wanted=Wanted(**wanted))
        for _page in tallied(self.connection, tally):
            pass
        return tally.document()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path)
    yield made
    made.connection.close()


def test_tokens_blocks_and_waits_are_summed_for_each_tenant() -> None:
    found = tallied_up(
        decided("admitted", at=10.0),
        decided("waited", at=10.0, reason="no free block"),
        decided("started", at=12.5, cached_tokens=16),
        decided("preempted", at=13.0, reason="a decode needs its blocks", prefill_tokens=100, block_seconds=1.5),
        decided("resumed", at=14.0),
        decided("finished", at=20.0, prefill_tokens=20, decode_tokens=8, block_seconds=2.25),
        decided("refused", "act_2", tenant="agt_2", reason="the queue is full"),
    )

    first, second = found["usage"]
    assert first == {
        "tenant": "agt_1",
        "task": "",
        "agent": "",
        "requests": 1,
        "prefill_tokens": 120,
        "decode_tokens": 8,
        "cached_tokens": 16,
        "block_seconds": 3.75,
        "waited_s": 3.5,
        "waited": {"no free block": 1},
        "preempted": {"a decode needs its blocks": 1},
        "refused": {},
    }
    assert (second["tenant"], second["requests"], second["refused"]) == ("agt_2", 1, {"the queue is full": 1})
    assert (found["total"]["requests"], found["erased"]) == (2, 0)


@given(
    st.lists(
        st.builds(
            Decision,
            time=st.floats(0, 100),
            kind=st.sampled_from(("admitted", "started", "preempted", "resumed", "finished", "waited")),
            request=st.sampled_from(("act_1", "act_2", "act_3")),
            tenant=st.sampled_from(("a", "b")),
            prefill_tokens=st.integers(0, 50),
            decode_tokens=st.integers(0, 50),
            cached_tokens=st.integers(0, 50),
        )
    )
)
def test_the_rows_sum_up_to_the_total_and_the_total_to_the_decisions(decisions: list[Decision]) -> None:
    found = tallied_up(*decisions)

    for name in ("prefill_tokens", "decode_tokens", "cached_tokens"):
        of_all = sum(getattr(one, name) for one in decisions)
        assert found["total"][name] == sum(row[name] for row in found["usage"]) == of_all
    assert found["total"]["waited_s"] >= 0


def test_a_request_that_was_cancelled_while_it_waited_has_waited() -> None:
    assert tallied_up(decided("admitted", at=1.0), decided("cancelled", at=4.0))["total"]["waited_s"] == 3.0


def test_reasons_of_somebodys_making_do_not_fill_a_row() -> None:
    many = [decided("waited", reason=f"reason {number}") for number in range(100)]

    waited = tallied_up(*many)["total"]["waited"]

    assert len(waited) == MOST_REASONS + 1
    assert (waited[OTHER], sum(waited.values())) == (100 - MOST_REASONS, 100)


def test_whose_it_was_stands_in_the_actions_own_events(log: Log) -> None:
    log.write("effect.intent", {}, action="act_1", task="task_1", agent="ann", server="llm", tool="generate")
    log.write("effect.intent", {}, action="act_2", task="task_2", agent="ann", server="llm", tool="generate")
    log.decided(decided("finished", "act_1", decode_tokens=5), decided("finished", "act_2", decode_tokens=7))
    log.decided(decided("finished", "act_unheard", decode_tokens=1, tenant="gateway"))

    rows = log.usage()["usage"]

    assert [(row["task"], row["agent"], row["decode_tokens"]) for row in rows] == [
        ("task_2", "ann", 7),
        ("task_1", "ann", 5),
        ("", "", 1),
    ]
    assert [row["decode_tokens"] for row in log.usage(task="task_1")["usage"]] == [5]
    assert log.usage(agent="ann")["total"]["decode_tokens"] == 12
    assert log.usage(task="task_1", agent="bob")["usage"] == []


def test_one_request_is_told_decision_by_decision(log: Log) -> None:
    log.decided(decided("admitted", at=1.0), decided("admitted", "act_2", at=1.0))
    log.decided(decided("waited", at=1.5, reason="no free block"), time=2.0)

    found = log.usage(request="act_1")

    assert [(one["kind"], one["reason"]) for one in found["decisions"]] == [
        ("admitted", ""),
        ("waited", "no free block"),
    ]
    assert found["total"]["requests"] == 1
    assert "decisions" not in log.usage()


def test_only_the_time_that_was_asked_about_counts(log: Log) -> None:
    for time in (1.0, 2.0, 3.0):
        log.decided(decided("finished", decode_tokens=1), time=time)

    assert log.usage(since=2.0)["total"]["decode_tokens"] == 2
    assert log.usage(since=2.0, until=3.0)["total"]["decode_tokens"] == 1


def test_an_erased_batch_is_said_to_be_missing(log: Log) -> None:
    log.decided(decided("finished", decode_tokens=5))
    log.decided(decided("finished", decode_tokens=7))
    log.connection.execute("UPDATE payloads SET nonce = NULL, body = NULL WHERE idx = 0")

    found = log.usage()

    assert (found["total"]["decode_tokens"], found["erased"]) == (7, 1)


def test_other_events_are_not_looked_at(log: Log) -> None:
    log.write("decision", {"decisions": "not ours"})

    assert log.usage()["usage"] == []
