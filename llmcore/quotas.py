"""What one tenant may have of the engine. A refusal is a value with its reason; what may run later waits instead."""

from collections import deque
from collections.abc import Mapping

from msgspec import Struct

MINUTE_S = 60.0


class Quota(Struct, frozen=True, kw_only=True):
    """None: as much as there is."""

    max_waiting: int | None = None
    """Requests in the queue; more are refused."""
    max_running: int | None = None
    """Sequences at once; more wait, but for a single request of more."""
    max_blocks: int | None = None
    """KV blocks that its running requests may come to hold; more wait, and what alone needs more is refused."""
    tokens_per_minute: int | None = None
    """Prompt tokens computed and output tokens; once they are used up, requests are refused until a minute has passed
    over enough of them. What runs already runs on."""


class Quotas:
    """Every tenant's quota and use. The scheduler tells it who waits and runs; it counts the rest."""

    def __init__(self, default: Quota | None = None, tenants: Mapping[str, Quota] | None = None) -> None:
        self._default = default or Quota()
        self._tenants = dict(tenants or {})
        self._served: dict[str, deque[tuple[float, int]]] = {}
        """By tenant: when, how many tokens; the last minute's."""
        self._sums: dict[str, int] = {}

    def of(self, tenant: str) -> Quota:
        return self._tenants.get(tenant, self._default)

    def charge(self, tenant: str, tokens: int, now: float) -> None:
        if self.of(tenant).tokens_per_minute is not None:
            self._served.setdefault(tenant, deque()).append((now, tokens))
            self._sums[tenant] = self._sums.get(tenant, 0) + tokens

    def objection(self, tenant: str, *, waiting: int, now: float) -> str:
        """Why one more of its requests is refused for now; empty: it is not."""
        quota = self.of(tenant)
        if quota.max_waiting is not None and waiting >= quota.max_waiting:
            return f"{waiting} of your requests wait already, and {quota.max_waiting} may; try again when one has ended"
        if quota.tokens_per_minute is not None:
            used = self._in_last_minute(tenant, now)
            if used >= quota.tokens_per_minute:
                wait = self._served[tenant][0][0] + MINUTE_S - now
                return f"{used} of your {quota.tokens_per_minute} tokens a minute are used; try again in {wait:.0f} s"
        return ""

    def hold(self, tenant: str, *, running: int, blocks: int) -> str:
        """Why its next request must wait, though there is room; empty: it need not. Both counts with that request."""
        quota = self.of(tenant)
        if quota.max_running is not None and running > quota.max_running:
            return f"quota: {quota.max_running} sequences of the tenant may run"
        if quota.max_blocks is not None and blocks > quota.max_blocks:
            return f"quota: the tenant's requests would hold more than {quota.max_blocks} blocks"
        return ""

    def _in_last_minute(self, tenant: str, now: float) -> int:
        served = self._served.get(tenant)
        if served is None:
            return 0
        while served and served[0][0] <= now - MINUTE_S:
            self._sums[tenant] -= served.popleft()[1]
        return self._sums[tenant]
