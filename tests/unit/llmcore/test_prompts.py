"""What the gateway asks its model: strangers' words stand between fences that they cannot close."""

import json

from hypothesis import given
from hypothesis import strategies as st

from llmcore.extraction import Boolean, Enum
from llmcore.prompts import MOST_ARGUMENTS, question_prompt, summary_prompt

CARD = {
    "server": "bank",
    "tool": "pay",
    "arguments": [{"path": "/to", "value": "ACME"}, {"path": "/cents", "value": 1200}],
    "asks": [
        {"code": "approval", "detail": "it spends money", "path": ""},
        {"code": "untrusted", "detail": "", "path": "/to"},
    ],
}


@given(st.text())
def test_a_fence_holds_the_whole_text_and_stands_twice(text: str) -> None:
    _, user = question_prompt(Boolean(), "Is it urgent?", text)
    first, _, rest = user["content"].partition("\n")
    mark = first.removeprefix("----- DATA ").removesuffix(" begins -----")

    assert rest.startswith(f"{text}\n----- DATA {mark} ends -----\n")
    assert user["content"].count(mark) == 2


def test_a_question_says_the_type_before_and_after_the_data() -> None:
    answer = Enum(values=("red", "green"))
    system, user = question_prompt(answer, "Which colour?", "It is blue.")

    assert [system["role"], user["role"]] == ["system", "user"]
    assert answer.asks in system["content"]
    assert user["content"].endswith(f"Question about the data: Which colour?\nAnswer with {answer.asks}.")


def test_the_instructions_are_the_same_for_every_text_so_that_their_keys_are_reused() -> None:
    assert question_prompt(Boolean(), "?", "a")[0] == question_prompt(Boolean(), "?", "b")[0]


def test_a_summary_is_asked_of_server_tool_arguments_and_reasons() -> None:
    system, user = summary_prompt(CARD)

    assert "at most two" in system["content"]
    assert "Server: bank\nTool: pay\n" in user["content"]
    assert json.dumps({"/to": "ACME", "/cents": 1200}) in user["content"]
    assert "it spends money; untrusted" in user["content"]


def test_a_summary_is_asked_of_the_beginning_of_long_arguments() -> None:
    long = {**CARD, "arguments": [{"path": "/body", "value": "x" * 100_000}]}
    _, user = summary_prompt(long)

    assert "... (cut)" in user["content"]
    assert len(user["content"]) < MOST_ARGUMENTS + 1_000
