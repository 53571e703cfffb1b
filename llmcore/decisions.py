"""What the scheduler did and why, for the audit log: a few lines for each request, none for each token.

Tokens and block-seconds ride on the decisions at which a request gives up its blocks (preempted, suspended, finished,
cancelled), each saying what was served since the last. So over all decisions of a request they sum up to exactly what
it took.
"""

from collections.abc import Callable
from dataclasses import replace

from llmcore.group import Group
from llmcore.messages import Decision
from llmcore.request import Refused, Request


class DecisionLog:
    """Decisions since they were last drained, oldest first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._decisions: list[Decision] = []

    def drained(self) -> list[Decision]:
        decisions, self._decisions = self._decisions, []
        return decisions

    def note(self, kind: str, group: Group, reason: str = "") -> None:
        """Something that cost nothing yet: `admitted`, `started`, `resumed`."""
        self._decisions.append(Decision(self._clock(), kind, group.request.id, group.tenant, reason))

    def waited(self, group: Group, cause: str) -> None:
        """Why it is not started though it is its turn; told once for each cause."""
        if group.cause != cause:
            group.cause = cause
            self.note("waited", group, cause)

    def refused(self, request: Request, refused: Refused) -> None:
        reason = f"{refused.code}: {refused.reason}"
        self._decisions.append(Decision(self._clock(), "refused", request.id, request.tenant, reason))

    def served(self, kind: str, group: Group, reason: str = "") -> None:
        """`preempted`, `suspended`, `finished`, `cancelled`: with what it took since the last of these.

        Its blocks have been given back, or their seconds brought up to now.
        """
        bill, told = group.bill, group.told
        bill.block_seconds = group.block_seconds
        self._decisions.append(
            Decision(
                self._clock(),
                kind,
                group.request.id,
                group.tenant,
                reason,
                bill.prefill_tokens - told.prefill_tokens,
                bill.decode_tokens - told.decode_tokens,
                bill.cached_tokens - told.cached_tokens,
                bill.block_seconds - told.block_seconds,
            )
        )
        group.told = replace(bill)
