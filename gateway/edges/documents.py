"""What operators read: tickets, tasks and events as JSON, with times as RFC 3339 in UTC."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from audit.query import Record
from gateway.errors import OperatorError
from gateway.stores.tickets import Ticket

MODEL_WORDS = "In the model's words (it may be wrong, and what it read may have steered it)"
"""What stands over a ticket's `model_summary` wherever it is shown: it is no fact, and no advice."""
MOST_MODEL_WORDS = 600
"""Characters of it that are shown."""


def rfc3339(seconds: float | None) -> str | None:
    """`2027-05-14T09:30:00.250Z`; nothing of nothing."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def instant(text: str | None) -> float | None:
    """Unix seconds of an RFC 3339 time.

    Raises:
        OperatorError: it is none (422).
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise OperatorError(f"{text[:60]!r} is not a time such as 2027-05-14T09:30:00Z", status=422)
    return found.timestamp()


def timed(document: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """The document with the named fields as times."""
    return {key: rfc3339(value) if key in names else value for key, value in document.items()}


def ticket_document(ticket: Ticket, model_summary: str | None = None) -> dict[str, Any]:
    """A ticket, and apart from its facts what the model said of it: data of unknown worth, in no digest."""
    return {
        "id": ticket.id,
        "task": ticket.task,
        "state": ticket.state,
        "call_digest": ticket.call_digest,
        "version": ticket.version,
        "created": rfc3339(ticket.created),
        "expires": rfc3339(ticket.expires),
        "decided": rfc3339(ticket.decided),
        "by": ticket.by,
        "scope": ticket.scope,
        "comment": ticket.comment,
        "card": ticket.card,
        "model_summary": model_summary,
    }


def task_document(task: Mapping[str, Any]) -> dict[str, Any]:
    document = timed(task, "created", "expires")
    if "tokens" in document:
        document["tokens"] = [timed(token, "expires") for token in document["tokens"]]
        document["unknown"] = [timed(call, "time") for call in document["unknown"]]
    return document


def event_document(record: Record) -> dict[str, Any]:
    return timed(asdict(record), "time")
