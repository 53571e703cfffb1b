"""A request's body, read strictly: the arguments of one action, or the one thing that is wrong with it, by name.

What changes nothing here is taken and dropped (`user`, `store`, tools that are an empty list); what would change the
answer and is not had here (tools, images, biases) is refused rather than ignored: a client would never notice.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import Meta, Struct

from gateway.edges.openai.failures import Failure, invalid
from gateway.wire import jsonrpc
from gateway.wire.jsonrpc import MAX_SAFE_INTEGER, Malformed
from policies.jsonvalue import JSON, JSONObject

MAX_STOPS = 16
MAX_SAMPLES = 16
MAX_ALTERNATIVES = 20
DEFAULT_TEXT_TOKENS = 16
"""What `/v1/completions` says when nobody says how much; a chat goes on until the model ends it."""

DROPPED = frozenset(
    [
        "metadata",
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "user",
    ]
)
"""Hints for a service's own bookkeeping: no answer depends on them."""
NEUTRAL: Mapping[str, Sequence[JSON]] = MappingProxyType(
    {
        "audio": (),
        "best_of": (1,),
        "echo": (False,),
        "function_call": ("none", "auto"),
        "functions": ([],),
        "logit_bias": ({},),
        "modalities": (["text"],),
        "moderation": (),
        "reasoning_effort": ("none",),
        "suffix": ("",),
        "tool_choice": ("none", "auto"),
        "tools": ([],),
        "verbosity": ("medium",),
        "web_search_options": (),
    }
)
"""Members that are not had here, each with the values that ask for nothing; null is one for every member."""
IN_MESSAGES: Mapping[str, Sequence[JSON]] = MappingProxyType(
    {"annotations": ([],), "audio": (), "function_call": (), "refusal": (), "tool_calls": ([],)}
)
"""The same for the members of an answer of ours that comes back as a part of the conversation."""

_PATH = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)

_Count: TypeAlias = Annotated[int, Meta(ge=1, le=MAX_SAFE_INTEGER)]
_Penalty: TypeAlias = Annotated[float, Meta(ge=-2, le=2)]
_Alternatives: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_ALTERNATIVES)]
_Stop: TypeAlias = Annotated[str, Meta(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How the answer is wanted."""

    stream: bool
    include_usage: bool
    """A last chunk of the stream counts its tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that can be put to the corridor."""

    model: str
    arguments: JSONObject
    how: How


def chat(body: bytes) -> Asked | Failure:
    """The body of `/v1/chat/completions`."""
    asked = _read(body, _Chat)
    if isinstance(asked, Failure):
        return asked
    messages: list[JSONObject] = []
    for place, message in enumerate(asked.messages):
        read = _message(message, f"messages[{place}]")
        if isinstance(read, Failure):
            return read
        messages.append(read)
    if asked.top_logprobs is not None and not asked.logprobs:
        return invalid("`top_logprobs` needs `logprobs: true`.", "top_logprobs")
    return _asked(asked, {"messages": messages}, (asked.top_logprobs or 0) if asked.logprobs else None)


def text(body: bytes) -> Asked | Failure:
    """The body of `/v1/completions`."""
    asked = _read(body, _Text)
    if isinstance(asked, Failure):
        return asked
    prompts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
    if len(prompts) != 1 or not isinstance(prompts[0], str) or not prompts[0]:
        return invalid("`prompt` is one string that is not empty: one prompt a request, and no token ids.", "prompt")
    if asked.max_tokens is None and asked.max_completion_tokens is None:
        asked.max_tokens = DEFAULT_TEXT_TOKENS
    return _asked(asked, {"prompt": prompts[0]}, asked.logprobs)


def resumed(body: bytes) -> How | Failure:
    """The body of `/v1/generations/ID/resume`; there may be none."""
    asked = _read(body or b"{}", _Resume)
    return asked if isinstance(asked, Failure) else _how(asked)


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Resume(Struct, kw_only=True):
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


class _Schema(Struct):
    schema: dict[str, Any]


class _ResponseFormat(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _Completion(_Resume, kw_only=True):
    """What both forms share; `top_k` and `beam_width` are ours, not OpenAI's."""

    model: str
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_SAMPLES)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    seed: Annotated[int, Meta(ge=-MAX_SAFE_INTEGER, le=MAX_SAFE_INTEGER)] | None = None
    stop: _Stop | Annotated[list[_Stop], Meta(max_length=MAX_STOPS)] | None = None
    response_format: _ResponseFormat | None = None
    beam_width: Annotated[int, Meta(ge=1, le=MAX_SAMPLES)] | None = None


class _Message(Struct):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Any]
    name: str | None = None
    """Taken and dropped: the model's template has no place for it."""


class _Chat(_Completion, kw_only=True):
    messages: Annotated[list[dict[str, Any]], Meta(min_length=1)]
    logprobs: bool | None = None
    top_logprobs: _Alternatives | None = None


class _Text(_Completion, kw_only=True):
    prompt: str | list[Any]
    logprobs: _Alternatives | None = None


T = TypeVar("T", bound=Struct)


def _read(body: bytes, wanted: type[T]) -> T | Failure:
    value = jsonrpc.parse_object(body)
    if isinstance(value, Malformed):
        return invalid(value.message, code="invalid_json")
    return _converted(value, wanted, NEUTRAL, "")


def _converted(value: JSONObject, wanted: type[T], neutral: Mapping[str, Sequence[JSON]], place: str) -> T | Failure:
    """The value as its type, or the first member that is not had here, not known, or not right."""
    known = wanted.__struct_fields__
    for name, given in value.items():
        path = f"{place}.{name}" if place else name
        if given is None or name in known:
            continue
        if name in neutral and given not in neutral[name]:
            return invalid(f"`{path}` is not supported here.", path, "unsupported_parameter")
        if name not in neutral and (place or name not in DROPPED):
            return invalid(f"`{path[:100]}` is not known here.", path[:100], "unknown_parameter")
    try:
        return msgspec.convert({name: given for name, given in value.items() if given is not None}, wanted)
    except msgspec.ValidationError as error:
        found = _PATH.fullmatch(str(error))
        said, within = (found[1], found[2]) if found else (str(error), "")
        path = ".".join(filter(None, (place, within)))
        return invalid(f"{said}, in `{path}`." if path else f"{said}.", path or None)


def _message(value: JSONObject, place: str) -> JSONObject | Failure:
    """A message as the model's template knows it: a role it has, and text."""
    message = _converted(value, _Message, IN_MESSAGES, place)
    if isinstance(message, Failure):
        return message
    role = "system" if message.role == "developer" else message.role
    if isinstance(message.content, str):
        return {"role": role, "content": message.content}
    texts: list[str] = []
    for part in message.content:
        match part:
            case {"type": "text", "text": str() as said}:
                texts.append(said)
            case _:
                path = f"{place}.content[{len(texts)}]"
                return invalid(f"`{path}` is no text; this model reads nothing else.", path, "unsupported_parameter")
    return {"role": role, "content": "\n".join(texts)}


def _asked(body: _Completion, prompt: JSONObject, logprobs: int | None) -> Asked | Failure:
    counts = {body.max_tokens, body.max_completion_tokens} - {None}
    if len(counts) > 1:
        return invalid("`max_tokens` and `max_completion_tokens` differ; give one.", "max_completion_tokens")
    form = body.response_format
    if form and form.type == "json_schema" and form.json_schema is None:
        return invalid("`response_format.json_schema` is missing.", "response_format.json_schema")
    given: JSONObject = {
        "max_tokens": next(iter(counts), None),
        "n": body.n,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "presence_penalty": body.presence_penalty,
        "frequency_penalty": body.frequency_penalty,
        "seed": body.seed,
        "stop": [body.stop] if isinstance(body.stop, str) else body.stop,
        "logprobs": logprobs,
        "grammar": _grammar(form) if form else None,
        "beam_width": body.beam_width,
    }
    return Asked(
        model=body.model,
        arguments=prompt | {name: value for name, value in given.items() if value is not None},
        how=_how(body),
    )


def _grammar(form: _ResponseFormat) -> JSONObject | None:
    if form.type == "text":
        return None
    schema = form.json_schema.schema if form.type == "json_schema" and form.json_schema else None
    return {"kind": form.type, "text": msgspec.json.encode(schema).decode() if schema is not None else ""}


def _how(body: _Resume) -> How:
    options = body.stream_options
    return How(stream=bool(body.stream), include_usage=bool(options and options.include_usage))
