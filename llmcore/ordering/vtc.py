"""Virtual token counters: the tenant that was served least is next (Sheng et al., "Fairness in Serving Large Language
Models", OSDI 2024, algorithm 2).

A tenant's counter rises by `PREFILL_WEIGHT` for each token of its prompts and `DECODE_WEIGHT` for each token of output,
over its share, as they are served. Who comes back after a pause is lifted to the least counter among those who wait:
nobody saves up service by staying away. Of two tenants that both always have something waiting, neither is ever served
more than 2 max(w_p L, w_q M) ahead of the other (L: the longest prompt; M: the most tokens that those who run at once
may come to have, which is what fits the KV cache unless more were started than will fit); and a tenant alone gets the
whole machine.

The paper charges a prompt at once when it starts. Here it is charged chunk by chunk, as it is computed; until then the
tokens a started request will yet prefill are *promised*, and count when the next is chosen, so that one step that
starts many does not start them all for one tenant.
"""

from collections.abc import Container, Mapping

from llmcore.group import Group
from llmcore.ordering.ordering import Claim, Line, by_arrival

PREFILL_WEIGHT = 1.0
DECODE_WEIGHT = 2.0


class Vtc:
    name = "vtc"

    def __init__(self, *, weights: Mapping[str, float] | None = None) -> None:
        """`weights`: shares of tenants; 1 for those not named."""
        self._weights = dict(weights or {})
        self._counters: dict[str, float] = {}
        self._lines: dict[str, Line] = {}
        """By tenant, for those who wait."""
        self._promised: dict[str, dict[Group, int]] = {}
        """By tenant: prompt tokens of started groups that are not charged yet."""
        self._last_left = ""

    def arrived(self, group: Group) -> None:
        tenant = group.tenant
        promised = self._promised.get(tenant, {})
        promised.pop(group, None)
        if tenant not in self._lines:
            if not group.preemptions:
                self._lift(tenant)
            self._lines[tenant] = Line(by_arrival)
        self._lines[tenant].add(group)

    def started(self, group: Group) -> None:
        self._promised.setdefault(group.tenant, {})[group] = group.uncomputed
        self._discard(group)

    def left(self, group: Group) -> None:
        promised = self._promised.get(group.tenant)
        if promised is not None:
            promised.pop(group, None)
            if not promised:
                del self._promised[group.tenant]
        self._discard(group)

    def next(self, skip: Container[str]) -> Group | None:
        firsts = (line.first() for tenant, line in self._lines.items() if tenant not in skip)
        return min((group for group in firsts if group is not None), key=self._due, default=None)

    def claim(self, group: Group) -> Claim:
        return (self.service(group.tenant), group.arrival)

    def charge(self, group: Group, prefill: int, decode: int) -> None:
        tenant = group.tenant
        if prefill and (promised := self._promised.get(tenant)) and group in promised:
            promised[group] = max(0, promised[group] - prefill)
        served = PREFILL_WEIGHT * prefill + DECODE_WEIGHT * decode
        self._counters[tenant] = self.service(tenant) + served / self._weight(tenant)

    def service(self, tenant: str) -> float:
        return self._counters.get(tenant, 0.0)

    def _due(self, group: Group) -> Claim:
        tenant = group.tenant
        promised = sum(self._promised.get(tenant, {}).values())
        return (self.service(tenant) + PREFILL_WEIGHT * promised / self._weight(tenant), group.arrival)

    def _lift(self, tenant: str) -> None:
        least = min(map(self.service, self._lines), default=self.service(self._last_left))
        self._counters[tenant] = max(self.service(tenant), least)

    def _discard(self, group: Group) -> None:
        line = self._lines.get(group.tenant)
        if line is None:
            return
        line.discard(group)
        if not line:
            del self._lines[group.tenant]
            self._last_left = group.tenant

    def _weight(self, tenant: str) -> float:
        return self._weights.get(tenant, 1.0)
