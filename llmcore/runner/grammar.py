"""Constrained decoding: which tokens may come next, so that the whole output matches a grammar by construction.

llguidance compiles and walks the grammars (`docs/decisions/0014-constrained-decoding.md` says why that one). Masks are
over the bytes that `llmcore.text` shows for each token, so what the grammar holds is what the reader gets. Markers
are never a part of an output; the end of text is allowed where the grammar is complete, and only there.
"""

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import llguidance
from torch import Tensor

from llmcore import grammar_bounds
from llmcore.errors import GrammarError
from llmcore.request import Grammar, GrammarKind
from llmcore.text import Tokenizer

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions  # in the stub alone

LIMITS: Final = llguidance.LLParserLimits(
    initial_lexer_fuel=500_000,  # ~10 ms
    step_lexer_fuel=100_000,  # ~7 ms
    step_max_items=2_000,  # a schema that needs more took a quarter of a second for each token
    max_lexer_states=50_000,  # ~100 MB at the very most
    max_grammar_size=50_000,
    verbose_errors=False,
)
"""A grammar that needs more in one step fails its sequence, not the engine."""

MOST_COMPILED: Final = 32
_ONE_LINE: Final["JsonCompileOptions"] = {
    "whitespace_flexible": False,  # a small model given the choice writes blanks until its tokens are gone
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": False,
}
"""How JSON is written; set over whatever a schema says of itself."""


class Grammars:
    """One model's compiler, of one thread; other threads run while it works."""

    def __init__(self, tokenizer: Tokenizer, vocabulary: int) -> None:
        """`vocabulary`: how many logits the model gives for a token; ids beyond the tokenizer's are never allowed."""
        eos = sorted(id for id in tokenizer.eos if id < vocabulary)
        self._tokenizer: llguidance.LLTokenizer | None = None
        if eos:
            model = llguidance.TokenizerWrapper(_Model(tokenizer, vocabulary, eos[0]))
            self._tokenizer = llguidance.LLTokenizer(model, n_vocab=vocabulary, eos_token=eos)
        self._words = -(-vocabulary // 32)
        self._compiled: dict[Grammar, Matcher] = {}
        """At their beginnings; a request's samples, and requests of one form, are compiled for once."""

    def matcher(self, grammar: Grammar) -> "Matcher":
        """At its beginning.

        Raises:
            GrammarError: it is invalid, too large, or nothing matches it; or the model cannot end an output.
        """
        if grammar not in self._compiled:
            self._compiled[grammar] = self._compile(grammar)
            while len(self._compiled) > MOST_COMPILED:
                del self._compiled[next(iter(self._compiled))]
        return self._compiled[grammar].fork()

    def _compile(self, grammar: Grammar) -> "Matcher":
        if self._tokenizer is None:
            raise GrammarError("The model's files name no eos token; constrained output could not end.")
        grammar_bounds.check(grammar)
        try:
            walker = llguidance.LLMatcher(self._tokenizer, _source(grammar), log_level=0, limits=LIMITS)
        except ValueError as failure:
            raise GrammarError(f"The grammar cannot be compiled: {_brief(str(failure))}") from failure
        matcher = Matcher(walker, self._words)
        if matcher.failure:
            raise GrammarError(f"The grammar cannot be compiled: {matcher.failure}")
        walker.compute_bitmask()
        if matcher.failure:
            raise GrammarError(f"Nothing matches the grammar: {matcher.failure}")
        return matcher


@dataclass(slots=True)
class Matcher:
    """How far one sequence has come in its grammar."""

    _walker: Any
    _words: int

    def mask(self, row: Tensor) -> None:
        """Bit `i % 32` of word `i // 32` of int32 `(ceil(vocabulary / 32),)` says whether token `i` may come next.

        All zero where nothing may: the grammar was too complex to go on with.
        """
        if row.shape != (self._words,) or not row.is_contiguous():
            raise ValueError(f"a mask has {self._words} words in a row, not {tuple(row.shape)}")
        self._walker.unsafe_compute_mask_ptr(row.data_ptr(), 4 * self._words)
        if self.failure:  # the library then allows the end of text, of an output that does not match
            row.zero_()

    def accept(self, token: int) -> None:
        """Go on by a token that the mask allowed; any other makes it fail."""
        self._walker.consume_token(token)

    def fork(self) -> "Matcher":
        """Another that has come as far; cheaper than to compile the grammar for each sample."""
        return Matcher(self._walker.deep_copy(), self._words)

    @property
    def is_complete(self) -> bool:
        """The output matches, and nothing can be added to it."""
        return bool(self._walker.is_stopped()) and not self.failure

    @property
    def failure(self) -> str:
        """Why it cannot go on; empty: it can."""
        return _brief(self._walker.get_error())


def _brief(error: str) -> str:
    """The compiler's own sentence, without the listings around it."""
    regex = re.search(r"^error: (.+)", error, re.MULTILINE)
    return (regex[1] if regex else error.partition("\n<non-verbose/>")[0]).strip()[:300]


def _source(grammar: Grammar) -> str:
    """What the compiler reads."""
    match grammar.kind:
        case GrammarKind.JSON_SCHEMA:
            source = llguidance.LLMatcher.grammar_from_json_schema(
                json.dumps(grammar_bounds.schema(grammar)), overrides=_ONE_LINE
            )
        case GrammarKind.JSON_OBJECT:
            source = llguidance.LLMatcher.grammar_from_json_schema('{"type": "object"}', overrides=_ONE_LINE)
        case GrammarKind.REGEX:
            source = llguidance.LLMatcher.grammar_from_regex(grammar.text)
        case GrammarKind.CHOICE:
            either = "|".join(f"(?:{_literal(choice)})" for choice in grammar_bounds.choices(grammar))
            source = llguidance.LLMatcher.grammar_from_regex(either)
    return str(source)


def _literal(text: str) -> str:
    """A regex for exactly this text."""
    return "".join(
        character if character.isalnum() and character.isascii() else f"\\x{{{ord(character):X}}}" for character in text
    )


class _Model:
    """Our tokenizer as the library asks for one."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, vocabulary: int, eos: int) -> None:
        markers = {marker.id: marker.text.encode() for marker in tokenizer.vocabulary.markers}
        self.eos_token_id = eos
        self.tokens = [markers.get(id) or tokenizer.bytes_of(id) for id in range(vocabulary)]
        self.special_token_ids = [id for id in markers if id < vocabulary]
        self._tokenizer = tokenizer

    def __call__(self, text: bytes) -> list[int]:
        """How the model itself would write text that the grammar leaves no choice about."""
        return self._tokenizer.continue_with(text.decode(errors="replace"))
