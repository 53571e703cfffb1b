"""What the bodies of `/v1` may hold: each wrong one is named, each hint is dropped, nothing is ignored that matters."""

import json
from typing import Any

import pytest

from gateway.edges.openai import bodies
from gateway.edges.openai.bodies import DROPPED, MAX_ALTERNATIVES, MAX_SAMPLES, MAX_STOPS, NEUTRAL, Asked, How
from gateway.edges.openai.failures import Failure

MESSAGES = [{"role": "user", "content": "Say it."}]


def chat(**given: Any) -> Asked | Failure:
    return bodies.chat(json.dumps({"model": "parrot", "messages": MESSAGES, **given}).encode())


def text(**given: Any) -> Asked | Failure:
    return bodies.text(json.dumps({"model": "parrot", "prompt": "Once", **given}).encode())


def asked(outcome: Asked | Failure) -> Asked:
    assert isinstance(outcome, Asked), outcome
    return outcome


def failed(outcome: object) -> Failure:
    assert isinstance(outcome, Failure), outcome
    assert outcome.status == 400
    return outcome


def test_only_what_was_given_is_asked() -> None:
    assert asked(chat()).arguments == {"messages": MESSAGES}
    assert asked(chat()).how == How(stream=False, include_usage=False)
    assert asked(text()).arguments == {"prompt": "Once", "max_tokens": 16}


def test_null_is_as_good_as_nothing() -> None:
    nulls = dict.fromkeys([*DROPPED, *NEUTRAL, "max_tokens", "n", "stop", "seed", "stream", "response_format"])
    assert asked(chat(**nulls)).arguments == {"messages": MESSAGES}


@pytest.mark.parametrize("name", sorted(DROPPED))
def test_a_hint_is_dropped(name: str) -> None:
    assert asked(chat(**{name: "anything"})).arguments == {"messages": MESSAGES}


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_what_is_not_had_here_is_named_unless_it_asks_for_nothing(name: str) -> None:
    for nothing in NEUTRAL[name]:
        assert asked(chat(**{name: nothing})).arguments == {"messages": MESSAGES}
    failure = failed(chat(**{name: [{"type": "something"}]}))
    assert (failure.code, failure.param) == ("unsupported_parameter", name)
    assert f"`{name}`" in failure.message


@pytest.mark.parametrize("name", ["min_p", "repetition_penalty", "Temperature", "x" * 500])
def test_what_is_not_known_is_named(name: str) -> None:
    failure = failed(chat(**{name: 1}))
    assert (failure.code, failure.param) == ("unknown_parameter", name[:100])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", -1),
        ("max_completion_tokens", 0),
        ("max_tokens", "5"),
        ("max_tokens", 1.5),
        ("max_tokens", True),
        ("n", 0),
        ("n", MAX_SAMPLES + 1),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("presence_penalty", 2.5),
        ("frequency_penalty", -2.5),
        ("seed", 2**53),
        ("seed", "x"),
        ("stop", ""),
        ("stop", ["a", ""]),
        ("stop", ["a"] * (MAX_STOPS + 1)),
        ("stop", 5),
        ("beam_width", 0),
        ("logprobs", 5),
        ("top_logprobs", MAX_ALTERNATIVES + 1),
        ("stream", "yes"),
        ("response_format", {"type": "xml"}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "x"}}),
        ("model", 5),
        ("messages", []),
        ("messages", "Say it."),
    ],
)
def test_a_value_out_of_its_bounds_is_named(name: str, value: Any) -> None:
    failure = failed(chat(**{name: value}))
    assert (failure.param or "").startswith(name)
    assert f"`{name}" in failure.message


def test_what_is_missing_is_named() -> None:
    assert "`model`" in failed(bodies.chat(b"{}")).message
    assert "`messages`" in failed(bodies.chat(b'{"model":"parrot"}')).message
    assert "`prompt`" in failed(bodies.text(b'{"model":"parrot"}')).message
    assert failed(chat(response_format={"type": "json_schema"})).param == "response_format.json_schema"
    assert failed(chat(top_logprobs=3)).param == "top_logprobs"


def test_both_names_of_the_bound_may_come_if_they_agree() -> None:
    assert asked(chat(max_tokens=5, max_completion_tokens=5)).arguments["max_tokens"] == 5
    assert asked(chat(max_completion_tokens=6)).arguments["max_tokens"] == 6
    assert failed(chat(max_tokens=5, max_completion_tokens=6)).param == "max_completion_tokens"
    assert asked(text(max_completion_tokens=6)).arguments["max_tokens"] == 6


def test_log_probabilities_are_counted_in_both_forms() -> None:
    assert asked(chat(logprobs=True)).arguments["logprobs"] == 0
    assert asked(chat(logprobs=True, top_logprobs=4)).arguments["logprobs"] == 4
    assert "logprobs" not in asked(chat(logprobs=False)).arguments
    assert asked(text(logprobs=0)).arguments["logprobs"] == 0
    assert asked(text(logprobs=5)).arguments["logprobs"] == 5


def test_a_response_format_is_a_grammar() -> None:
    assert "grammar" not in asked(chat(response_format={"type": "text"})).arguments
    assert asked(chat(response_format={"type": "json_object"})).arguments["grammar"] == {
        "kind": "json_object",
        "text": "",
    }
    schema = {"type": "object", "properties": {"z": {"const": 1}, "a": {}}}
    grammar = asked(chat(response_format={"type": "json_schema", "json_schema": {"schema": schema}})).arguments[
        "grammar"
    ]
    assert grammar["kind"] == "json_schema"
    assert list(json.loads(grammar["text"])["properties"]) == ["z", "a"], "in the schema's own order"


def test_a_stop_is_a_list_of_them() -> None:
    assert asked(chat(stop="a")).arguments["stop"] == ["a"]
    assert asked(chat(stop=["a", "b"])).arguments["stop"] == ["a", "b"]
    assert asked(chat(stop=[])).arguments["stop"] == []


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "tool", "content": "x"}, "messages[1].role"),
        ({"role": "User", "content": "x"}, "messages[1].role"),
        ({"content": "x"}, "messages[1]"),
        ({"role": "user"}, "messages[1]"),
        ({"role": "user", "content": None}, "messages[1]"),
        ({"role": "user", "content": 5}, "messages[1].content"),
        ({"role": "user", "content": "x", "trust": "me"}, "messages[1].trust"),
        ({"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}, "messages[1].tool_calls"),
        (
            {
                "role": "user",
                "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "x"}}],
            },
            "messages[1].content[1]",
        ),
        ({"role": "user", "content": [{"type": "text", "text": 5}]}, "messages[1].content[0]"),
        ({"role": "user", "content": ["x"]}, "messages[1].content[0]"),
        ("x", "messages[1]"),
    ],
)
def test_a_message_that_the_model_cannot_read_is_named(message: Any, param: str) -> None:
    assert failed(chat(messages=[*MESSAGES, message])).param == param


def test_a_message_keeps_its_role_and_its_text_alone() -> None:
    messages = [
        {"role": "developer", "content": "Be brief.", "name": "boss"},
        {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
        {"role": "assistant", "content": "", "refusal": None, "tool_calls": [], "annotations": [], "audio": None},
    ]
    assert asked(chat(messages=messages)).arguments["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One.\nTwo."},
        {"role": "assistant", "content": ""},
    ]


@pytest.mark.parametrize("prompt", ["", [], ["a", "b"], [1, 2], [[1, 2]], [""], 5, {"text": "x"}])
def test_a_prompt_is_one_text(prompt: Any) -> None:
    assert failed(text(prompt=prompt)).param == "prompt"


def test_one_prompt_may_come_in_a_list() -> None:
    assert asked(text(prompt=["Once"])).arguments["prompt"] == "Once"


def test_how_the_answer_is_wanted() -> None:
    streamed = {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}}
    assert asked(chat(**streamed)).how == How(stream=True, include_usage=True)
    assert bodies.resumed(b"") == How(stream=False, include_usage=False)
    assert bodies.resumed(json.dumps(streamed).encode()) == How(stream=True, include_usage=True)
    assert failed(bodies.resumed(b'{"max_tokens":5}')).code == "unknown_parameter"
