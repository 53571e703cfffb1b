"""The client's side of MCP towards an upstream, as messages: frames out, events in; both eras, no I/O, no clock.

What goes down is built from the action alone: its name, its filled arguments, and ids, progress token and `_meta` of
ours. No client capability is declared, so whatever a server asks of us is answered -32601. What comes up is one of a
closed set of events; a result of any type but `complete` is not one that we understand.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from typing import TypeAlias

import msgspec
from typing_extensions import TypeIs

from gateway.wire import jsonrpc
from gateway.wire.jsonrpc import ErrorCode
from policies.action import Action
from policies.jsonvalue import JSON, JSONObject

LEGACY_VERSION = "2025-11-25"
"""What `initialize` offers; the newest revision that is reached by a handshake."""
LEGACY_VERSIONS = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", LEGACY_VERSION})
MODERN_VERSION = "2026-07-28"
"""The revision whose every request carries the `_meta` envelope."""

OURS = "dev.pratique/"
"""The `_meta` namespace of our own decisions: nobody else may write in it."""

_URL_ELICITATION = -32042
"""URLElicitationRequired of 2025-11-25."""
_META_PREFIX = "io.modelcontextprotocol/"
_CLIENT = {"name": "pratique", "version": version("pratique")}
_ENVELOPE: JSONObject = {
    f"{_META_PREFIX}protocolVersion": MODERN_VERSION,
    f"{_META_PREFIX}clientInfo": _CLIENT,
    f"{_META_PREFIX}clientCapabilities": {},
}
_encode = msgspec.json.Encoder(order="deterministic").encode


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
class Progressed:
    """How far a call of ours is: finite numbers, the server's text is dropped."""

    id: str
    progress: float
    total: float | None


@dataclass(frozen=True, slots=True)
class Asked:
    """The server asked something of us; `refusal` is the line to answer with."""

    method: str
    refusal: bytes


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


Event: TypeAlias = Result | Failed | Progressed | Asked | ToolsChanged | Ignored | Malformed


def call(era: Era, action: Action) -> bytes:
    """`tools/call`; its id and its progress token are the action's id. Equal actions give equal bytes."""
    params: JSONObject = {"name": action.name, "arguments": action.arguments, "_meta": {"progressToken": action.id}}
    return _request(era, action.id, "tools/call", params)


def initialize(request_id: str) -> bytes:
    params: JSONObject = {"protocolVersion": LEGACY_VERSION, "capabilities": {}, "clientInfo": _CLIENT}
    return _request(Era.LEGACY, request_id, "initialize", params)


def initialized() -> bytes:
    return _notification("notifications/initialized", {})


def discover(request_id: str) -> bytes:
    return _request(Era.MODERN, request_id, "server/discover", {})


def list_tools(era: Era, request_id: str, cursor: str | None = None) -> bytes:
    return _request(era, request_id, "tools/list", {} if cursor is None else {"cursor": cursor})


def listen(request_id: str) -> bytes:
    """Ask a modern server to say when its tools change; the answer comes when the stream ends."""
    return _request(Era.MODERN, request_id, "subscriptions/listen", {"notifications": {"toolsListChanged": True}})


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
        case jsonrpc.Notification(method):
            return Ignored(method)
        case jsonrpc.Request(request_id, method):
            refusal = jsonrpc.Failure(request_id, ErrorCode.METHOD_NOT_FOUND, "Method not found")
            return Asked(method, jsonrpc.encode(refusal))
        case jsonrpc.Malformed(code, message, request_id):
            is_json = code is not ErrorCode.PARSE_ERROR
            return Malformed(message, request_id if isinstance(request_id, str) else "", is_json)
        case _:
            return Malformed("an answer to an id that was never ours")


def _request(era: Era, request_id: str, method: str, params: JSONObject) -> bytes:
    if era is Era.MODERN:
        params["_meta"] = _ENVELOPE | params.get("_meta", {})
    return _encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def _notification(method: str, params: JSONObject) -> bytes:
    return _encode({"jsonrpc": "2.0", "method": method, "params": params})


def _result(request_id: str, result: JSONObject) -> Event:
    kind = result.get("resultType", "complete")
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
