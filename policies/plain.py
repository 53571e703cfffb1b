"""Plain text: whether what a person sees is what a program reads.

Zero-width, bidi and control characters, fillers, odd spaces, compatibility forms and look-alike letters (UTS 39) make
two different values look the same; a value that holds one is never proof of anything, and is shown with it spelled out.
"""

import re
import unicodedata


def is_plain(text: str) -> bool:
    """Whether no character of `text` is invisible, reordering, unassigned, compatibility-only or a look-alike."""
    if text.isascii():
        return _ASCII_HIDDEN.search(text) is None
    return (
        unicodedata.is_normalized("NFKC", text)
        and not any(is_hidden(character) for character in text)
        and not _is_confusable(text)
    )


def is_hidden(character: str) -> bool:
    """Whether a reader cannot see the character: controls, formats, fillers, odd spaces, surrogates, private use."""
    if character in "\t\n ":
        return False
    return unicodedata.category(character) in _HIDDEN_CATEGORIES or ord(character) in _FILLERS


def visible(text: str) -> str:
    """`text` for a card: every character that cannot be seen is written out as its code point."""
    if text.isascii() and _ASCII_HIDDEN.search(text) is None:
        return text
    return "".join(f"⟨U+{ord(c):04X}⟩" if is_hidden(c) else c for c in text)


_ASCII_HIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
_FILLERS = frozenset({0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)})
_LOOKALIKES = frozenset(
    "аеорсухіјѕһԁԛԝӏАВЕКМНОРСТУХІЈЅҺԌԚԜҮ"  # Cyrillic
    "αονρτυκιγχωηΑΒΕΖΗΙΚΜΝΟΡΤΥΧϲϳ"  # Greek
    "օսոհցզԼՏՍՕ"  # Armenian
    "ɑɡɩıʟᴏᴜᴠᴡᴢꞓᏟᎪᎬᎻᏴᎷᏢᎢ"  # Latin extensions, Cherokee
    "ⅼⅰ∕⁄։ꓸ․‐‑‒–−"  # signs that read as l i / : . -
)
_TOGETHER = frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO"})
"""Scripts that ordinary text mixes within a word; any other pair in one word is taken for a disguise."""
_WORDS = re.compile(r"\w+")


def _is_confusable(text: str) -> bool:
    return any(_is_disguised(word) for word in _WORDS.findall(text)) or any(
        character in _LOOKALIKES and not character.isalnum() for character in text
    )


def _is_disguised(word: str) -> bool:
    letters = [character for character in word if character.isalpha()]
    scripts = {_script(character) for character in letters}
    if len(scripts) > 1 and not scripts <= _TOGETHER:
        return True
    strange = [character for character in letters if not character.isascii()]
    return bool(strange) and all(character in _LOOKALIKES for character in strange)


def _script(character: str) -> str:
    return "LATIN" if character.isascii() else unicodedata.name(character, "UNKNOWN").split(" ", 1)[0]
