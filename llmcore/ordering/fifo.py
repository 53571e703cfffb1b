"""First come, first served: whoever asks most gets most. The baseline that the others are measured against."""

from collections.abc import Container

from llmcore.group import Group
from llmcore.ordering.ordering import Claim, Line, by_arrival


class Fifo:
    """One line, in the order of claims."""

    name = "fifo"

    def __init__(self) -> None:
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
        return by_arrival(group)

    def charge(self, group: Group, prefill: int, decode: int) -> None:
        """Nothing is counted."""

    def service(self, tenant: str) -> float:  # noqa: ARG002
        return 0.0
