"""Higher priority first, and whoever waits rises: nothing starves.

A request of priority p that has waited w seconds ranks as p + w / `aging_s`. All of them rise at one rate, so their
order never changes, and the rank at time zero says it: arrived / `aging_s` - p, the smallest first. A request can
only be overtaken by those that come within `aging_s` for each level they are above it.
"""

from typing_extensions import override

from llmcore.group import Group
from llmcore.ordering.fifo import Fifo
from llmcore.ordering.ordering import Claim


class Priority(Fifo):
    """One line too, by another claim."""

    name = "priority"

    def __init__(self, *, aging_s: float = 600.0) -> None:
        self._aging_s = aging_s
        super().__init__()

    @override
    def claim(self, group: Group) -> Claim:
        return (group.arrived / self._aging_s - group.request.priority, group.arrival)
