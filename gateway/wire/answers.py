"""What an agent sees of an answer: the tool's result as it came, or one constant sentence and a stable code.

A refusal is a tool result (`isError`), so it travels as HTTP 200 and the model reads it. Nobody else speaks in our
namespace: what an upstream put under it, in any `_meta` at any depth, is taken out.
"""

from collections.abc import Mapping
from importlib.metadata import version
from types import MappingProxyType

from gateway.ports import Answer
from gateway.wire.jsonrpc import RequestId, Response, encode
from policies.jsonvalue import JSON, JSONObject
from policies.verdict import Code

NAMESPACE = "dev.pratique/"
DECISION_KEY = NAMESPACE + "decision"
_NEEDLE = NAMESPACE.encode()
SERVER_INFO: JSONObject = {"name": "pratique", "version": version("pratique")}

SENTENCES: Mapping[Code, str] = MappingProxyType(
    {
        Code.UNKNOWN_TOOL: "No tool of that name can be called here.",
        Code.NOT_MEDIATED: "This gateway does not mediate that method yet.",
        Code.DEFINITION_CHANGED: "This tool's definition changed; a person must accept it before it can be called.",
        Code.ARGUMENTS_INVALID: "The arguments do not satisfy the tool's schema.",
        Code.NO_CAPABILITY: "The grant of this task does not cover this call.",
        Code.CAPABILITY_EXHAUSTED: "The budget of this task is used up, or too little of it is left for this call.",
        Code.REVOKED: "The token of this task was revoked or has expired.",
        Code.UNPROVEN: "Where an argument's value came from could not be proven.",
        Code.FLOW_REFUSED: "The data that this call carries may not go there.",
        Code.POLICY_REFUSED: "A policy refuses this call.",
        Code.NO_SANDBOX: "No sandbox that this server may run in holds the guarantees that are demanded.",
        Code.PENDING: "A person has been asked to approve this call; the same call may be made again later.",
        Code.DENIED_BY_PERSON: "A person denied this call.",
        Code.EXPIRED: "The time this task was granted for is over.",
        Code.DUPLICATE: "An equal call is still running, or its outcome is not known; a person must settle it first.",
        Code.UPSTREAM_FAILED: "The tool's server could not be used, or its answer not be understood.",
        Code.UPSTREAM_TIMEOUT: "The tool's server did not answer in time; what was sent may have taken effect.",
        Code.UNKNOWN_OUTCOME: "The call was sent and no usable answer came: it may or may not have taken effect.",
        Code.OVERLOADED: "Too many calls are running; this one was not made.",
        Code.UNAVAILABLE: "The gateway cannot decide or record calls now; this one was not made.",
    }
)


def modern(request_id: RequestId, answer: Answer) -> bytes:
    """The response to a call, in the era where every result says what it is."""
    result = _understood(answer)
    if result is None:
        return encode(Response(request_id, _refusal(answer) | {"resultType": "complete"}))
    return relayed(request_id, {**result, "resultType": "complete"})


def legacy(request_id: RequestId, answer: Answer) -> bytes:
    """The response to a call, in the era where no result does."""
    result = _understood(answer)
    if result is None:
        return encode(Response(request_id, _refusal(answer)))
    return relayed(request_id, {key: value for key, value in result.items() if key != "resultType"})


def relayed(request_id: RequestId, result: JSONObject) -> bytes:
    """A response that holds a server's words: unknown fields stay, our namespace goes."""
    encoded = encode(Response(request_id, result))
    if _NEEDLE not in encoded.lower():  # the encoder escapes nothing in it: what is not found is not there
        return encoded
    return encode(Response(request_id, _stripped(result)))


def _understood(answer: Answer) -> JSONObject | None:
    """The tool's result, where it is one that we know: complete, with content."""
    result = answer.result
    if answer.code is not None or result is None or not isinstance(result.get("content"), list):
        return None
    return result if result.get("resultType", "complete") == "complete" else None


def _refusal(answer: Answer) -> JSONObject:
    """`action` finds it in the log; `ticket` is the approval that is waited for."""
    code = answer.code or Code.UPSTREAM_FAILED
    decision = {"code": code.value}
    if answer.action:
        decision["action"] = answer.action
    if answer.ticket:
        decision["ticket"] = answer.ticket
    return {
        "content": [{"type": "text", "text": SENTENCES[code]}],
        "isError": True,
        "_meta": {DECISION_KEY: decision},
    }


def _stripped(value: JSON) -> JSON:
    if isinstance(value, list):
        return [_stripped(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _stripped(_bare(item) if key == "_meta" else item) for key, item in value.items()}


def _bare(meta: JSON) -> JSON:
    if not isinstance(meta, dict):
        return meta
    return {key: value for key, value in meta.items() if not key.strip().casefold().startswith(NAMESPACE)}
