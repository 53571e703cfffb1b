"""`sampling/createMessage`: what a server asks of a model, as a value; and what it is told. No I/O.

Text alone is taken. No sub-capability (`tools`, `context`) is declared, so tools are refused and a wish for context is
not heard; preferences for a model, provider metadata and everybody's `_meta` end here.
"""

from dataclasses import dataclass
from enum import Enum

from gateway.wire import jsonrpc
from gateway.wire.jsonrpc import ErrorCode, Failure, RequestId, Response
from policies.jsonvalue import JSON, JSONObject, canonical
from policies.verdict import Code

METHOD = "sampling/createMessage"

MAX_BYTES = 256_000
"""Of one request's params."""
MAX_MESSAGES = 256
MAX_STOPS = 16
MAX_STOP_CHARS = 256
MAX_TOKENS = 1_000_000
"""A client may sample fewer tokens than it is asked for; more than this is read as this."""
MAX_TEMPERATURE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingMessage:
    role: str
    """`user` or `assistant`."""
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingAsk:
    """What a server wants of a model."""

    messages: tuple[SamplingMessage, ...]
    """At least one."""
    max_tokens: int
    """From 1 to `MAX_TOKENS`."""
    system: str = ""
    temperature: float | None = None
    """From 0 to `MAX_TEMPERATURE`; None: the server does not say."""
    stop: tuple[str, ...] = ()
    """Output ends before the first of these; none is empty."""


class Rejection(Enum):
    """Why a server gets no answer: a code and a constant sentence, which tell it nothing of why."""

    REJECTED = (-1, "The sampling request was rejected")
    """The code that MCP shows for it (2025-11-25, client/sampling, error handling)."""
    UNAVAILABLE = (int(ErrorCode.SERVER_ERROR), "The model cannot answer now")
    INVALID = (int(ErrorCode.INVALID_PARAMS), "Invalid params: this sampling request is not answered")
    UNCLEAR = (int(ErrorCode.INVALID_REQUEST), "Invalid Request: it is not clear which call asks for this")
    TWICE = (int(ErrorCode.INVALID_REQUEST), "Invalid Request: this id is in flight already")
    TOO_MANY = (int(ErrorCode.SERVER_ERROR), "Too many sampling requests")
    OVER = (int(ErrorCode.CANCELLED), "The call that asked for this has ended")


def bounded(params: JSONObject) -> JSONObject | None:
    """The params without `_meta`; None where they are larger than any are taken."""
    kept = {key: value for key, value in params.items() if key != "_meta"}
    return kept if len(canonical(kept)) <= MAX_BYTES else None


def parse(params: JSONObject) -> SamplingAsk | str:
    """CreateMessageRequestParams, or the sentence that says why they are not taken."""
    if params.get("tools") is not None or params.get("toolChoice") is not None:
        return "tools are not offered to the model"
    messages = _messages(params.get("messages"))
    if isinstance(messages, str):
        return messages
    max_tokens = params.get("maxTokens")
    if not isinstance(max_tokens, int) or isinstance(max_tokens, bool) or max_tokens < 1:
        return "maxTokens must be an integer of at least 1"
    system = params.get("systemPrompt")
    if not isinstance(system, str | None):
        return "systemPrompt must be text"
    temperature = params.get("temperature")
    if temperature is not None and not _is_temperature(temperature):
        return f"temperature must be a number from 0 to {MAX_TEMPERATURE:g}"
    stop = params.get("stopSequences")
    if stop is not None and not _are_stops(stop):
        return f"stopSequences must be at most {MAX_STOPS} texts of 1 to {MAX_STOP_CHARS} characters"
    return SamplingAsk(
        messages=messages,
        max_tokens=min(max_tokens, MAX_TOKENS),
        system=system or "",
        temperature=None if temperature is None else float(temperature),
        stop=tuple(stop or ()),
    )


def answer(text: str, *, model: str, finish: str) -> JSONObject:
    """A CreateMessageResult. `finish` is `length` where the text was cut; the engine does not tell the model's own end
    from a stop sequence."""
    return {
        "role": "assistant",
        "content": {"type": "text", "text": text},
        "model": model,
        "stopReason": "maxTokens" if finish == "length" else "endTurn",
    }


def answered(request_id: RequestId, said: JSONObject | Code) -> bytes:
    """The line that answers a server's request: the result, or what it is told of the refusal."""
    if isinstance(said, Code):
        return rejected(request_id, _rejection(said))
    return jsonrpc.encode(Response(request_id, said))


def rejected(request_id: RequestId, why: Rejection) -> bytes:
    code, sentence = why.value
    return jsonrpc.encode(Failure(request_id, code, sentence))


def _rejection(code: Code) -> Rejection:
    """A refusal by rights, rules or a person is one thing to a server."""
    match code:
        case Code.ARGUMENTS_INVALID:
            return Rejection.INVALID
        case Code.OVERLOADED | Code.UNAVAILABLE | Code.UPSTREAM_FAILED | Code.UPSTREAM_TIMEOUT | Code.UNKNOWN_OUTCOME:
            return Rejection.UNAVAILABLE
        case _:
            return Rejection.REJECTED


def _messages(said: JSON) -> tuple[SamplingMessage, ...] | str:
    if not isinstance(said, list) or not 1 <= len(said) <= MAX_MESSAGES:
        return f"messages must be a list of 1 to {MAX_MESSAGES}"
    messages: list[SamplingMessage] = []
    for one in said:
        match one:
            case {"role": "user" | "assistant" as role, "content": content}:
                text = _text(content)
            case _:
                return "a message has a role, user or assistant, and content"
        if text is None:
            return "the content of a message must be text"
        messages.append(SamplingMessage(role=role, text=text))
    return tuple(messages)


def _text(content: JSON) -> str | None:
    """Of one block or of several; None where any is not text."""
    texts: list[str] = []
    for block in content if isinstance(content, list) else [content]:
        match block:
            case {"type": "text", "text": str() as text}:
                texts.append(text)
            case _:
                return None
    return "\n".join(texts) if texts else None


def _is_temperature(value: JSON) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= MAX_TEMPERATURE


def _are_stops(value: JSON) -> bool:
    if not isinstance(value, list) or len(value) > MAX_STOPS:
        return False
    return all(isinstance(one, str) and 1 <= len(one) <= MAX_STOP_CHARS for one in value)
