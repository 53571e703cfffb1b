"""How a case reads in the log: the documents that intents, outcomes and refusals leave behind."""

from hashlib import sha256
from typing import Any

from audit.event import Event
from gateway.ids import new_id
from gateway.stores.codec import INTEGRITY, label_document
from policies.action import Action
from policies.case import Argument, Case
from policies.jsonvalue import JSON, canonical
from policies.label import Source
from policies.verdict import Reason

WHOLE_BYTES, EXCERPT_BYTES = 2_048, 256
"""A longer value stands in the log by its start and digest."""
SHOWN_SOURCES = 8
"""How many sources of one argument stand in the log; the label itself keeps all."""


def event_of(
    action: Action, kind: str, now: float, payload: dict[str, Any], *, verdict: str, ticket: str = ""
) -> Event:
    """An event about one action, findable by everything that names it."""
    subject = action.subject
    return Event(
        id=new_id("evt"),
        kind=kind,
        time=now,
        payload={"principal": subject.principal, "token": subject.token, "root": subject.root, **payload},
        task=subject.task,
        agent=subject.agent,
        action=action.id,
        server=action.server,
        tool=action.name,
        verdict=verdict,
        ticket=ticket,
    )


def case_document(case: Case) -> dict[str, Any]:
    """What was decided and from what: everything a person needs to understand it, nothing a decision reads back."""
    definition = case.seen.definition
    return {
        "kind": case.action.kind,
        "definition": definition.digest if definition else None,
        "policy": case.policy,
        "rules": list(case.rules),
        "effect": case.tool.effect,
        "sandbox": case.sandbox,
        "image": case.seen.image,
        "arguments": [argument_document(argument) for argument in case.arguments]
        or [{"path": "", "value": shown(case.action.arguments)}],
        "mark": label_document(case.seen.mark),
        "spends": list(case.spends) if case.spends else None,
        "takes": [list(one) for one in case.action.takes],
        "cause": case.action.cause or None,
        "denials": [reason_document(reason) for reason in sorted(case.verdict.denials)],
        "asks": [reason_document(reason) for reason in sorted(case.verdict.asks)],
    }


def argument_document(argument: Argument) -> dict[str, Any]:
    return {
        "path": argument.path,
        "value": shown(argument.value),
        "role": argument.spec.role,
        "integrity": INTEGRITY[argument.label.integrity],
        "proof": argument.proof,
        "from": [[s.action, s.server, s.tool, s.path] for s in sorted(filter(_named, argument.label.sources))][
            :SHOWN_SOURCES
        ],
    }


def shown(value: JSON) -> JSON:
    """A value as the log has it beside the frame: whole while it is short, else its start, size and digest.

    A refused call's arguments may be megabytes of somebody's choosing; a sent one's stand in its frame.
    """
    if isinstance(value, bool | int | float | None):
        return value
    encoded = canonical(value)
    if len(encoded) <= WHOLE_BYTES:
        return value
    start = encoded[:EXCERPT_BYTES].decode(errors="replace")
    return {"start": start, "bytes": len(encoded), "sha256": sha256(encoded).hexdigest()}


def _named(source: Source) -> bool:
    """Whether it says in which call the value was seen; a mark's do not."""
    return source.action != ""


def reason_document(reason: Reason) -> dict[str, str]:
    return {"code": reason.code, "detail": reason.detail, "path": reason.path}
