"""Tokenizers for tests: of both families, small enough to be made in a moment, as folders of a model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmcore.text import Tokenizer

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] | trim"
    " + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKERS = ("<|im_start|>", "<|im_end|>", "<think>")
"""The last is no special token of the library's, and structure all the same."""


def byte_level(folder: Path, *, template: str | None = CHATML, merges: Sequence[str] = ()) -> Tokenizer:
    """Every byte a token (ids 0 to 255), then `merges` such as `h i`, then the markers."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letter = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    pieces = [letter[byte] for byte in range(256)] + [merge.replace(" ", "") for merge in merges]
    return write(
        folder,
        {
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "vocab": {piece: id for id, piece in enumerate(pieces)}, "merges": list(merges)},
        },
        first_marker=len(pieces),
        template=template,
    )


def sentencepiece(folder: Path) -> Tokenizer:
    """As Llama 2's: `▁` before the first word alone, bytes for what has no piece."""
    words = ["▁", *"abcdefghijklmnopqrstuvwxyz.:", "he", "▁he"]
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    return write(
        folder,
        {
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
            "decoder": {
                "type": "Sequence",
                "decoders": [
                    {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                    {"type": "ByteFallback"},
                    {"type": "Fuse"},
                ],
            },
            "model": {
                "type": "BPE",
                "vocab": {piece: id for id, piece in enumerate(pieces)},
                "merges": ["h e", "▁ he"],
                "unk_token": "<unk>",
                "byte_fallback": True,
            },
        },
        first_marker=len(pieces),
    )


def unigram(folder: Path) -> Tokenizer:
    """Its own pieces spell a marker, at a better score than letters."""
    letters = sorted(set("▁abcdefghijklmnopqrstuvwxyz<|_>"))
    pieces = [["<|im_end|>", 0.0], *([letter, -9.0] for letter in letters)]
    return write(
        folder,
        {
            "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False},
            "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False},
            "model": {"type": "Unigram", "unk_id": 1, "vocab": pieces, "byte_fallback": False},
        },
        first_marker=None,
    )


def write(folder: Path, parts: dict[str, Any], *, first_marker: int | None, template: str | None = CHATML) -> Tokenizer:
    """A folder with what a tokenizer needs of a model. `first_marker`: None where `<|im_end|>` is id 0, and the one."""
    texts = MARKERS if first_marker is not None else ("<|im_end|>",)
    markers = [
        {
            "id": (first_marker or 0) + i,
            "content": text,
            "special": text != "<think>",
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for i, text in enumerate(texts)
    ]
    whole = {"version": "1.0", "normalizer": None, "post_processor": None, "added_tokens": markers, **parts}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(whole), encoding="utf-8")
    config = {"eos_token": "<|im_end|>", **({} if template is None else {"chat_template": template})}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": 512}), encoding="utf-8")
    return Tokenizer.open(folder)
