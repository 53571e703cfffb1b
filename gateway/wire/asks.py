"""What a message of an agent's comes down to, in either era: something to mediate, or an answer that needs nobody.

Of a call's params only its name, its arguments and its progress token are read. Every other member (a `task`, vendor
`_meta`, baggage) ends here: what goes to an upstream is built from the action alone.
"""

from dataclasses import dataclass
from typing import TypeAlias

from gateway.wire.http import Head, Reply
from gateway.wire.jsonrpc import ErrorCode, Failure, Notification, Request, RequestId
from policies.jsonvalue import JSONObject

NAME_LIMIT = 128
"""Characters of a name or a method that we keep or repeat; tools have at most 64."""


@dataclass(frozen=True, slots=True)
class Call:
    """`tools/call`, for the corridor."""

    id: RequestId
    server: str
    """Empty where a name has no server in it: then no tool is called that."""
    tool: str
    arguments: JSONObject
    progress_token: RequestId | None = None


@dataclass(frozen=True, slots=True)
class List:
    """`tools/list`, for the corridor."""

    id: RequestId


@dataclass(frozen=True, slots=True)
class Unmediated:
    """A method that has no stages yet: recorded by the corridor, then refused."""

    method: str
    params: JSONObject
    refusal: Failure


@dataclass(frozen=True, slots=True)
class Cancel:
    """The client no longer wants this answer."""

    id: RequestId


Ask: TypeAlias = Call | List | Unmediated | Cancel | Reply

ACCEPTED = Reply(202)
"""A notification, or an answer that nobody waits for."""

_KNOWN = frozenset(
    {
        "completion/complete",
        "logging/setLevel",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "subscriptions/listen",
        "tasks/cancel",
        "tasks/get",
        "tasks/list",
        "tasks/result",
        "tasks/update",
    }
)


def ask(head: Head, request: Request) -> Call | List | Unmediated | Failure:
    """The part of the protocol that both eras share."""
    match request.method:
        case "tools/call":
            return _call(head, request)
        case "tools/list" if request.params.get("cursor") is None:
            return List(request.id)
        case "tools/list":
            return Failure(request.id, ErrorCode.INVALID_PARAMS, "Invalid params: no cursor was handed out")
        case method:
            return _unmediated(request, method[:NAME_LIMIT])


def cancelled_id(notification: Notification) -> RequestId | None:
    """Whom `notifications/cancelled` speaks of."""
    candidate = notification.params.get("requestId")
    return candidate if isinstance(candidate, str | int) and not isinstance(candidate, bool) else None


def _call(head: Head, request: Request) -> Call | Failure:
    name, arguments = request.params.get("name"), request.params.get("arguments")
    if not isinstance(name, str) or len(name) > NAME_LIMIT:
        return Failure(request.id, ErrorCode.INVALID_PARAMS, "Invalid params: a tool's name is a string")
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        return Failure(request.id, ErrorCode.INVALID_PARAMS, "Invalid params: arguments are an object")
    if "inputResponses" in request.params or "requestState" in request.params:
        return Failure(request.id, ErrorCode.INVALID_PARAMS, "Invalid params: no input was asked for")
    server, tool = (head.server, name) if head.server else _split(name)
    return Call(request.id, server, tool, arguments, _progress_token(request))


def _split(name: str) -> tuple[str, str]:
    """`server__tool`, at the first `__`."""
    server, separator, tool = name.partition("__")
    return (server, tool) if separator else ("", name)


def _progress_token(request: Request) -> RequestId | None:
    meta = request.params.get("_meta")
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    return token if isinstance(token, str | int) and not isinstance(token, bool) else None


def _unmediated(request: Request, method: str) -> Unmediated:
    text = f"{method} is not yet mediated by this gateway" if method in _KNOWN else f"Method not found: {method}"
    return Unmediated(method, request.params, Failure(request.id, ErrorCode.METHOD_NOT_FOUND, text))
