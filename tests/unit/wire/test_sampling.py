"""What a server may ask of a model, and what it is told: values in, values out; the SDK's types are the oracle."""

import json
from typing import Any

import mcp_types
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import sampling
from gateway.wire.sampling import Rejection, SamplingAsk, SamplingMessage
from policies.verdict import Code

HELLO = {"role": "user", "content": {"type": "text", "text": "Hello"}}


def asks(**params: Any) -> dict[str, Any]:
    return {"messages": [HELLO], "maxTokens": 100, **params}


def test_a_request_is_its_text_and_its_bounds() -> None:
    blocks = [{"type": "text", "text": "one", "_meta": {"x": 1}}, {"type": "text", "text": "two", "annotations": {}}]
    params = asks(
        messages=[HELLO, {"role": "assistant", "content": blocks, "_meta": {"y": 2}}],
        systemPrompt="Be brief.",
        temperature=1,
        stopSequences=["END"],
    )
    assert sampling.parse(params) == SamplingAsk(
        messages=(SamplingMessage(role="user", text="Hello"), SamplingMessage(role="assistant", text="one\ntwo")),
        max_tokens=100,
        system="Be brief.",
        temperature=1.0,
        stop=("END",),
    )


@pytest.mark.parametrize(
    "more",
    [
        {"includeContext": "allServers"},
        {"modelPreferences": {"hints": [{"name": "gpt"}], "costPriority": 1}},
        {"metadata": {"provider": "x"}},
        {"task": {"ttl": 1}},
        {"_meta": {"io.modelcontextprotocol/related-task": {"taskId": "1"}, "progressToken": "act_1"}},
        {"systemPrompt": None, "temperature": None, "stopSequences": None, "tools": None},
    ],
)
def test_wishes_that_a_client_may_ignore_change_nothing(more: dict[str, Any]) -> None:
    assert sampling.parse(asks(**more)) == sampling.parse(asks())


@pytest.mark.parametrize(
    ("params", "why"),
    [
        (asks(tools=[]), "tools"),
        (asks(toolChoice={"mode": "auto"}), "tools"),
        (asks(messages=[]), "messages"),
        (asks(messages="Hello"), "messages"),
        (asks(messages=[HELLO] * (sampling.MAX_MESSAGES + 1)), "messages"),
        (asks(messages=[{"role": "system", "content": HELLO["content"]}]), "role"),
        (asks(messages=[{"role": "user"}]), "role"),
        (asks(messages=[7]), "role"),
        (asks(messages=[{"role": "user", "content": "Hello"}]), "text"),
        (asks(messages=[{"role": "user", "content": []}]), "text"),
        (asks(messages=[{"role": "user", "content": {"type": "image", "data": "", "mimeType": "image/png"}}]), "text"),
        (asks(messages=[{"role": "user", "content": [HELLO["content"], {"type": "audio", "data": ""}]}]), "text"),
        (asks(messages=[{"role": "user", "content": {"type": "tool_result", "toolUseId": "1"}}]), "text"),
        (asks(messages=[{"role": "user", "content": {"type": "text", "text": 7}}]), "text"),
        (asks(maxTokens=0), "maxTokens"),
        (asks(maxTokens=-1), "maxTokens"),
        (asks(maxTokens=True), "maxTokens"),
        (asks(maxTokens=1.5), "maxTokens"),
        (asks(maxTokens="100"), "maxTokens"),
        ({"messages": [HELLO]}, "maxTokens"),
        (asks(systemPrompt=["x"]), "systemPrompt"),
        (asks(temperature=-0.1), "temperature"),
        (asks(temperature=2.1), "temperature"),
        (asks(temperature=float("inf")), "temperature"),
        (asks(temperature=True), "temperature"),
        (asks(temperature=10**400), "temperature"),
        (asks(stopSequences="END"), "stopSequences"),
        (asks(stopSequences=[""]), "stopSequences"),
        (asks(stopSequences=["x" * (sampling.MAX_STOP_CHARS + 1)]), "stopSequences"),
        (asks(stopSequences=["x"] * (sampling.MAX_STOPS + 1)), "stopSequences"),
        ({}, "messages"),
    ],
)
def test_what_is_not_text_within_bounds_is_refused_with_a_sentence(params: dict[str, Any], why: str) -> None:
    said = sampling.parse(params)
    assert isinstance(said, str)
    assert why in said


def test_more_tokens_than_any_are_read_as_the_most() -> None:
    said = sampling.parse(asks(maxTokens=10**30))
    assert isinstance(said, SamplingAsk)
    assert said.max_tokens == sampling.MAX_TOKENS


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.fixed_dictionaries(
        {"messages": anything | st.lists(st.just(HELLO) | anything, max_size=3), "maxTokens": st.just(5) | anything},
        optional={"systemPrompt": anything, "temperature": anything, "stopSequences": anything, "tools": anything},
    )
)
def test_whatever_a_server_says_it_is_taken_within_bounds_or_refused(params: dict[str, Any]) -> None:
    said = sampling.parse(params)
    if isinstance(said, SamplingAsk):
        assert said.messages
        assert 1 <= said.max_tokens <= sampling.MAX_TOKENS
        assert said.temperature is None or 0 <= said.temperature <= sampling.MAX_TEMPERATURE
        assert all(said.stop)


def test_params_beyond_the_bound_are_not_handed_on_and_meta_never_is() -> None:
    assert sampling.bounded(asks(_meta={"vendor/x": "y" * sampling.MAX_BYTES})) == asks()
    assert sampling.bounded(asks(systemPrompt="x" * sampling.MAX_BYTES)) is None


@pytest.mark.parametrize(("finish", "reason"), [("stop", "endTurn"), ("length", "maxTokens")])
def test_an_answer_is_a_result_that_the_sdk_takes(finish: str, reason: str) -> None:
    said = sampling.answer("Ahoy", model="m", finish=finish)
    taken = mcp_types.CreateMessageResult.model_validate(said)
    assert taken.content == mcp_types.TextContent(type="text", text="Ahoy")
    assert said.keys() == {"role", "content", "model", "stopReason"}
    assert (taken.role, taken.model, taken.stop_reason) == ("assistant", "m", reason)


@pytest.mark.parametrize("request_id", [7, "7", 0, "ü"])
def test_an_answer_has_the_id_as_it_was_asked(request_id: int | str) -> None:
    said = sampling.answer("Ahoy", model="m", finish="stop")
    line = json.loads(sampling.answered(request_id, said))
    assert (line["id"], type(line["id"]), line["result"]) == (request_id, type(request_id), said)


@pytest.mark.parametrize("code", list(Code))
def test_a_refusal_is_one_of_three_constant_sentences(code: Code) -> None:
    line = json.loads(sampling.answered(1, code))
    three = [Rejection.REJECTED.value, Rejection.INVALID.value, Rejection.UNAVAILABLE.value]
    assert (line["error"]["code"], line["error"]["message"]) in three
    assert line["error"].keys() == {"code", "message"}


def test_a_server_cannot_tell_rights_from_rules_from_a_person() -> None:
    refusals = (Code.NO_CAPABILITY, Code.CAPABILITY_EXHAUSTED, Code.FLOW_REFUSED, Code.POLICY_REFUSED, Code.REVOKED)
    told = {sampling.answered(1, code) for code in (*refusals, Code.DENIED_BY_PERSON, Code.EXPIRED, Code.PENDING)}
    assert told == {sampling.rejected(1, Rejection.REJECTED)}
