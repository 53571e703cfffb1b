"""Untrusted text on a page: nothing hides, nothing runs, nothing imitates unmarked."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

from gateway.edges.console.inert import MOST, SHOWN, inert, whole
from policies.plain import is_hidden

TAG = re.compile(r'<(b|mark|em)( class="(hidden|odd|cut)")?( title="signs that imitate others")?>|</(b|mark|em)>')


@pytest.mark.promise("console-inert")
@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("<>&\"'\u202e\u200b\u2066аᅠ\x1b"), max_size=60))
def test_no_tag_but_ours_and_no_character_that_hides(text: str) -> None:
    shown = str(inert(text))
    bare = TAG.sub("", shown)

    assert not set(bare) & set("<>\"'")
    assert not any(map(is_hidden, bare))


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_what_is_shown_is_what_is_there(text: str) -> None:
    spelled = re.sub(r'<b class="hidden">U\+([0-9A-F]+)</b>', lambda found: chr(int(found[1], 16)), str(inert(text)))

    assert Markup(TAG.sub("", spelled)).unescape() == text


def test_bidi_zero_width_and_look_alikes_are_spelled_out() -> None:
    assert inert("a\u202eb\u200bc") == 'a<b class="hidden">U+202E</b>b<b class="hidden">U+200B</b>c'
    assert "odd" in inert("p\u0430yp\u0430l")
    assert inert("Łódź, naïve, 日本") == "Łódź, naïve, 日本"


def test_what_is_looked_for_is_marked_past_its_blanks() -> None:
    said = inert("pay to IBAN DE02 1203 0000 0000 2020 51.", marks=["DE02120300000000202051"])

    assert said == "pay to IBAN <mark>DE02 1203 0000 0000 2020 51</mark>."
    assert inert("<i>x@evil</i>", marks=["x@evil"]) == "&lt;i&gt;<mark>x@evil</mark>&lt;/i&gt;"
    assert inert("abab", marks=["zz", "", "abab", "bab"]) == "<mark>abab</mark>"


def test_a_long_value_is_cut_and_counted_and_can_be_seen_whole() -> None:
    text = "x" * (SHOWN + 2_500)

    assert str(inert(text)).endswith('<em class="cut">and 2,500 more characters</em>')
    assert whole(text) == text
    assert len(whole("y" * (MOST + 1))) > MOST


def test_what_is_no_text_is_shown_as_json() -> None:
    assert inert({"a": [1, True, None]}) == "{&#34;a&#34;: [1, true, null]}"
