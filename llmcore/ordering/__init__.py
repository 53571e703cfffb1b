"""Who goes first: one interface, four policies."""

from collections.abc import Mapping

from llmcore.ordering.fifo import Fifo
from llmcore.ordering.ordering import Ordering
from llmcore.ordering.priority import Priority
from llmcore.ordering.round_robin import RoundRobin
from llmcore.ordering.vtc import Vtc

__all__ = ["POLICIES", "Fifo", "Ordering", "Priority", "RoundRobin", "Vtc", "ordering_named"]

POLICIES = ("vtc", "fifo", "round-robin", "priority")


def ordering_named(policy: str, *, weights: Mapping[str, float] | None = None) -> Ordering:
    """The policy of that name; `weights` are tenants' shares, under VTC alone.

    Raises:
        ValueError: there is no such policy.
    """
    if policy == "vtc":
        return Vtc(weights=weights)
    others: dict[str, type[Ordering]] = {"fifo": Fifo, "round-robin": RoundRobin, "priority": Priority}
    if policy not in others:
        raise ValueError(f"no policy is called {policy!r}; there are {', '.join(POLICIES)}")
    return others[policy]()
