"""A refusal in the log, with where the refused values came from; bounded, because a refusal costs a sync and disk."""

import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.ports import Answer, Done
from gateway.stages.evidence import case_document, event_of
from policies.case import Case

LISTED_PER_MINUTE = 120
"""Refusals of one token that are listed one by one in a minute; the rest are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """The unit that records a denied case."""

    case: Case
    trace: Sequence[Mapping[str, Any]]
    """Where each argument value was seen in results (`policies/trace.py`): explains, never authorises."""
    uncounted: int
    """Refusals of this token that were only counted since the last listed one."""
    clock: Callable[[], float]

    def __call__(self, _db: sqlite3.Connection) -> Done[Answer]:
        payload = {**case_document(self.case), "trace": list(self.trace), "also_refused": self.uncounted}
        event = event_of(self.case.action, "decision", self.clock(), payload, verdict="deny")
        return Done(value=refusal(self.case), events=(event,))


def refusal(case: Case) -> Answer:
    return Answer(action=case.action.id, code=case.verdict.code)


@dataclass(slots=True)
class RefusalMeter:
    """Which refusals are listed, and how many were only counted."""

    _listed: dict[str, deque[float]] = field(default_factory=dict)
    _counted: dict[str, int] = field(default_factory=dict)

    def lists(self, root: str, now: float) -> bool:
        """Whether one more refusal of this token is listed; otherwise it is counted. `now`: seconds that only rise."""
        times = self._listed.setdefault(root, deque())
        while times and times[0] <= now - 60:
            times.popleft()
        if len(times) >= LISTED_PER_MINUTE:
            self._counted[root] = self._counted.get(root, 0) + 1
            return False
        times.append(now)
        return True

    def counted(self, root: str) -> int:
        """How many were counted and not yet told; telling them starts again from none."""
        return self._counted.pop(root, 0)

    def untold(self) -> dict[str, int]:
        """Every token's counted refusals, told by this."""
        counted, self._counted = self._counted, {}
        return counted
