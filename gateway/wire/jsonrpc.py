"""One JSON-RPC 2.0 message: bytes in, a value or a refusal out; and back to bytes.

Decoding is strict, because what was decided must be what is sent: of duplicate keys the last one wins here and the
others are gone, a lone surrogate is refused, nesting is bounded. Ids are strings or integers and are compared with
their type: in a Python dict `1`, `True` and `1.0` would be one key.
"""

import re
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeAlias

import msgspec

from policies.jsonvalue import JSON, JSONObject

MAX_DEPTH = 128
"""How deep arrays and objects may nest, the message itself included."""
MAX_SAFE_INTEGER = 2**53 - 1
"""Beyond it a JSON reader that knows only doubles sees another number (RFC 8259, 6)."""

RequestId: TypeAlias = str | int
"""Never a bool, a float or null."""


class ErrorCode(IntEnum):
    """JSON-RPC's own, then those of MCP 2026-07-28."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    HEADER_MISMATCH = -32020
    MISSING_CLIENT_CAPABILITY = -32021
    UNSUPPORTED_VERSION = -32022
    CANCELLED = -32800
    SERVER_ERROR = -32000


@dataclass(frozen=True, slots=True)
class Request:
    id: RequestId
    method: str
    params: JSONObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notification:
    method: str
    params: JSONObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    id: RequestId
    result: JSONObject


@dataclass(frozen=True, slots=True)
class Failure:
    """An error object; the id is None only where the other side could not tell which request it speaks of."""

    id: RequestId | None
    code: int
    message: str
    data: JSON = None


@dataclass(frozen=True, slots=True)
class Malformed:
    """What was received is no message: the code and sentence to answer with, and the id where one could be read."""

    code: ErrorCode
    message: str
    id: RequestId | None = None


Message: TypeAlias = Request | Notification | Response | Failure

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_LONG_NUMBER = re.compile(rb"\d{16}")
"""2**53 has sixteen digits: without such a run there is nothing to look for."""


def parse(data: bytes, *, exact_integers: bool = True) -> Message | Malformed:
    """Read one message. Extra members of the envelope are dropped.

    `exact_integers` refuses integers beyond 2**53 anywhere in it: for what an agent asks, not what a server answers.
    """
    value = _object(data)
    if isinstance(value, Malformed):
        return value
    message = _message(value)
    if isinstance(message, Malformed):
        return message
    if _is_deep(data, value):
        return Malformed(ErrorCode.INVALID_REQUEST, "Invalid Request: nested too deeply", _id_of(value))
    if exact_integers and _LONG_NUMBER.search(data) and not _is_exact(value):
        return Malformed(ErrorCode.INVALID_PARAMS, "Invalid params: an integer is beyond 2^53", _id_of(value))
    return message


def parse_object(data: bytes) -> JSONObject | Malformed:
    """Read one object that is no message, as strictly; integers are the reader's to judge."""
    value = _object(data)
    if isinstance(value, dict) and _is_deep(data, value):
        return Malformed(ErrorCode.INVALID_REQUEST, "Invalid Request: nested too deeply")
    return value


def encode(message: Message) -> bytes:
    """The message as one line of JSON, without the newline."""
    match message:
        case Request(id, method, params):
            return _encode({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        case Notification(method, params):
            return _encode({"jsonrpc": "2.0", "method": method, "params": params})
        case Response(id, result):
            return _encode({"jsonrpc": "2.0", "id": id, "result": result})
        case Failure(id, code, text, data):
            error: JSONObject = {"code": int(code), "message": text}
            if data is not None:
                error["data"] = data
            return _encode({"jsonrpc": "2.0", "id": id, "error": error})


def _object(data: bytes) -> JSONObject | Malformed:
    try:
        value = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Malformed(ErrorCode.PARSE_ERROR, "Parse error: not a JSON text in UTF-8")
    except RecursionError:
        return Malformed(ErrorCode.PARSE_ERROR, "Parse error: nested too deeply")
    if not isinstance(value, dict):
        return Malformed(ErrorCode.INVALID_REQUEST, "Invalid Request: one JSON object is expected, no batch")
    return value


def _message(value: JSONObject) -> Message | Malformed:
    request_id = _id_of(value)
    if value.get("jsonrpc") != "2.0":
        return Malformed(ErrorCode.INVALID_REQUEST, 'Invalid Request: "jsonrpc" must be "2.0"', request_id)
    if "id" in value and request_id is None and "error" not in value:
        return Malformed(ErrorCode.INVALID_REQUEST, "Invalid Request: an id is a string or an integer within 2^53")
    kinds = [key for key in ("method", "result", "error") if key in value]
    match kinds:
        case ["method"]:
            return _call(value, request_id)
        case ["result"] if request_id is not None and isinstance(value["result"], dict):
            return Response(request_id, value["result"])
        case ["error"]:
            return _failure(value["error"], request_id)
        case _:
            text = "Invalid Request: neither a request, a notification nor a response"
            return Malformed(ErrorCode.INVALID_REQUEST, text, request_id)


def _call(value: JSONObject, request_id: RequestId | None) -> Message | Malformed:
    method, params = value["method"], value.get("params", {})
    if not isinstance(method, str) or not method:
        return Malformed(ErrorCode.INVALID_REQUEST, "Invalid Request: a method is a string", request_id)
    if not isinstance(params, dict):
        return Malformed(ErrorCode.INVALID_REQUEST, "Invalid Request: params are an object", request_id)
    return Notification(method, params) if request_id is None else Request(request_id, method, params)


def _failure(error: JSON, request_id: RequestId | None) -> Message | Malformed:
    match error:
        case {"code": int() as code, "message": str() as text} if not isinstance(code, bool):
            return Failure(request_id, code, text, error.get("data"))
        case _:
            return Malformed(ErrorCode.INVALID_REQUEST, "Invalid Request: an error has code and message", request_id)


def _id_of(value: JSONObject) -> RequestId | None:
    candidate = value.get("id")
    if isinstance(candidate, str):
        return candidate
    if isinstance(candidate, int) and not isinstance(candidate, bool) and abs(candidate) <= MAX_SAFE_INTEGER:
        return candidate
    return None


def _is_deep(data: bytes, value: JSON) -> bool:
    """Whether it nests beyond the bound; `data` is what it was read from, and shows at once that most do not."""
    return data.count(b"[") + data.count(b"{") > MAX_DEPTH and not _is_shallow(value)


def _is_shallow(value: JSON) -> bool:
    """Level by level: no recursion, however deep it is."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node) if isinstance(child, dict | list)]
        if not level:
            return True
    return False


def _is_exact(value: JSON) -> bool:
    nodes = [value]
    while nodes:
        for child in _children(nodes.pop()):
            if isinstance(child, dict | list):
                nodes.append(child)
            elif isinstance(child, int) and abs(child) > MAX_SAFE_INTEGER:
                return False
    return True


def _children(node: JSON) -> list[JSON]:
    return list(node.values()) if isinstance(node, dict) else node
