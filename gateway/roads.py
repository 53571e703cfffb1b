"""The roads together: servers of our own beside the table of upstream ones. Each action has exactly one."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.ports import Intent, Outcome, Progress, Road
from policies.action import Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Roads:
    """Implements `ports.Road`."""

    upstream: Road
    own: Mapping[str, Road]
    """By server."""

    async def execute(self, intent: Intent, progress: Progress | None = None) -> Outcome:
        return await self._to(intent.action).execute(intent, progress)

    def cancel(self, action_id: str) -> None:
        for road in (self.upstream, *self.own.values()):  # one knows it
            road.cancel(action_id)

    def frame(self, action: Action) -> bytes:
        return self._to(action).frame(action)

    def _to(self, action: Action) -> Road:
        return self.own.get(action.server, self.upstream)
