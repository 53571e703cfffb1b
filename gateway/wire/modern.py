"""MCP 2026-07-28: every request stands alone and carries its own envelope. No session, so no state here either.

The ladder is the SDK's (`mcp.shared.inbound`), rung by rung; tests compare the two.
"""

from collections.abc import Mapping, Sequence

from gateway.wire import answers
from gateway.wire.asks import ACCEPTED, Ask, Call, ask
from gateway.wire.http import JSON_TYPE, Head, Reply, refused
from gateway.wire.jsonrpc import ErrorCode, Failure, Message, Notification, Request, RequestId, Response, encode
from gateway.wire.mirrors import Mirror, decode_value, disagreement
from gateway.wire.versions import HANDSHAKE, MODERN
from policies.jsonvalue import JSON, JSONObject

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"
SERVER_KEY = "io.modelcontextprotocol/serverInfo"
VERSION_FIELD, METHOD_FIELD, NAME_FIELD = b"mcp-protocol-version", b"mcp-method", b"mcp-name"

LIST_TTL_MS = 10_000
"""How long a client may believe a list of tools; what it may call is decided at each call."""

_NAMED_BY = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_STATUS: Mapping[int, int] = {
    ErrorCode.PARSE_ERROR: 400,
    ErrorCode.INVALID_REQUEST: 400,
    ErrorCode.INVALID_PARAMS: 400,
    ErrorCode.HEADER_MISMATCH: 400,
    ErrorCode.MISSING_CLIENT_CAPABILITY: 400,
    ErrorCode.UNSUPPORTED_VERSION: 400,
    ErrorCode.METHOD_NOT_FOUND: 404,
}
_CACHE: JSONObject = {"resultType": "complete", "ttlMs": LIST_TTL_MS, "cacheScope": "private"}
_WHO: JSONObject = {SERVER_KEY: answers.SERVER_INFO}


def claims(head: Head) -> bool | None:
    """Whether the version header says this era; None where there is none."""
    version = head.field(VERSION_FIELD)
    return None if version is None else version not in HANDSHAKE


def is_modern(head: Head, message: Message) -> bool:
    """Whether a POST is of this era: by a version that no handshake knows, or without one by its envelope."""
    claimed = claims(head)
    if claimed is not None:
        return claimed
    return isinstance(message, Request) and envelope_version(message) is not None


def envelope_version(request: Request) -> str | None:
    """The version that a request's envelope names; none of a handshake, whatever it carries."""
    meta = request.params.get("_meta")
    if request.method == "initialize" or not isinstance(meta, dict) or VERSION_KEY not in meta:
        return None
    return str(meta[VERSION_KEY])


def name_of(request: Request) -> str | None:
    """What `Mcp-Name` mirrors, where the method has a name."""
    name = request.params.get(_NAMED_BY.get(request.method, ""))
    return name if isinstance(name, str) else None


def receive(head: Head, message: Message) -> Ask:
    """One POST: what is asked for, or the answer to it."""
    match message:
        case Request():
            wrong = _misfit(head, message)
            if wrong is not None:
                return failed(wrong)
            if message.method == "server/discover":
                return _discovered(message.id)
            asked = ask(head, message)
            return failed(asked) if isinstance(asked, Failure) else asked
        case Notification():
            unsupported = _unsupported(head.field(VERSION_FIELD), None)
            return ACCEPTED if unsupported is None else failed(unsupported)
        case _:
            return refused(400, "Invalid Request: a client sends requests and notifications")


def check_mirrors(head: Head, call: Call, wanted: Sequence[Mirror]) -> Reply | None:
    """-32020 where a call's `Mcp-Param-*` headers and its arguments disagree."""
    wrong = disagreement(wanted, call.arguments, head.fields, head.doubled)
    return None if wrong is None else failed(Failure(call.id, ErrorCode.HEADER_MISMATCH, wrong))


def failed(failure: Failure) -> Reply:
    """An error with the HTTP status that this revision gives it."""
    return Reply(_STATUS.get(failure.code, 200), encode(failure), (JSON_TYPE,))


def listed(request_id: RequestId, tools: Sequence[JSONObject]) -> bytes:
    """`tools/list`, filtered for one caller: never to be cached for another."""
    return answers.relayed(request_id, {"tools": tools, **_CACHE, "_meta": _WHO})


def _discovered(request_id: RequestId) -> Reply:
    result: JSONObject = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}, **_CACHE, "_meta": _WHO}
    return Reply(200, encode(Response(request_id, result)), (JSON_TYPE,))


def _misfit(head: Head, request: Request) -> Failure | None:
    """The first rung that fails: header said twice, envelope, headers against body, version."""
    for field in (VERSION_FIELD, METHOD_FIELD, NAME_FIELD):
        if field in head.doubled:
            return _mismatch(request, f"{field.decode()} header appears more than once")
    meta = request.params.get("_meta")
    if not isinstance(meta, dict) or VERSION_KEY not in meta or CAPABILITIES_KEY not in meta:
        text = f"Invalid params: params._meta must carry {VERSION_KEY} and {CAPABILITIES_KEY}"
        return Failure(request.id, ErrorCode.INVALID_PARAMS, text)
    version = meta[VERSION_KEY]
    if not isinstance(version, str) or head.field(VERSION_FIELD) != version:
        return _mismatch(request, "MCP-Protocol-Version header does not match the envelope's version")
    if head.field(METHOD_FIELD) != request.method:
        return _mismatch(request, "Mcp-Method header does not match the method")
    named_by = _NAMED_BY.get(request.method, "")
    name = request.params.get(named_by)
    if name is not None and decode_value(head.field(NAME_FIELD)) != name:
        return _mismatch(request, f"Mcp-Name header does not match {named_by}")
    return _unsupported(version, request.id) or _shapeless(meta, request.id)


def _mismatch(request: Request, text: str) -> Failure:
    return Failure(request.id, ErrorCode.HEADER_MISMATCH, text)


def _unsupported(version: str | None, request_id: RequestId | None) -> Failure | None:
    if version == MODERN:
        return None
    data = {"supported": [MODERN], "requested": version or ""}
    return Failure(request_id, ErrorCode.UNSUPPORTED_VERSION, "Unsupported protocol version", data)


def _shapeless(meta: Mapping[str, JSON], request_id: RequestId) -> Failure | None:
    if isinstance(meta[CAPABILITIES_KEY], dict):
        return None
    return Failure(request_id, ErrorCode.INVALID_PARAMS, f"Invalid params: {CAPABILITIES_KEY} is an object")
