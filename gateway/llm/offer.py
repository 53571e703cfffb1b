"""What the server `llm` offers, as any server lists it; and the pack, which is ours and in no file.

`generate` and `sample` are asked as `Kind.LLM_REQUEST`, by the `/v1` edge and for servers; `extract` is a
tool that agents see, where the operator has declared a question. What goes in stays in: the answer carries its label.
"""

from collections.abc import Mapping
from typing import Final

from gateway.options import MODEL_SERVER, ExtractOptions
from policies.action import Kind
from policies.jsonvalue import JSON, JSONObject
from policies.pack import ArgumentSpec, Effect, Form, Pack, Role, ToolPack

GENERATE: Final = "generate"
SAMPLE: Final = "sample"
EXTRACT: Final = "extract"

MOST_SAMPLES = 16
MOST_TEXT = 1_000_000
"""Characters of one message; the window is smaller than that."""

_KEPT: JSONObject = {
    "generation": {"type": "string", "pattern": "^act_", "description": "One to go on with, in the place of a prompt."}
}
_BODY = ArgumentSpec(role=Role.BODY)
_NUMBER = ArgumentSpec(role=Role.NUMBER, form=Form.NUMBER)
_CHOICE = ArgumentSpec(role=Role.CONTROL)
_SHAPE: Mapping[str, ArgumentSpec] = {
    "messages": _BODY,
    "prompt": _BODY,
    "stop": _BODY,
    "grammar": _BODY,
    "generation": ArgumentSpec(role=Role.REF, form=Form.ID),
    **dict.fromkeys(
        (
            "max_tokens",
            "n",
            "beam_width",
            "temperature",
            "top_p",
            "top_k",
            "presence_penalty",
            "frequency_penalty",
            "seed",
            "logprobs",
            "priority",
        ),
        _NUMBER,
    ),
}


def pack() -> Pack:
    """The gateway's word on its own tools; `server` says who is answered."""
    request = ToolPack(effect=Effect.READ, kind=Kind.LLM_REQUEST, inside=True, arguments=_SHAPE)
    sample = ToolPack(
        effect=Effect.READ,
        kind=Kind.LLM_REQUEST,
        inside=True,
        arguments={**_SHAPE, "server": ArgumentSpec(role=Role.DEST)},
    )
    extract = ToolPack(effect=Effect.READ, inside=True, arguments={"as": _CHOICE, "text": _BODY})
    return Pack(name=MODEL_SERVER, tools={GENERATE: request, SAMPLE: sample, EXTRACT: extract})


def tools(extracts: Mapping[str, ExtractOptions]) -> list[JSON]:
    """The tools as `tools/list` would have them."""
    offered: list[JSON] = [
        _tool(GENERATE, "Continue a conversation or a text with the gateway's own model.", _generation(_KEPT, [])),
        _tool(
            SAMPLE,
            "Answer a server's sampling request with the gateway's own model.",
            _generation({"server": {"type": "string", "description": "The server that asks."}}, ["server"]),
        ),
    ]
    if extracts:
        offered.append(_extract(extracts))
    return offered


def _extract(extracts: Mapping[str, ExtractOptions]) -> JSONObject:
    asked = "; ".join(f"{one.name}: {one.question} ({one.type})" for _, one in sorted(extracts.items()))
    return _tool(
        EXTRACT,
        f"Put a fixed question to a text that may be hostile, and get nothing but a value of its type back. {asked}",
        _schema(
            {
                "as": {"type": "string", "enum": sorted(extracts), "description": "Which question."},
                "text": {"type": "string", "maxLength": MOST_TEXT, "description": "The text, as it came."},
            },
            ["as", "text"],
        ),
    )


def _generation(more: JSONObject, required: list[str]) -> JSONObject:
    message = _schema(
        {
            "role": {"type": "string", "enum": ["system", "user", "assistant"]},
            "content": {"type": "string", "maxLength": MOST_TEXT},
        },
        ["role", "content"],
    )
    properties: JSONObject = {
        **more,
        "messages": {"type": "array", "items": message, "minItems": 1, "maxItems": 2_000},
        "prompt": {"type": "string", "minLength": 1, "maxLength": MOST_TEXT},
        "max_tokens": {"type": "integer", "minimum": 1},
        "n": {"type": "integer", "minimum": 1, "maximum": MOST_SAMPLES},
        "beam_width": {"type": "integer", "minimum": 0, "maximum": MOST_SAMPLES},
        "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "top_k": {"type": "integer", "minimum": 0},
        "presence_penalty": {"type": "number", "minimum": -2, "maximum": 2},
        "frequency_penalty": {"type": "number", "minimum": -2, "maximum": 2},
        "seed": {"type": "integer"},
        "logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
        "stop": {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 1_000}, "maxItems": 16},
        "grammar": _schema({"kind": {"type": "string"}, "text": {"type": "string"}}, ["kind"]),
        "priority": {"type": "integer", "minimum": -10, "maximum": 10},
    }
    return _schema(properties, [*required, "max_tokens"])


def _schema(properties: JSONObject, required: list[str]) -> JSONObject:
    named: list[JSON] = [*required]
    return {"type": "object", "properties": properties, "required": named, "additionalProperties": False}


def _tool(name: str, description: str, schema: JSONObject) -> JSONObject:
    return {"name": name, "description": description, "inputSchema": schema}
