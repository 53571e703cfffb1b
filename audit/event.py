"""An event: one thing that happened, before it becomes a leaf."""

from dataclasses import dataclass, field
from typing import Any

KINDS = frozenset(
    {
        "server.started",
        "server.stopped",
        "listed",
        "decision",
        "approval.requested",
        "approval.decided",
        "effect.intent",
        "effect.continued",
        "effect.outcome",
        "token.minted",
        "token.revoked",
        "task.created",
        "policy.activated",
        "pack.activated",
        "definition.pinned",
        "definition.changed",
        "definition.accepted",
        "definition.withdrawn",
        "unknown.settled",
        "refusals.counted",
        "egress.connected",
        "egress.closed",
        "egress.refused",
        "egress.budget",
        "workspace.applied",
        "workspace.cleared",
        "workspace.conflict",
        "workspace.dropped",
        "llm.decided",
        "llm.suspended",
        "llm.forgotten",
        "approval.explained",
    }
)
"""Every kind written today; the leaf format has room for more (`docs/decisions/`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What a room asks the log to remember. People query by the columns; each enters the leaf or its payload."""

    id: str
    """`evt_...`"""
    kind: str
    time: float
    """Unix seconds."""
    payload: dict[str, Any] = field(default_factory=dict)
    """JSON; kept beside the leaf, which holds only a salted commitment to it."""
    task: str = ""
    agent: str = ""
    action: str = ""
    server: str = ""
    tool: str = ""
    verdict: str = ""
    """`permit`, `ask`, `deny`, or an outcome's kind."""
    ticket: str = ""
