"""How a connection begins: in which era the server speaks, what it says of itself, and which tools it lists.

A server decides its era by the first request it gets (SDK 2.3 over stdio), and one that speaks both takes
`server/discover` for modern; one that does not know it answers an error and still takes `initialize`. So the modern
question comes first. A server that falls silent over it is started again and greeted in the legacy way:
`ProbeFailed` says so.
"""

from dataclasses import dataclass

from gateway.errors import UpstreamError
from gateway.upstreams.stdio import Connection, Refused
from gateway.wire import upstream
from gateway.wire.jsonrpc import ErrorCode
from gateway.wire.upstream import Era
from policies.jsonvalue import JSON, JSONObject, canonical

MAX_PAGES = 64
MAX_LISTED = 1_024
"""Tools of one server's listing that are looked at."""
MAX_LISTING_BYTES = 4_000_000


class ProbeFailed(UpstreamError):
    """The server did not survive the modern question; it may be a legacy one."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a server said when it was greeted."""

    era: Era
    instructions: str
    announces: bool
    """It says when its tools change: unasked (legacy), or on a subscription (modern)."""


async def greet(connection: Connection, era: Era | None, timeout_s: float, *, samples: bool = False) -> Greeting:
    """Open the conversation, in `era` or in the one that the server takes.

    Args:
        samples: whether the server is told that its requests for a model are answered.

    Raises:
        ProbeFailed: the server gave no answer at all to the modern question.
        UpstreamError: it cannot be spoken to.
    """
    if era is Era.LEGACY:
        return await _initialize(connection, timeout_s, samples)
    try:
        said = await connection.ask(upstream.discover("discover", samples=samples), "discover", timeout_s)
    except Refused as refused:
        if era is Era.MODERN or not _may_be_legacy(refused):
            raise
        return await _initialize(connection, timeout_s, samples)
    except UpstreamError as error:
        raise ProbeFailed(str(error)) from error
    if upstream.MODERN_VERSION not in _strings(said.get("supportedVersions")):
        if era is Era.MODERN:
            raise UpstreamError("the server no longer speaks the protocol version that it was discovered with")
        return await _initialize(connection, timeout_s, samples)
    greeting = _greeting(Era.MODERN, said)
    if greeting.announces:
        connection.tell(upstream.listen("listen", samples=samples))
    return greeting


async def list_tools(connection: Connection, era: Era, timeout_s: float, *, samples: bool = False) -> list[JSON]:
    """Every page of `tools/list`; a server without tools has none.

    Raises:
        UpstreamError: it does not answer, or lists without end.
    """
    tools: list[JSON] = []
    size = 0
    cursor: str | None = None
    for page in range(MAX_PAGES):
        request_id = f"list-{page}"
        try:
            asking = upstream.list_tools(era, request_id, cursor, samples=samples)
            said = await connection.ask(asking, request_id, timeout_s)
        except Refused as refused:
            if refused.failed.code == ErrorCode.METHOD_NOT_FOUND:
                return []
            raise
        listed, following = said.get("tools"), said.get("nextCursor")
        if not isinstance(listed, list):
            raise UpstreamError("the server's tools/list holds no list of tools")
        tools.extend(listed)
        size += len(canonical(listed))
        if len(tools) > MAX_LISTED or size > MAX_LISTING_BYTES:
            raise UpstreamError(f"the server lists more than {MAX_LISTED} tools, or {MAX_LISTING_BYTES} bytes of them")
        if not isinstance(following, str) or not following:
            return tools
        cursor = following
    raise UpstreamError("the server's tools/list has no end")


async def _initialize(connection: Connection, timeout_s: float, samples: bool) -> Greeting:
    said = await connection.ask(upstream.initialize("initialize", samples=samples), "initialize", timeout_s)
    version = said.get("protocolVersion")
    if not isinstance(version, str) or version not in upstream.LEGACY_VERSIONS:
        raise UpstreamError("the server answers initialize with a protocol version that is not known")
    connection.tell(upstream.initialized())
    return _greeting(Era.LEGACY, said)


def _greeting(era: Era, said: JSONObject) -> Greeting:
    instructions = said.get("instructions")
    match said.get("capabilities"):
        case {"tools": {"listChanged": True}}:
            announces = True
        case _:
            announces = False
    return Greeting(era, instructions if isinstance(instructions, str) else "", announces)


def _may_be_legacy(refused: Refused) -> bool:
    """Any error but the one that names versions without a legacy one among them."""
    if refused.failed.code != ErrorCode.UNSUPPORTED_VERSION:
        return True
    supported = refused.failed.supported
    return not supported or any(version in upstream.LEGACY_VERSIONS for version in supported)


def _strings(value: JSON) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
