"""Who used how much of the model, and why a request waited: sums over what the scheduler had recorded.

`llm.decided` events hold batches of `llmcore.messages.Decision`; they are complete, so the sums are the tokens served.
Whose request it was stands in the events of the action of the same id. Read-only, gateway running or not.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from audit.query import MOST, Filter, Record, query
from llmcore.messages import Decision

KIND = "llm.decided"
MOST_REASONS = 20
"""Different reasons of one kind that a row lists; the rest are one, `OTHER`."""
OTHER = "other reasons"
_TOLD = ("waited", "preempted", "refused")
"""Kinds of decision whose reasons are listed."""
_WAITS, _GOES_ON = frozenset({"admitted", "preempted"}), frozenset({"started", "resumed"})
_ENDS = frozenset({"finished", "cancelled", "suspended", "refused"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which requests to sum up; everything that is given must hold."""

    task: str | None = None
    agent: str | None = None
    request: str | None = None
    """One request alone, by its action's id: its decisions are listed too."""
    since: float | None = None
    """Unix seconds, inclusive, of the event that holds the decision."""
    until: float | None = None
    """Exclusive."""


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """For whom a request ran; task and agent are empty where the log has none for it."""

    tenant: str
    task: str
    agent: str


@dataclass(slots=True)
class Used:
    """What one owner's requests took, within the time that was asked about."""

    requests: set[str] = field(default_factory=set)
    prefill_tokens: int = 0
    decode_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that the prefix cache spared; not among the prefilled ones."""
    block_seconds: float = 0.0
    waited_s: float = 0.0
    """From admission to start, and from each preemption until it went on."""
    reasons: dict[str, Counter[str]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {
            "requests": len(self.requests),
            "prefill_tokens": self.prefill_tokens,
            "decode_tokens": self.decode_tokens,
            "cached_tokens": self.cached_tokens,
            "block_seconds": round(self.block_seconds, 6),
            "waited_s": round(self.waited_s, 6),
            **{kind: dict(self.reasons[kind].most_common()) if kind in self.reasons else {} for kind in _TOLD},
        }


@dataclass(slots=True, kw_only=True)
class Tally:
    """Adds up decisions in the order in which they were recorded."""

    wanted: Wanted
    erased: int = 0
    """Events whose content is no longer there: what they held is missing from the sums."""
    rows: dict[Owner, Used] = field(default_factory=dict)
    total: Used = field(default_factory=Used)
    listed: list[Decision] = field(default_factory=list)
    _waiting: dict[str, float] = field(default_factory=dict)

    def add(self, decisions: Iterable[Decision], names: dict[str, tuple[str, str]]) -> None:
        """Count those that are wanted; `names` has task and agent of each request that is known."""
        for decision in decisions:
            owner = Owner(decision.tenant, *names.get(decision.request, ("", "")))
            if not self._is_wanted(decision, owner):
                continue
            waited_s = self._waited(decision)
            for used in (self.rows.setdefault(owner, Used()), self.total):
                _count(used, decision, waited_s)
            if self.wanted.request is not None:
                self.listed.append(decision)

    def document(self) -> dict[str, Any]:
        """The rows, those who took the most first, and their sums."""
        ordered = sorted(self.rows.items(), key=lambda row: (-row[1].prefill_tokens - row[1].decode_tokens, row[0]))
        rows = [
            {"tenant": owner.tenant, "task": owner.task, "agent": owner.agent, **used.document()}
            for owner, used in ordered
        ]
        listed = {"decisions": msgspec.to_builtins(self.listed)} if self.wanted.request is not None else {}
        return {"usage": rows, "total": self.total.document(), "erased": self.erased, **listed}

    def _is_wanted(self, decision: Decision, owner: Owner) -> bool:
        return (
            self.wanted.task in (None, owner.task)
            and self.wanted.agent in (None, owner.agent)
            and self.wanted.request in (None, decision.request)
        )

    def _waited(self, decision: Decision) -> float:
        """Seconds of waiting that end with this decision."""
        if decision.kind in _GOES_ON | _ENDS:
            return max(0.0, decision.time - self._waiting.pop(decision.request, decision.time))
        if decision.kind in _WAITS:
            self._waiting[decision.request] = decision.time
        return 0.0


def tallied(connection: sqlite3.Connection, tally: Tally) -> Iterator[None]:
    """Add everything recorded to `tally`, pausing after each page so that others may run; exhaust it."""
    names: dict[str, tuple[str, str]] = {}
    filter, after = Filter(kind=KIND, since=tally.wanted.since, until=tally.wanted.until), -1
    while page := query(connection, filter, after=after, limit=MOST):
        for event in page:
            if event.payload is None:
                tally.erased += 1
                continue
            decisions = msgspec.convert(event.payload["decisions"], tuple[Decision, ...])
            for request in {one.request for one in decisions} - names.keys():
                names[request] = _names(query(connection, Filter(action=request), limit=1))
            tally.add(decisions, names)
        after = page[-1].index
        yield


def _names(events: list[Record]) -> tuple[str, str]:
    return (events[0].task, events[0].agent) if events else ("", "")


def _count(used: Used, decision: Decision, waited_s: float) -> None:
    used.requests.add(decision.request)
    used.prefill_tokens += decision.prefill_tokens
    used.decode_tokens += decision.decode_tokens
    used.cached_tokens += decision.cached_tokens
    used.block_seconds += decision.block_seconds
    used.waited_s += waited_s
    if decision.kind in _TOLD:
        reasons = used.reasons.setdefault(decision.kind, Counter())
        is_known = decision.reason in reasons or len(reasons) < MOST_REASONS
        reasons[decision.reason if is_known else OTHER] += 1
