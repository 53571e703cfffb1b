"""What each token of a model is in bytes: the one reading that output text and grammars share.

Two families are read: byte-level BPE, whose pieces spell each byte as one printable character (GPT-2, Llama 3, Qwen,
SmolLM), and sentencepiece, whose pieces are text with `▁` for a space and `<0x0A>` for a byte (Llama 2, Mistral).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from llmcore.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """A token that structures a conversation; its text in somebody's words is not it."""

    id: int
    text: str
    lstrip: bool = False
    """It swallows the white space before it."""
    rstrip: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Every token's bytes, by id."""

    tokens: tuple[bytes, ...]
    """Empty for an id that names no token, and for `silent` ones."""
    markers: tuple[Marker, ...]
    silent: frozenset[int]
    """Markers that say nothing to a reader; the others (`<think>`) are shown as they are spelled."""

    @classmethod
    def read(cls, tokenizer: dict[str, Any]) -> "Vocabulary":
        """From the content of a `tokenizer.json`.

        Raises:
            ModelError: its pieces are spelled in no way known here.
        """
        spelled = _byte_of_piece(tokenizer)
        tokens: dict[int, bytes] = {id: spelled(piece) for piece, id in _pieces(tokenizer["model"])}
        markers, silent = [], set()
        for added in tokenizer.get("added_tokens") or ():
            tokens[added["id"]] = b"" if added.get("special") else added["content"].encode()
            if is_marker(added):
                markers.append(_marker(added))
            if added.get("special"):
                silent.add(added["id"])
        size = max(tokens) + 1
        return cls(
            tokens=tuple(tokens.get(id, b"") for id in range(size)), markers=tuple(markers), silent=frozenset(silent)
        )


def is_marker(added: dict[str, Any]) -> bool:
    """Whether an added token is structure, not words: declared special, or written like it (`<tool_call>`, `[INST]`).

    Added words and runs of spaces are vocabulary like any other.
    """
    text: str = added["content"]
    return bool(added.get("special")) or (text[:1], text[-1:]) in {("<", ">"), ("[", "]")}


def _marker(added: dict[str, Any]) -> Marker:
    return Marker(
        id=added["id"],
        text=added["content"],
        lstrip=bool(added.get("lstrip")),
        rstrip=bool(added.get("rstrip")),
    )


def _pieces(model: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """BPE and WordPiece list `{piece: id}`, Unigram `[[piece, score], ...]`."""
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        yield from vocab.items()
    else:
        yield from ((piece, id) for id, (piece, _) in enumerate(vocab))


class _ByteLevel:
    """GPT-2's alphabet: printable Latin-1 bytes stand for themselves, the others for U+0100 upwards, in order."""

    def __init__(self) -> None:
        printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in set(printable)]
        self.bytes = {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}

    def __call__(self, piece: str) -> bytes:
        if all(character in self.bytes for character in piece):
            return bytes(self.bytes[character] for character in piece)
        return piece.encode()


_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class _SentencePiece:
    def __call__(self, piece: str) -> bytes:
        byte = _BYTE.fullmatch(piece)
        return bytes([int(byte[1], 16)]) if byte else piece.replace("▁", " ").encode()


def _byte_of_piece(tokenizer: dict[str, Any]) -> "_ByteLevel | _SentencePiece":
    kinds = {kind for part in ("decoder", "pre_tokenizer", "normalizer") for kind in _kinds(tokenizer.get(part))}
    if "ByteLevel" in kinds:
        return _ByteLevel()
    if kinds & {"Metaspace", "ByteFallback"}:
        return _SentencePiece()
    raise ModelError(
        f"This tokenizer's pieces are spelled in an unknown way ({', '.join(sorted(kinds)) or 'no decoder'}); "
        "byte-level BPE and sentencepiece can be read."
    )


def _kinds(part: Any) -> Iterator[str]:
    """The types of a component and of those inside it."""
    if isinstance(part, dict):
        if isinstance(part.get("type"), str):
            yield part["type"]
        for inner in part.values():
            yield from _kinds(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _kinds(inner)
