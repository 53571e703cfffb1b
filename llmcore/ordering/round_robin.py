"""Tenants take turns, a request each, whatever it costs."""

from collections.abc import Container

from llmcore.group import Group
from llmcore.ordering.ordering import Claim, Line, by_arrival


class RoundRobin:
    name = "round-robin"

    def __init__(self) -> None:
        self._lines: dict[str, Line] = {}
        """By tenant, for those who wait; in the order of their turns."""

    def arrived(self, group: Group) -> None:
        self._lines.setdefault(group.tenant, Line(by_arrival)).add(group)

    def started(self, group: Group) -> None:
        self.left(group)
        if group.tenant in self._lines:
            self._lines[group.tenant] = self._lines.pop(group.tenant)  # to the end: it has had its turn

    def left(self, group: Group) -> None:
        line = self._lines.get(group.tenant)
        if line is not None:
            line.discard(group)
            if not line:
                del self._lines[group.tenant]

    def next(self, skip: Container[str]) -> Group | None:
        return next((line.first() for tenant, line in self._lines.items() if tenant not in skip), None)

    def claim(self, group: Group) -> Claim:
        return by_arrival(group)

    def charge(self, group: Group, prefill: int, decode: int) -> None:
        """Nothing is counted."""

    def service(self, tenant: str) -> float:  # noqa: ARG002
        return 0.0
