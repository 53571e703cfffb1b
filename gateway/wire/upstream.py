"""The client's side of MCP towards an upstream, as messages: frames out, events in; both eras, no I/O, no clock.

What goes down is built from the action alone: its name, its filled arguments, and ids, progress token and `_meta` of
ours. One client capability is declared, and only where it is mediated: `sampling`, without `tools` or `context`.
Whatever else a server asks of us is answered -32601. What comes up is one of a closed set of events; a result of a type
that we do not understand is an error of ours.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import TypeAlias

import msgspec
from typing_extensions import TypeIs

from gateway.wire import jsonrpc, sampling
from gateway.wire.jsonrpc import ErrorCode, RequestId
from policies.action import Action
from policies.jsonvalue import JSON, JSONObject

LEGACY_VERSION = "2025-11-25"
"""What `initialize` offers; the newest revision that is reached by a handshake."""
LEGACY_VERSIONS = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", LEGACY_VERSION})
MODERN_VERSION = "2026-07-28"
"""The revision whose every request carries the `_meta` envelope."""

OURS = "dev.pratique/"
"""The `_meta` namespace of our own decisions: nobody else may write in it."""

MAX_REQUESTS = 4
"""How many requests one `input_required` may hold."""
MAX_STATE_CHARS = 256_000
"""How much a server may have us carry from one round of a call to the next."""

_URL_ELICITATION = -32042
"""URLElicitationRequired of 2025-11-25."""
_META_PREFIX = "io.modelcontextprotocol/"
_CLIENT = {"name": "pratique", "version": version("pratique")}
_ENVELOPE: JSONObject = {
    f"{_META_PREFIX}protocolVersion": MODERN_VERSION,
    f"{_META_PREFIX}clientInfo": _CLIENT,
}
_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder().decode


class Era(StrEnum):
    LEGACY = "legacy"
    MODERN = "modern"


@dataclass(frozen=True, slots=True)
class Result:
    """A request of ours was answered, and we understand the answer."""

    id: str
    result: JSONObject


@dataclass(frozen=True, slots=True)
class Failed:
    """A request of ours was answered with an error, or with a result that we do not understand."""

    id: str
    code: int
    message: str
    supported: tuple[str, ...] = ()
    """With -32022: the protocol versions that the server names."""
    is_unmediated: bool = False
    """The server wants something of a client that is not mediated yet: its input, or that a person opens a page."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call of ours is not complete: the server wants a model's answers first (`input_required`, and nothing else)."""

    id: str
    requests: dict[str, JSONObject]
    """The server's keys to CreateMessageRequestParams; 1 to `MAX_REQUESTS`."""
    state: str | None = None
    """Opaque; goes back with the answers as it came."""


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far a call of ours is: finite numbers, the server's text is dropped."""

    id: str
    progress: float
    total: float | None


@dataclass(frozen=True, slots=True)
class Asked:
    """The server asked something of us; `refusal` is the line to answer with where that is not mediated."""

    method: str
    refusal: bytes
    id: RequestId
    params: JSONObject


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """The server no longer wants an answer to its own request of this id."""

    id: RequestId


@dataclass(frozen=True, slots=True)
class ToolsChanged:
    """The server says that its tools are no longer what it listed."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A notification that we do nothing about."""

    method: str


@dataclass(frozen=True, slots=True)
class Malformed:
    """A line that is no message of JSON-RPC, or answers nothing we could have asked."""

    reason: str
    id: str = ""
    """The request it meant to answer, where that could be read."""
    is_json: bool = True


Event: TypeAlias = Result | Failed | Wanted | Progressed | Asked | Withdrawn | ToolsChanged | Ignored | Malformed


# `samples`, wherever it is asked for: whether the server is told that its requests for a model are answered.


def call(era: Era, action: Action, *, samples: bool = False) -> bytes:
    """`tools/call`; its id and its progress token are the action's id. Equal actions give equal bytes."""
    params: JSONObject = {"name": action.name, "arguments": action.arguments, "_meta": {"progressToken": action.id}}
    return _request(era, action.id, "tools/call", params, samples)


def continued(frame: bytes, number: int, answers: JSONObject, state: str | None) -> bytes:
    """The modern call that was sealed in `frame` once more, with the answers to what its server wanted.

    A function of these alone: what was sealed is said again. Its id, and its progress token, is the sealed one's
    with `/number`.
    """
    sealed: JSONObject = _decode(frame)
    request_id, params = continuation_id(sealed["id"], number), sealed["params"]
    params["_meta"]["progressToken"] = request_id
    params["inputResponses"] = answers
    if state is not None:
        params["requestState"] = state
    return _encode(sealed | {"id": request_id})


def continuation_id(action_id: str, number: int) -> str:
    """The id of a call's round: the action's own, then numbered from 1."""
    return f"{action_id}/{number}" if number else action_id


def initialize(request_id: str, *, samples: bool = False) -> bytes:
    params: JSONObject = {
        "protocolVersion": LEGACY_VERSION,
        "capabilities": _capabilities(samples),
        "clientInfo": _CLIENT,
    }
    return _request(Era.LEGACY, request_id, "initialize", params)


def initialized() -> bytes:
    return _notification("notifications/initialized", {})


def discover(request_id: str, *, samples: bool = False) -> bytes:
    return _request(Era.MODERN, request_id, "server/discover", {}, samples)


def list_tools(era: Era, request_id: str, cursor: str | None = None, *, samples: bool = False) -> bytes:
    return _request(era, request_id, "tools/list", {} if cursor is None else {"cursor": cursor}, samples)


def listen(request_id: str, *, samples: bool = False) -> bytes:
    """Ask a modern server to say when its tools change; the answer comes when the stream ends."""
    wanted: JSONObject = {"notifications": {"toolsListChanged": True}}
    return _request(Era.MODERN, request_id, "subscriptions/listen", wanted, samples)


def cancelled(request_id: str) -> bytes:
    return _notification("notifications/cancelled", {"requestId": request_id, "reason": "cancelled"})


def read(line: bytes) -> Event:
    """One line of a server's output, its newline cut or not."""
    match jsonrpc.parse(line, exact_integers=False):
        case jsonrpc.Response(str() as request_id, result):
            return _result(request_id, result)
        case jsonrpc.Failure(str() as request_id, code, message, data):
            return Failed(request_id, code, message, _supported(data), is_unmediated=code == _URL_ELICITATION)
        case jsonrpc.Notification("notifications/progress", params):
            return _progress(params)
        case jsonrpc.Notification("notifications/tools/list_changed"):
            return ToolsChanged()
        case jsonrpc.Notification("notifications/cancelled", {"requestId": str() | int() as request_id}) if (
            not isinstance(request_id, bool)
        ):
            return Withdrawn(request_id)
        case jsonrpc.Notification(method):
            return Ignored(method)
        case jsonrpc.Request(request_id, method, params):
            refusal = jsonrpc.Failure(request_id, ErrorCode.METHOD_NOT_FOUND, "Method not found")
            return Asked(method, jsonrpc.encode(refusal), request_id, params)
        case jsonrpc.Malformed(code, message, request_id):
            is_json = code is not ErrorCode.PARSE_ERROR
            return Malformed(message, request_id if isinstance(request_id, str) else "", is_json)
        case _:
            return Malformed("an answer to an id that was never ours")


def _request(era: Era, request_id: str, method: str, params: JSONObject, samples: bool = False) -> bytes:
    if era is Era.MODERN:
        declared = {f"{_META_PREFIX}clientCapabilities": _capabilities(samples)}
        params["_meta"] = _ENVELOPE | declared | params.get("_meta", {})
    return _encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def _capabilities(samples: bool) -> JSONObject:
    return {"sampling": {}} if samples else {}


def _notification(method: str, params: JSONObject) -> bytes:
    return _encode({"jsonrpc": "2.0", "method": method, "params": params})


def _result(request_id: str, result: JSONObject) -> Event:
    kind = result.get("resultType", "complete")
    if kind == "input_required":
        return _wanted(request_id, result)
    if kind != "complete":
        reason = "a result of a type that is not mediated"
        return Failed(request_id, ErrorCode.SERVER_ERROR, reason, is_unmediated=True)
    _strip_ours(result)
    content = result.get("content")
    for block in content if isinstance(content, list) else ():
        _strip_ours(block)
        if isinstance(block, dict):
            _strip_ours(block.get("resource"))
    return Result(request_id, result)


def _wanted(request_id: str, result: JSONObject) -> Wanted | Failed:
    """What `input_required` wants, where that is samples alone: one request that is not mediated, and none is."""
    asked, state = result.get("inputRequests"), result.get("requestState")
    requests: dict[str, JSONObject] = {}
    for key, request in asked.items() if isinstance(asked, dict) else ():
        match request:
            case {"method": sampling.METHOD, "params": dict() as params}:
                requests[key] = params
            case _:
                requests.clear()
                break
    if not requests:
        reason = "it wants input that is not mediated"
        return Failed(request_id, ErrorCode.SERVER_ERROR, reason, is_unmediated=True)
    if not isinstance(state, str | None) or len(state or "") > MAX_STATE_CHARS or len(requests) > MAX_REQUESTS:
        reason = f"it wants more than {MAX_REQUESTS} answers at once, or more than {MAX_STATE_CHARS} characters kept"
        return Failed(request_id, ErrorCode.SERVER_ERROR, reason)
    return Wanted(request_id, requests, state)


def _strip_ours(holder: JSON) -> None:
    """A server cannot speak in our name: our keys leave the `_meta` of a result that nobody holds yet."""
    if not isinstance(holder, dict) or "_meta" not in holder:
        return
    meta = holder["_meta"]
    kept = meta if isinstance(meta, dict) else {}
    holder["_meta"] = {key: value for key, value in kept.items() if not key.strip().casefold().startswith(OURS)}


def _progress(params: JSONObject) -> Event:
    match params:
        case {"progressToken": str() as token, "progress": progress} if _is_number(progress):
            total = params.get("total")
            return Progressed(token, float(progress), float(total) if _is_number(total) else None)
        case _:
            return Malformed("progress without a token of ours and a finite number")


def _is_number(value: JSON) -> TypeIs[int | float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= jsonrpc.MAX_SAFE_INTEGER if isinstance(value, int) else math.isfinite(value)


def _supported(data: JSON) -> tuple[str, ...]:
    match data:
        case {"supported": list() as names}:
            return tuple(name for name in names if isinstance(name, str))
        case _:
            return ()
