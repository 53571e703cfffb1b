"""Higher priority first, and whoever waits rises: nothing starves.

A request of priority p that has waited w seconds ranks as p + w / `aging_s`. All of them rise at one rate, so their
order never changes, and the rank at time zero says it: arrived / `aging_s` - p, the smallest first. A request can
only be overtaken by those that come within `aging_s` for each level they are above it.
"""

from collections.abc import Container

from llmcore.group import Group
from llmcore.ordering.ordering import Claim, Line


class Priority:
    name = "priority"

    def __init__(self, *, aging_s: float = 600.0) -> None:
        self._aging_s = aging_s
        self._line = Line(self.claim)

    def arrived(self, group: Group) -> None:
        self._line.add(group)

    def started(self, group: Group) -> None:
        self._line.discard(group)

    def left(self, group: Group) -> None:
        self._line.discard(group)

    def next(self, skip: Container[str]) -> Group | None:
        return self._line.first(skip)

    def claim(self, group: Group) -> Claim:
        return (group.arrived / self._aging_s - group.request.priority, group.arrival)

    def charge(self, group: Group, prefill: int, decode: int) -> None:
        """Nothing is counted."""

    def service(self, tenant: str) -> float:  # noqa: ARG002
        return 0.0
