"""Canonical forms: what counts as the same value, and what can never be compared."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.forms import as_sent, canonical_form, form_for, spellings
from policies.pack import Form
from policies.plain import is_plain, visible

IBAN = "DE89370400440532013000"


@pytest.mark.parametrize(
    ("form", "value", "canonical"),
    [
        (Form.EMAIL, "Alice@Home.EXAMPLE", "Alice@home.example"),
        (Form.EMAIL, "a@bücher.example", "a@xn--bcher-kva.example"),
        (Form.IBAN, "de89 3704 0044 0532 0130 00", IBAN),
        (Form.URL, "HTTPS://Example.COM:443/Path?Q=1#f", "https://example.com/Path?Q=1#f"),
        (Form.URL, "http://example.com", "http://example.com/"),
        (Form.URL, "http://example.com?q", "http://example.com/?q"),
        (Form.URL, "http://[2001:DB8:0:0::1]:80/", "http://[2001:db8::1]/"),
        (Form.URL, "http://192.0.2.7:8080/x", "http://192.0.2.7:8080/x"),
        (Form.PATH, "/srv/Data/a b.txt", "/srv/Data/a b.txt"),
        (Form.PATH, "/", "/"),
        (Form.DATE, "2027-05-14", "2027-05-14"),
        (Form.DATE, "2027-05-14T10:00:00Z", "2027-05-14T10:00:00Z"),
        (Form.ID, "MA-1841", "MA-1841"),
        (Form.ID, 7, "7"),
        (Form.NUMBER, 3, "3"),
        (Form.NUMBER, 3.5, "3.5"),
        (Form.NUMBER, True, "true"),
        (Form.NUMBER, None, "null"),
        (Form.TEXT, "Zoë Müller", "Zoë Müller"),
        (Form.TEXT, "山田 太郎", "山田 太郎"),
    ],
)
def test_a_value_has_one_spelling(form: Form, value: object, canonical: str) -> None:
    assert canonical_form(form, value) == canonical
    assert canonical_form(form, canonical if isinstance(value, str) else value) == canonical


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (Form.EMAIL, "Alice <alice@home.example>"),
        (Form.EMAIL, "alice@home.example,x@evil.example"),
        (Form.EMAIL, '"alice"@home.example'),
        (Form.EMAIL, "alice@localhost"),
        (Form.EMAIL, "älice@home.example"),
        (Form.EMAIL, "alice@127.0.0.1"),
        (Form.EMAIL, 7),
        (Form.IBAN, "DE89370400440532013001"),
        (Form.IBAN, "DE8937040044053201300"),
        (Form.IBAN, "not an iban at all"),
        (Form.URL, "https://user@example.com/"),
        (Form.URL, "https://example.com\\@evil.example/"),
        (Form.URL, "https://example.com/a/../b"),
        (Form.URL, "https://example.com/a/%2E%2e/b"),
        (Form.URL, "https://127.1/"),
        (Form.URL, "https://0x7f.0.0.1/"),
        (Form.URL, "https://example.com:0443/"),
        (Form.URL, "https://example.com:99999/"),
        (Form.URL, "https://[::1/"),
        (Form.URL, "javascript:alert(1)"),
        (Form.URL, "https://exa mple.com/"),
        (Form.URL, "https://xn--80ak6aa92e.example/"),  # an all-Cyrillic look-alike, spelled as an A-label
        (Form.URL, "https://xn--zz--.example/"),
        (Form.PATH, "/srv/../etc/passwd"),
        (Form.PATH, "//srv"),
        (Form.PATH, "/srv/"),
        (Form.PATH, "~/x"),
        (Form.PATH, "$HOME/x"),
        (Form.PATH, "/srv/a\\b"),
        (Form.DATE, "14.05.2027"),
        (Form.DATE, "2027-02-30"),
        (Form.DATE, "２０２７-05-14"),
        (Form.ID, "MA 1841"),
        (Form.ID, 7.0),
        (Form.NUMBER, "3"),
        (Form.NUMBER, float("nan")),
        (Form.NUMBER, 2**60),
        (Form.NUMBER, [3]),
        (Form.TEXT, ""),
        (Form.TEXT, " padded"),
        (Form.TEXT, "x" * 5000),
        (Form.TEXT, 3),
    ],
)
def test_what_readers_disagree_about_has_no_form(form: Form, value: object) -> None:
    assert canonical_form(form, value) is None


@pytest.mark.promise("confusables-prove-nothing")
@pytest.mark.parametrize(
    "value",
    [
        "a\u200blice@home.example",  # zero-width space
        "alice@home.example\u202e",  # bidi override
        "\u0430lice@home.example",  # Cyrillic a
        "alice@h\u043eme.example",  # Cyrillic o in the host
        "alice@\uff48ome.example",  # fullwidth h
        "alice@home\u2024example",  # one dot leader
        "alice@home.example\x00",
        "alice\u00ad@home.example",  # soft hyphen
        "cafe\u0301@home.example",  # not NFC
        "alice@home.example\ud800",  # lone surrogate
        "alice\u3164@home.example",  # Hangul filler
        "alice@home.example\ufe0f",  # variation selector
    ],
)
@pytest.mark.parametrize("form", [Form.EMAIL, Form.TEXT, Form.ID])
def test_nothing_that_deceives_an_eye_can_be_proven(form: Form, value: str) -> None:
    assert canonical_form(form, value) is None
    assert as_sent(form, value) is None
    assert spellings(form, value) == frozenset()


def test_a_word_wholly_of_look_alikes_is_a_disguise_and_honest_foreign_words_are_not() -> None:
    assert not is_plain("\u0441\u043e\u0441\u043e")  # reads "coco", is Cyrillic
    assert is_plain("Москва")
    assert is_plain("Ελλάδα")
    assert is_plain("東京タワー")


def test_what_is_sent_must_be_canonical_or_the_very_spelling_that_was_proven() -> None:
    proven = spellings(Form.IBAN, "DE89 3704 0044 0532 0130 00")
    assert as_sent(Form.IBAN, IBAN) in proven
    assert as_sent(Form.IBAN, "DE89 3704 0044 0532 0130 00") in proven
    assert as_sent(Form.IBAN, "DE8937040044 0532013000") not in proven


def test_a_number_is_not_its_digits_but_an_id_is() -> None:
    assert form_for(Form.TEXT, 7) is Form.NUMBER
    assert form_for(Form.EMAIL, True) is Form.NUMBER
    assert form_for(Form.ID, 7) is Form.ID
    assert form_for(Form.ID, True) is Form.NUMBER
    assert form_for(Form.URL, "x") is Form.URL
    assert canonical_form(Form.TEXT, "7") != canonical_form(Form.TEXT, 7)


@settings(max_examples=200)
@given(st.sampled_from(list(Form)), st.text(max_size=40) | st.integers() | st.floats() | st.booleans() | st.none())
def test_a_canonical_spelling_is_its_own_canonical_spelling(form: Form, value: object) -> None:
    canonical = canonical_form(form, value)
    if canonical is not None and isinstance(value, str):
        assert canonical_form(form, canonical) == canonical
        assert as_sent(form, canonical) in spellings(form, value)


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("pay\u202e me\u200b\n") == "pay⟨U+202E⟩ me⟨U+200B⟩\n"
    assert visible("bell\x07") == "bell⟨U+0007⟩"
    assert visible("plain") == "plain"
