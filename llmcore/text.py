"""Text to tokens and back: a model folder's tokenizer, and the stream in which an answer's tokens become words.

No torch and no transformers: `tokenizers` reads `tokenizer.json`, which is also all that a gateway needs which leaves
the model to a child process.
"""

import codecs
import itertools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from llmcore.chat import ChatTemplate
from llmcore.errors import ModelError, PromptError
from llmcore.vocabulary import Vocabulary, is_marker

if TYPE_CHECKING:
    import tokenizers

_Utf8: Final = codecs.getincrementaldecoder("utf-8")

# A text is encoded by one thread. Without it the library starts a pool, and complains in each process forked later.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Tokenizer:
    """One model's. Safe to use from any thread."""

    vocabulary: Vocabulary
    eos: frozenset[int]
    """Any of these ends an answer."""
    window: int | None
    """Tokens of prompt and output together, where the folder says so."""
    template: ChatTemplate
    _first: "tokenizers.Tokenizer"
    _rest: "tokenizers.Tokenizer"
    """The same for text that follows a marker: some put a space before the very first word alone."""
    _opening: tuple[int, ...]
    """What the model wants before any raw text: nothing, or its `bos` token."""
    _reserved: frozenset[int]
    """The ids of markers, which no words become."""

    @classmethod
    def open(cls, folder: Path) -> "Tokenizer":
        """From a folder with `tokenizer.json`.

        Raises:
            ModelError: no tokenizer there, or not one that can be read.
        """
        try:
            import tokenizers  # noqa: PLC0415 - of the extra: a gateway without a model does without
        except ImportError as error:
            raise ModelError("a model needs tokenizers, of the extra `llm`: pip install 'pratique[llm]'") from error
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise ModelError(f"There is no tokenizer.json in {folder}; a model folder in Hugging Face format has one.")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            vocabulary = Vocabulary.read(content)
            whole = tokenizers.Tokenizer.from_str(json.dumps(content))
            first, rest = (tokenizers.Tokenizer.from_str(json.dumps(plain)) for plain in _plain(content))
        except ModelError:
            raise
        except Exception as failure:  # the library raises bare Exception for whatever it cannot read
            raise ModelError(f"{file} is not a tokenizer that can be read: {str(failure)[:200]}") from failure
        config = _json(folder / "tokenizer_config.json")
        return cls(
            vocabulary=vocabulary,
            eos=_eos(folder, config, vocabulary),
            window=_json(folder / "config.json").get("max_position_embeddings"),
            template=ChatTemplate.open(folder, config, vocabulary.markers),
            _first=first,
            _rest=rest,
            _opening=_opening(whole, vocabulary),
            _reserved=frozenset(marker.id for marker in vocabulary.markers),
        )

    def encode(self, text: str) -> list[int]:
        """Raw text, as a completion goes on from it. It is all words: a marker's text in it is not the marker.

        Raises:
            PromptError: the text is no Unicode text.
        """
        return [*self._opening, *self._words(text, is_first=True)]

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Messages of `role` (system, developer, user, assistant) and `content`, and the opening of the answer.

        Raises:
            PromptError: the messages cannot be put into the model's template.
        """
        ids: list[int] = list(self._opening) if self.template.is_plain else []
        for piece in self.template.render(messages):
            if piece.marker is not None:
                ids.append(piece.marker)
            else:
                ids += self._words(piece.text, is_first=piece.is_first)
        return ids

    def continue_with(self, text: str) -> list[int]:
        """Words in the middle of a text: no opening before them."""
        return self._words(text, is_first=False)

    def text_of(self, token: int) -> str:
        """One token for a reader; a part of a character is shown as U+FFFD."""
        return self.bytes_of(token).decode(errors="replace")

    def bytes_of(self, token: int) -> bytes:
        """Empty for markers, and for the ids with which a model's matrices are padded."""
        return self.vocabulary.tokens[token] if token < len(self.vocabulary.tokens) else b""

    def _words(self, text: str, *, is_first: bool) -> list[int]:
        tokenizer = self._first if is_first else self._rest
        try:
            text.encode()
        except UnicodeEncodeError as failure:
            raise PromptError("The text holds half of a surrogate pair; it is no Unicode text.") from failure
        # A batch of one, because the library lets other threads run in `encode_batch_fast` and not in `encode`.
        ids: list[int] = tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        if self._reserved.isdisjoint(ids):
            return ids
        # A model whose own pieces spell a marker (Unigram may): its single characters never do.
        apart = [id for each in tokenizer.encode_batch_fast([*text], add_special_tokens=False) for id in each.ids]
        if self._reserved.isdisjoint(apart):
            return apart
        raise PromptError("The text holds a single character that is one of the model's own markers.")


@dataclass(slots=True)
class Stream:
    """The tokens of one answer on their way to a reader: whole characters, and nothing from a stop string on.

    The text is the same however it was cut into tokens: it ends before the stop string that is complete first, of those
    that end together the one that starts first.
    """

    tokenizer: Tokenizer
    stop: Sequence[str] = ()
    """Empty ones are never met."""
    stopped: bool = False
    """A stop string has come; whatever is fed from here on says nothing."""
    _decoder: codecs.IncrementalDecoder = field(default_factory=lambda: _Utf8("replace"))
    _held: str = ""
    """Said, and not told yet: the beginning of what may become a stop string."""

    def feed(self, token: int) -> str:
        """What can be told now; often nothing."""
        return self._tell(self._decoder.decode(self.tokenizer.bytes_of(token)))

    def finish(self) -> str:
        """The rest, when no more tokens come; a character of which bytes are missing is told as U+FFFD."""
        told = self._tell(self._decoder.decode(b"", final=True))
        held, self._held = self._held, ""
        return told + held

    def _tell(self, said: str) -> str:
        if self.stopped:
            return ""
        text = self._held + said
        stops = [(at + len(stop), at) for stop in self.stop if stop and (at := text.find(stop)) >= 0]
        if stops:
            self.stopped, self._held = True, ""
            return text[: min(stops)[1]]
        keep = max((_overlap(text, stop) for stop in self.stop), default=0)
        told, self._held = text[: len(text) - keep], text[len(text) - keep :]
        return told


def _overlap(text: str, stop: str) -> int:
    """How many of the last characters may be the beginning of `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


def _plain(content: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """The same tokenizer twice, without its markers, so that it finds none: for the first words, and for later ones."""
    added = [each for each in content.get("added_tokens") or () if not is_marker(each)]
    first = {**content, "added_tokens": added, "truncation": None, "padding": None, "post_processor": None}
    yield first
    yield {**first, "pre_tokenizer": _later(first.get("pre_tokenizer"))}


def _later(part: Any) -> Any:
    """A pre-tokenizer for text that has something before it."""
    if isinstance(part, list):
        return [_later(inner) for inner in part]
    if isinstance(part, dict):
        later = {key: _later(inner) for key, inner in part.items()}
        return {**later, "prepend_scheme": "never"} if part.get("prepend_scheme") == "first" else later
    return part


def _opening(whole: "tokenizers.Tokenizer", vocabulary: Vocabulary) -> tuple[int, ...]:
    ids = whole.encode("a").ids
    return tuple(itertools.takewhile(lambda id: id in vocabulary.silent, ids))


def _eos(folder: Path, config: Mapping[str, Any], vocabulary: Vocabulary) -> frozenset[int]:
    """All that the model's own files call the end, as the engine has it; where they name none, the tokenizer's."""
    ends: set[int] = set()
    for file in ("generation_config.json", "config.json"):
        named = _json(folder / file).get("eos_token_id")
        ends |= set(named) if isinstance(named, list) else {named} if isinstance(named, int) else set()
    token = config.get("eos_token")
    text = token.get("content") if isinstance(token, dict) else token
    return frozenset(ends or {marker.id for marker in vocabulary.markers if marker.text == text})


def _json(file: Path) -> dict[str, Any]:
    """Empty where there is no such file."""
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as failure:
        raise ModelError(f"{file} is not JSON: {failure}") from failure
    return content if isinstance(content, dict) else {}
