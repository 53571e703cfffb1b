"""One sample's words for a reader: whole characters, their tokens with them, nothing from a stop string on."""

from hypothesis import given
from hypothesis import strategies as st
from support.llm_services import LETTERS

from llmcore.messages import Delta
from llmcore.request import Finish
from llmcore.sequence import Logprob
from llmcore.telling import Telling
from llmcore.text import Stream

tokens = st.lists(st.integers(0, 100), max_size=30)


def telling(*stop: str) -> Telling:
    return Telling("a", 0, LETTERS, Stream(LETTERS, stop))


def fed(one: Telling, tokens: list[int]) -> list[Delta]:
    return [delta for token in tokens for delta in one.tell([token], [Logprob(token, -0.5)])]


def shown(deltas: list[Delta]) -> list[tuple[str, int]]:
    return [(delta.text, len(delta.tokens)) for delta in deltas]


def test_a_character_of_several_tokens_is_told_whole_with_all_of_them() -> None:
    assert shown(fed(telling(), [98, 99, 5, 6])) == [("漢", 2), ("f", 1), ("g", 1)]


def test_half_a_character_is_told_when_it_can_no_longer_become_one() -> None:
    one = telling()

    assert shown(fed(one, [98, 5, 98])) == [("�f", 2)]
    assert shown(one.end(Finish.LENGTH, "")) == [("�", 1)]


def test_what_is_suspended_keeps_to_itself_what_is_not_whole_yet() -> None:
    half, stop = telling(), telling("bcd")
    fed(half, [5, 98])
    fed(stop, [0, 1, 2])

    for one, text in ((half, "f"), (stop, "a")):
        assert one.end(Finish.SUSPENDED, "") == []
        assert one.choice is not None
        assert (one.choice.text, one.choice.finish) == (text, Finish.SUSPENDED)


def test_what_may_become_a_stop_string_is_held_back_with_its_tokens() -> None:
    one = telling("bcd")

    assert shown(fed(one, [0, 1, 2])) == [("a", 1)]
    assert shown(fed(one, [4])) == [("bce", 3)]
    assert not one.has_stopped


def test_a_stop_string_ends_the_sample_whatever_else_would() -> None:
    one = telling("cd")

    assert shown(fed(one, [0, 1, 2, 3, 4])) == [("a", 1), ("b", 1)]
    assert one.end(Finish.LENGTH, "") == []
    assert one.choice is not None
    assert (one.choice.text, one.choice.finish) == ("ab", Finish.STOP)
    assert [token.token for token in one.choice.tokens] == [0, 1]


def test_the_end_says_why() -> None:
    one = telling()
    one.end(Finish.FAILED, "its logits are no numbers")

    assert one.choice is not None
    assert (one.choice.finish, one.choice.detail) == (Finish.FAILED, "its logits are no numbers")


@given(tokens, st.lists(st.text("abcdefg", min_size=1, max_size=3), max_size=2))
def test_deltas_are_the_choice_and_every_token_is_told_with_its_text(tokens: list[int], stop: list[str]) -> None:
    one = telling(*stop)
    deltas = [*fed(one, tokens), *one.end(Finish.LENGTH, "")]

    assert one.choice is not None
    assert "".join(delta.text for delta in deltas) == one.choice.text
    assert tuple(token for delta in deltas for token in delta.tokens) == one.choice.tokens
    assert [token.token for token in one.choice.tokens] == tokens[: len(one.choice.tokens)]
    assert one.has_stopped or len(one.choice.tokens) == len(tokens)
    assert all(word not in one.choice.text for word in stop)


@given(tokens, st.lists(st.text("abcdefg", min_size=1, max_size=3), max_size=2), st.data())
def test_the_text_is_the_same_however_the_tokens_come(tokens: list[int], stop: list[str], data: st.DataObject) -> None:
    piecewise, cut = telling(*stop), data.draw(st.integers(0, len(tokens)))
    fed(piecewise, tokens)
    piecewise.end(Finish.LENGTH, "")
    at_once = telling(*stop)
    for part in (tokens[:cut], tokens[cut:]):
        at_once.tell(part, [Logprob(token, -0.5) for token in part])
    at_once.end(Finish.LENGTH, "")

    assert piecewise.choice == at_once.choice
