"""The ladder every HTTP request to `/mcp` climbs before an era machine sees it: path, host, verb, media types.

Bytes and header fields in, a `Head` or the `Reply` that ends it out. A refusal carries a JSON-RPC error body, with the
request's id wherever that can be read: some clients end, or hang, on a status alone or on `id: null`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from gateway.wire.jsonrpc import ErrorCode, Failure, RequestId, encode

MAX_BODY = 4 * 1024 * 1024
"""Bytes of one request's body that are read; the SDK's own bound."""
METADATA_PATH = "/.well-known/oauth-protected-resource"
"""RFC 9728, 3.1: the resource's path comes behind it."""
JSON_TYPE = (b"content-type", b"application/json")

_SERVER = re.compile(rb"/mcp/([a-z][a-z0-9-]{0,23})")
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::\d{1,5})?", re.IGNORECASE)
_SINGLE = frozenset({b"authorization", b"content-type", b"host", b"mcp-session-id", b"origin"})
"""Said twice, two readers would each believe another one."""

# The id of a body that is not parsed whole: where clients put it, at the very start or the very end of the object.
_ID = rb'"id"\s*:\s*(-?\d{1,16}|"[^"\\\x00-\x1f]{0,256}")(?=\s*[,}])'
_ID_FIRST = re.compile(rb'\s*\{\s*(?:"(?:jsonrpc|method)"\s*:\s*"[^"\\]{0,256}"\s*,\s*){0,2}' + _ID)
_ID_LAST = re.compile(rb"[{,]\s*" + _ID + rb"\s*\}\s*\Z")


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole HTTP answer."""

    status: int
    body: bytes = b""
    fields: tuple[tuple[bytes, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Head:
    """A request's line and fields, found in order."""

    verb: str
    route: str
    """The exact path, `/mcp` or `/mcp/NAME`."""
    server: str | None
    """The one server of the route; None on `/mcp`, where tools are named `server__tool`."""
    fields: Mapping[bytes, bytes]
    doubled: frozenset[bytes] = field(default_factory=frozenset)
    """Fields of MCP that came more than once; which era minds is its own business."""

    @classmethod
    def of(cls, verb: str, raw_path: bytes, server: str | None, fields: Iterable[tuple[bytes, bytes]]) -> "Head":
        """The head of a request whose path is known to be one of ours."""
        seen: dict[bytes, bytes] = {}
        doubled: set[bytes] = set()
        for name, value in fields:
            if name in seen:
                doubled.add(name)
                seen[name] += b"," + value
            else:
                seen[name] = value
        return cls(verb, raw_path.decode("latin-1"), server, MappingProxyType(seen), frozenset(doubled))

    def field(self, name: bytes) -> str | None:
        value = self.fields.get(name)
        return None if value is None else value.decode("latin-1").strip()

    @property
    def credential(self) -> str | None:
        """The bearer token (RFC 6750, 2.1; never from the query or the body)."""
        scheme, _, token = (self.field(b"authorization") or "").partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None

    @property
    def takes_stream(self) -> bool:
        return _accepts(self.fields, b"text/event-stream", b"text/*")


@dataclass(frozen=True, slots=True)
class Door:
    """What this gateway is called from outside."""

    hosts: frozenset[str]
    """Names (no port) a request may be addressed to, and pages of which may send one: against DNS rebinding."""
    public: str
    """`http://127.0.0.1:8808`, for the metadata of the protected resource."""

    def read(self, verb: str, raw_path: bytes, fields: Iterable[tuple[bytes, bytes]]) -> Head | Reply:
        """Climb the ladder; the body is not needed for any of it."""
        server = None
        if raw_path != b"/mcp":
            named = _SERVER.fullmatch(raw_path)
            if named is None:
                return refused(404, "Not Found")
            server = named[1].decode()
        head = Head.of(verb, raw_path, server, fields)
        if turned_away := self.objection(head):
            return refused(*turned_away)
        if verb == "POST":
            return _post_refusal(head) or head
        if verb == "DELETE":
            return head
        # Clients open a GET stream after `initialize` and live with a 405.
        return refused(405, "Method Not Allowed", fields=((b"allow", b"POST, DELETE"),))

    def objection(self, head: Head) -> tuple[int, str] | None:
        """Why whoever sent these fields is not heard, on any path: a status and a sentence."""
        if _SINGLE & head.doubled:
            return 400, "Bad Request: a header appears more than once"
        if not self._is_called(head.field(b"host")):
            return 421, "Misdirected Request: this gateway is not called by that host name"
        if not self._is_visited_from(head.field(b"origin")):
            return 403, "Forbidden: pages of that origin may not call this gateway"
        return None

    def challenge(self, route: str, reason: str, request_id: RequestId | None) -> Reply:
        """401: no credential, or not one of ours. The body says Unauthorized, as no client shows an OAuth one."""
        challenge = f'Bearer error="invalid_token", resource_metadata="{self.public}{METADATA_PATH}{route}"'
        return refused(
            401,
            f"Unauthorized: {reason}",
            request_id=request_id,
            code=ErrorCode.SERVER_ERROR,
            fields=((b"www-authenticate", challenge.encode("latin-1")),),
        )

    def metadata(self, path: str) -> Reply | None:
        """RFC 9728's document for a route; None where the path names none. Tokens are minted here, by `grant`."""
        route = path.removeprefix(METADATA_PATH)
        if route == path or (route not in ("", "/mcp") and _SERVER.fullmatch(route.encode()) is None):
            return None
        document = {
            "resource": self.public + (route or "/mcp"),
            "resource_name": "Pratique",
            "bearer_methods_supported": ["header"],
        }
        return Reply(200, msgspec.json.encode(document), (JSON_TYPE,))

    def _is_called(self, host: str | None) -> bool:
        match = _HOST.fullmatch(host or "")
        return match is not None and match[1].lower() in self.hosts

    def _is_visited_from(self, origin: str | None) -> bool:
        if origin is None:
            return True  # no browser
        scheme, separator, host = origin.partition("://")
        return bool(separator) and scheme in ("http", "https") and self._is_called(host)


def refused(
    status: int,
    message: str,
    *,
    request_id: RequestId | None = None,
    code: ErrorCode = ErrorCode.INVALID_REQUEST,
    fields: tuple[tuple[bytes, bytes], ...] = (),
) -> Reply:
    """A status with a JSON-RPC error as its body."""
    return Reply(status, encode(Failure(request_id, code, message)), (JSON_TYPE, *fields))


def too_large(start: bytes, end: bytes) -> Reply:
    """A body over the bound, of which the two ends were kept. With the id: 200, since a bare 413 ends some clients."""
    request_id = find_id(start, end)
    return refused(413 if request_id is None else 200, "Request body too large", request_id=request_id)


def find_id(start: bytes, end: bytes) -> RequestId | None:
    """The id of a request that was not, or cannot be, parsed whole. Only ever used to say no to it."""
    found = _ID_FIRST.match(start) or _ID_LAST.search(end)
    if found is None:
        return None
    return found[1][1:-1].decode("utf-8", "replace") if found[1].startswith(b'"') else int(found[1])


def _post_refusal(head: Head) -> Reply | None:
    media_type = head.fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        return refused(415, "Unsupported Media Type: Content-Type must be application/json")
    if b"accept" in head.fields and not _accepts(head.fields, b"application/json", b"application/*"):
        return refused(406, "Not Acceptable: answers are application/json, or a text/event-stream with progress")
    return None


def _accepts(fields: Mapping[bytes, bytes], *wanted: bytes) -> bool:
    """RFC 9110, 12.5.1, as far as clients go: wild cards, no weights."""
    offered = {part.partition(b";")[0].strip().lower() for part in fields.get(b"accept", b"").split(b",")}
    return b"*/*" in offered or not offered.isdisjoint(wanted)
