"""Equal actions give equal frames: whatever bytes an agent spells a call in, and nothing else of it goes upstream.

The oracle is a second, strict reader of the same bytes (the standard library's, duplicates resolved as RFC 8259's
careless readers do: the last wins). If both read the same call, the frame is that call's; if they could differ, it is
refused.
"""

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire import jsonrpc, upstream
from gateway.wire.upstream import Era
from policies.action import Action, Kind, Subject
from policies.arguments import Checker, Filled, compile_schema
from policies.jsonvalue import JSON, JSONObject

ANN = Subject(principal="ann", agent="a", task="t", holder="h", root="r", token="k")
SCHEMA: JSONObject = {
    "type": "object",
    "properties": {
        "to": {"type": "string"},
        "amount": {"type": "number"},
        "currency": {"type": "string", "default": "EUR"},
        "notes": {"type": "array", "items": {"type": "object", "properties": {"text": {"type": "string"}}}},
        "extra": {"type": "object", "additionalProperties": True},
    },
    "required": ["to"],
}
made = compile_schema(SCHEMA)
assert isinstance(made, Checker)
CHECKER = made


def frame_of(request: bytes) -> bytes | None:
    """The frame that this request ends as; None where it is refused."""
    message = jsonrpc.parse(request)
    if not isinstance(message, jsonrpc.Request) or message.method != "tools/call":
        return None
    arguments = message.params.get("arguments", {})
    if message.params.get("name") != "pay" or not isinstance(arguments, dict):
        return None
    filled = CHECKER.fill(arguments)
    if not isinstance(filled, Filled):
        return None
    action = Action(id="act_1", kind=Kind.CALL_TOOL, subject=ANN, server="bank", name="pay", arguments=filled.arguments)
    return upstream.call(Era.MODERN, action)


TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
SCALAR = TEXT | st.integers(-(2**55), 2**55) | st.booleans() | st.none() | st.floats(-1e3, 1e3)
EXTRA = st.dictionaries(st.sampled_from(["a", "A", "b", "\u1d43", "a\0", "é"]) | TEXT, SCALAR, max_size=3)
ARGUMENTS = st.fixed_dictionaries(
    {"to": TEXT},
    optional={
        "amount": st.integers(0, 10**6) | st.floats(0, 1e6),
        "notes": st.lists(st.fixed_dictionaries({"text": TEXT}), max_size=2),
        "extra": EXTRA,
    },
)


class Speller:
    """Writes JSON in one of the many ways that mean the same."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw

    def value(self, value: JSON) -> str:
        if isinstance(value, dict):
            members = self.draw(st.permutations(list(value.items())))
            return "{" + ",".join(f"{self.text(k)}{self.space()}:{self.value(v)}" for k, v in members) + "}"
        if isinstance(value, list):
            return "[" + f",{self.space()}".join(map(self.value, value)) + "]"
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 and self.draw(st.booleans()):
            return f"{value}.0"
        return json.dumps(value)

    def text(self, text: str) -> str:
        escaped = self.draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
        return '"' + "".join(self.char(c, e) for c, e in zip(text, escaped, strict=True)) + '"'

    def char(self, char: str, is_escaped: bool) -> str:
        if not is_escaped:
            return json.dumps(char, ensure_ascii=False)[1:-1]
        units = char.encode("utf-16-be")
        return "".join(f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2))

    def space(self) -> str:
        return str(self.draw(st.sampled_from(["", " ", "\t", "\r "])))


def request(arguments: JSON, **params: JSON) -> JSONObject:
    return {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "pay", "arguments": arguments, **params},
    }  # fmt: skip


@pytest.mark.promise("equal-frames")
@settings(max_examples=150, deadline=None)
@given(ARGUMENTS, st.data())
def test_one_call_in_any_spelling_is_one_frame(arguments: JSONObject, data: st.DataObject) -> None:
    plain = frame_of(json.dumps(request(arguments)).encode())
    spelled = json.dumps(request({})).replace("{}", Speller(data.draw).value(arguments))
    assert frame_of(spelled.encode()) == plain


@pytest.mark.promise("equal-frames")
@settings(max_examples=60, deadline=None)
@given(
    ARGUMENTS,
    st.dictionaries(
        st.sampled_from(["_meta", "task", "inputResponses", "requestState", "Name", "Arguments", "cursor"]) | TEXT,
        EXTRA,
        max_size=3,
    ),
)
def test_no_other_member_of_a_request_reaches_the_frame(arguments: JSONObject, more: JSONObject) -> None:
    more = {key: value for key, value in more.items() if key not in {"name", "arguments"}}
    plain = request(arguments)
    for extended in (request(arguments, **more), {**more, **plain}):
        assert frame_of(json.dumps(extended).encode()) in {None, frame_of(json.dumps(plain).encode())}


@pytest.mark.promise("equal-frames")
@settings(max_examples=150, deadline=None)
@given(ARGUMENTS, st.sampled_from(["to", "To", "\uff54o", "amount", "extra", "zz"]), SCALAR, st.booleans())
def test_what_the_frame_says_is_what_a_strict_reader_reads(
    arguments: JSONObject, key: str, value: JSON, is_first: bool
) -> None:
    """A second spelling of a key, before or after the first: the last of equal ones wins, twins are refused."""
    members = [f"{json.dumps(k)}:{json.dumps(v)}" for k, v in arguments.items()]
    members.insert(0 if is_first else len(members), f"{json.dumps(key)}:{json.dumps(value)}")
    body = json.dumps(request({})).replace('"arguments": {}', '"arguments": {' + ",".join(members) + "}").encode()
    frame = frame_of(body)
    if frame is None:
        return
    read = json.loads(body)["params"]["arguments"]
    sent = json.loads(frame)["params"]["arguments"]
    assert sent == {"currency": "EUR"} | read
    assert len(names(sent)) == len(set(names(sent))), "no reader can take one key for another"


def names(value: JSON, path: str = "") -> list[str]:
    """Every key with its place, as the most careless reader takes it."""
    if isinstance(value, dict):
        folded = [f"{path}/{unicodedata.normalize('NFKC', key.partition(chr(0))[0]).casefold()}" for key in value]
        return folded + [n for key, item in value.items() for n in names(item, f"{path}/{key}")]
    return [n for at, item in enumerate(value) for n in names(item, f"{path}/{at}")] if isinstance(value, list) else []
