"""A model that the test plays: it answers servers as the corridor would, and remembers what it was asked."""

import asyncio
from dataclasses import dataclass, field

from gateway.wire import sampling
from policies.action import Action
from policies.jsonvalue import JSONObject
from policies.verdict import Code


@dataclass
class Model:
    """Implements `ports.Sampler`."""

    says: str | Code | Exception = "a poem"
    offered: frozenset[tuple[str, str]] | None = None
    """(task, server) whose grant names the model; None: every one."""
    is_held: bool = False
    """Answer nobody until `release`."""
    asked: list[tuple[str, JSONObject]] = field(default_factory=list)
    """The causing action's id, and the params."""
    left: list[str] = field(default_factory=list)
    """Causes of what was cancelled while it waited."""
    _moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    def offers(self, task: str, server: str) -> bool:
        return self.offered is None or (task, server) in self.offered

    async def sample(self, cause: Action, params: JSONObject) -> JSONObject | Code:
        self.asked.append((cause.id, params))
        try:
            async with self._moved:
                self._moved.notify_all()
                await self._moved.wait_for(lambda: not self.is_held)
        except asyncio.CancelledError:
            self.left.append(cause.id)
            raise
        if isinstance(self.says, Exception):
            raise self.says
        if isinstance(self.says, Code):
            return self.says
        if isinstance(sampling.parse(params), str):
            return Code.ARGUMENTS_INVALID
        return sampling.answer(self.says, model="test-model", finish="stop")

    async def release(self) -> None:
        async with self._moved:
            self.is_held = False
            self._moved.notify_all()

    async def was_asked(self, times: int) -> None:
        """Wait until it was asked so often."""
        async with asyncio.timeout(20), self._moved:
            await self._moved.wait_for(lambda: len(self.asked) >= times)
