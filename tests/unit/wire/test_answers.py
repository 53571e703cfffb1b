"""What an agent sees: the tool's result as it came, or one sentence and a code; and nobody else in our namespace."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ports import Answer
from gateway.wire import answers
from policies.verdict import Code


def legacy(answer: Answer) -> dict[str, Any]:
    result = json.loads(answers.legacy(7, answer))["result"]
    assert isinstance(result, dict)
    return result


def modern(answer: Answer) -> dict[str, Any]:
    result = json.loads(answers.modern(7, answer))["result"]
    assert isinstance(result, dict)
    return result


@pytest.mark.promise("refusals-are-results")
@pytest.mark.parametrize("code", list(Code))
def test_every_code_is_a_tool_result_with_one_constant_sentence(code: Code) -> None:
    result = legacy(Answer(action="act_1", code=code))

    assert result["isError"] is True
    assert result["content"] == [{"type": "text", "text": answers.SENTENCES[code]}]
    assert result["_meta"] == {"dev.pratique/decision": {"code": code.value, "action": "act_1"}}
    assert modern(Answer(action="act_1", code=code)) == {**result, "resultType": "complete"}


def test_a_wait_names_its_ticket() -> None:
    result = legacy(Answer(action="act_1", code=Code.PENDING, ticket="apr_1"))
    assert result["_meta"]["dev.pratique/decision"]["ticket"] == "apr_1"


def test_unknown_fields_of_a_result_survive() -> None:
    sent = {"content": [{"type": "new", "x": 1}], "vendor": {"y": 2**70}, "_meta": {"a": 1}, "isError": True}

    assert legacy(Answer(action="a", result=sent)) == sent
    assert modern(Answer(action="a", result=sent)) == {**sent, "resultType": "complete"}


def test_a_legacy_client_sees_no_result_type() -> None:
    assert legacy(Answer(action="a", result={"content": [], "resultType": "complete"})) == {"content": []}


@pytest.mark.promise("only-known-results-go-up")
@pytest.mark.parametrize(
    "result",
    [
        {"content": [], "resultType": "input_required", "inputRequests": {}},
        {"content": [], "resultType": 7},
        {"content": "text"},
        {},
    ],
)
def test_a_result_that_we_do_not_know_becomes_one_error_of_ours(result: dict[str, Any]) -> None:
    answer = Answer(action="a", result=result)
    for shown in (legacy(answer), modern(answer)):
        assert shown["_meta"]["dev.pratique/decision"]["code"] == "upstream_failed"
        assert "inputRequests" not in shown


KEYS = st.sampled_from(["_meta", "dev.pratique/decision", " Dev.Pratique/x", "DEV.PRATIQUE/decision", "a", "resource"])
TREES = st.recursive(
    st.text(max_size=3) | st.just("dev.pratique/decision"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=20,
)


def metas(value: Any) -> list[dict[str, Any]]:
    """Every `_meta` object at any depth."""
    if isinstance(value, list):
        return [meta for item in value for meta in metas(item)]
    if not isinstance(value, dict):
        return []
    own = [value["_meta"]] if isinstance(value.get("_meta"), dict) else []
    return own + [meta for item in value.values() for meta in metas(item)]


@pytest.mark.promise("namespace-stripped")
@settings(max_examples=200)
@given(st.dictionaries(KEYS, TREES, max_size=4), st.lists(TREES, max_size=3))
def test_our_namespace_is_nobody_elses_at_any_depth(top: dict[str, Any], content: list[Any]) -> None:
    sent = {**top, "content": content}
    shown = modern(Answer(action="a", result=sent))

    keys = [key for meta in metas(shown) for key in meta]
    assert not [key for key in keys if key.strip().lower().startswith("dev.pratique/")]
    assert shown.keys() - {"resultType"} == sent.keys()


def test_the_word_in_a_text_is_left_alone_and_nothing_is_changed_in_place() -> None:
    sent = {"content": [{"type": "text", "text": "see dev.pratique/decision", "_meta": {"dev.pratique/x": 1, "k": 2}}]}
    before = json.dumps(sent)

    assert legacy(Answer(action="a", result=sent))["content"] == [
        {"type": "text", "text": "see dev.pratique/decision", "_meta": {"k": 2}}
    ]
    assert json.dumps(sent) == before
