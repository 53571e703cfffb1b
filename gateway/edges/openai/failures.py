"""How `/v1` says no: OpenAI's error object, a status, and whether the same request may be made again.

OpenAI's clients repeat a request by themselves after 408, 409, 429 and 5xx; `x-should-retry` tells them where that
would be in vain, or would cost a budget twice. What an agent is told of a decision is its code and one constant
sentence, as on `/mcp`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from gateway.errors import LlmRefused
from gateway.ports import Answer, Unauthorised
from gateway.wire.answers import SENTENCES
from gateway.wire.http import JSON_TYPE, Reply
from policies.jsonvalue import JSONObject
from policies.verdict import Code

FIELDS = (JSON_TYPE, (b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
"""Of every whole answer."""
SOON_S = 1
"""When to come back to a gateway that is full or cannot write."""
LOADING_S = 5
"""When to come back to a model that is being loaded."""

_TYPES: Mapping[int, str] = MappingProxyType(
    {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
)

_STATUSES: Mapping[Code, tuple[int, int | None]] = MappingProxyType(
    {
        Code.ARGUMENTS_INVALID: (400, None),
        Code.REVOKED: (401, None),
        Code.UNKNOWN_TOOL: (404, None),
        Code.DUPLICATE: (409, None),
        Code.CAPABILITY_EXHAUSTED: (429, None),
        Code.OVERLOADED: (429, SOON_S),
        Code.UPSTREAM_FAILED: (502, None),
        Code.UNKNOWN_OUTCOME: (502, None),
        Code.UPSTREAM_TIMEOUT: (504, None),
        Code.UNAVAILABLE: (503, SOON_S),
    }
)
"""Status, and when to come back; every other code is a 403."""
_REFUSALS: Mapping[str, tuple[int, int | None]] = MappingProxyType(
    {
        "generation_not_found": (404, None),
        "model_failed": (503, None),
        "overloaded": (429, SOON_S),
        "quota": (429, None),
        "unavailable": (503, LOADING_S),
    }
)
"""The same for `LlmRefused`; every other code is a 400."""
_OWN_SENTENCES: Mapping[Code, str] = MappingProxyType(
    {
        Code.UNKNOWN_TOOL: "The model cannot be asked that here.",
        Code.ARGUMENTS_INVALID: "The model does not take a request of this form.",
        Code.UPSTREAM_FAILED: "The model could not be used.",
        Code.UPSTREAM_TIMEOUT: "The model did not finish in time; what it generated was counted.",
        Code.UNKNOWN_OUTCOME: "The model ended while it generated; what it generated was counted.",
    }
)
"""Where the sentences of `/mcp` speak of a tool's server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no completion."""

    status: int
    code: str
    message: str
    param: str | None = None
    """The member of the request that is meant."""
    retry_s: int | None = None
    """When the same request may succeed; None: not by being repeated."""
    more: Mapping[str, str] = field(default_factory=dict)
    """`action` finds it in the log; `ticket` is the approval that is waited for."""
    fields: tuple[tuple[bytes, bytes], ...] = ()
    """Further header fields of the reply."""

    @property
    def body(self) -> JSONObject:
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code, **self.more},
        }

    def reply(self) -> Reply:
        """As an answer of its own."""
        retry = ((b"x-should-retry", b"true"), (b"retry-after", b"%d" % self.retry_s)) if self.retry_s else ()
        return Reply(
            self.status,
            msgspec.json.encode(self.body),
            (*FIELDS, *(retry or ((b"x-should-retry", b"false"),)), *self.fields),
        )


def invalid(message: str, param: str | None = None, code: str = "invalid_value") -> Failure:
    """A request that is wrong whoever sends it."""
    return Failure(status=400, code=code, message=message, param=param)


def turned_away(status: int, sentence: str) -> Failure:
    """Whoever is not heard at all: a page of somewhere else, or a request that two readers read differently."""
    return Failure(status=status, code="turned_away", message=sentence)


def unread(reply: Reply, limit_bytes: int) -> Failure:
    """A body that was not taken: it came too slowly, or is too large."""
    if reply.status == 408:
        return Failure(
            status=408, code="timeout", message="The body did not come.", fields=((b"connection", b"close"),)
        )
    said = f"A request's body has at most {limit_bytes} bytes."
    return Failure(status=413, code="too_large", message=said)


def model_not_found(named: str, known: str) -> Failure:
    return Failure(
        status=404,
        code="model_not_found",
        message=f"The model '{named[:64]}' is not here; this gateway has '{known}'.",
        param="model",
    )


def generation_not_found(generation: str) -> Failure:
    return Failure(
        status=404, code="generation_not_found", message=f"Nothing is kept or runs under the id '{generation}'."
    )


def unauthorised(stranger: Unauthorised) -> Failure:
    """No token, or none of ours."""
    return Failure(
        status=401,
        code="invalid_api_key",
        message=f"Unauthorized: {stranger.reason}.",
        fields=((b"www-authenticate", b'Bearer error="invalid_token"'),),
    )


def refused(why: LlmRefused) -> Failure:
    """What the model cannot take, or not now; the sentence speaks of the request alone."""
    status, retry_s = _REFUSALS.get(why.code, (400, None))
    more = {"action": why.action} if why.action else {}
    return Failure(status=status, code=why.code, message=f"{why.message.rstrip('.')}.", retry_s=retry_s, more=more)


def decided(answer: Answer) -> Failure:
    """A decision, or what became of a generation that has no result."""
    code = answer.code or Code.UPSTREAM_FAILED
    status, retry_s = _STATUSES.get(code, (403, None))
    more = {name: value for name, value in (("action", answer.action), ("ticket", answer.ticket)) if value}
    return Failure(
        status=status, code=code.value, message=_OWN_SENTENCES.get(code, SENTENCES[code]), retry_s=retry_s, more=more
    )


def ended(finish: str, action: str) -> Failure | None:
    """Why a generation that began has no completion; None where it has one."""
    more = {"action": action} if action else {}
    match finish:
        case "stop" | "length":
            return None
        case "suspended":
            again = f"POST /v1/generations/{action}/resume goes on with it."
            return Failure(status=409, code="suspended", message=f"The generation was suspended; {again}", more=more)
        case "cancelled":
            return Failure(status=409, code="cancelled", message="The generation was cancelled.", more=more)
        case _:
            said = "The model could not go on with this generation."
            return Failure(status=500, code="generation_failed", message=said, more=more)


UNCONFIGURED = Failure(
    status=404,
    code="model_not_configured",
    message="No model runs in this gateway: set `model` under [llm] in pratique.toml and start it again.",
)
REVOKED = decided(Answer(action="", code=Code.REVOKED))
OVERLOADED = decided(Answer(action="", code=Code.OVERLOADED))
UNRECORDABLE = decided(Answer(action="", code=Code.UNAVAILABLE))
