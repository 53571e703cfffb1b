"""What a scheduling policy decides: who of the waiting is next, and who of the running has the least claim to stay."""

from bisect import bisect_left, insort
from collections.abc import Callable, Container
from typing import Any, Protocol, TypeAlias

from llmcore.group import Group

Claim: TypeAlias = tuple[float, ...]
"""The smaller goes first."""


class Ordering(Protocol):
    """A policy, and its queue of waiting groups.

    Every group arrives, starts, may arrive again (it was preempted) and start again, and leaves, from either place.
    A policy only orders; that something runs whenever something can is the scheduler's doing.
    """

    @property
    def name(self) -> str: ...

    def arrived(self, group: Group) -> None:
        """It waits from now on."""
        ...

    def started(self, group: Group) -> None:
        """It runs from now on, and will first compute `group.uncomputed` tokens."""
        ...

    def left(self, group: Group) -> None:
        """It has ended, wherever it was."""
        ...

    def next(self, skip: Container[str]) -> Group | None:
        """The first of the waiting whose tenant is not skipped; it stays in the queue."""
        ...

    def claim(self, group: Group) -> Claim:
        """How running groups compare: room is made for the smallest by preempting the greatest."""
        ...

    def charge(self, group: Group, prefill: int, decode: int) -> None:
        """So many tokens of it were served."""
        ...

    def service(self, tenant: str) -> float:
        """What the policy counts for a tenant; 0 where it counts nothing."""
        ...


class Line:
    """Waiting groups in the order of their claims, which do not change while they wait."""

    def __init__(self, claim: Callable[[Group], Claim]) -> None:
        self._claim = claim
        self._places: list[tuple[Any, ...]] = []
        """(claim, arrival, group): arrivals differ, so groups are never compared."""

    def __len__(self) -> int:
        return len(self._places)

    def add(self, group: Group) -> None:
        insort(self._places, self._place(group))

    def discard(self, group: Group) -> None:
        index = bisect_left(self._places, self._place(group))
        if index < len(self._places) and self._places[index][-1] is group:
            del self._places[index]

    def first(self, skip: Container[str] = ()) -> Group | None:
        for place in self._places:
            group: Group = place[-1]
            if group.tenant not in skip:
                return group
        return None

    def _place(self, group: Group) -> tuple[Any, ...]:
        return self._claim(group), group.arrival, group


def by_arrival(group: Group) -> Claim:
    return (group.arrival,)
