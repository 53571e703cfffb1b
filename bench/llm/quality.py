"""What int8 costs: perplexity of a text, fp32 against int8."""

import math
from pathlib import Path
from typing import Final

import torch

from bench.llm.workload import request
from llmcore.plan import Chunk
from llmcore.runner.model_runner import ModelRunner
from llmcore.sequence import Sequence

ROOT: Final = Path(__file__).parents[2]
TEXTS: Final = ("docs/tour.md", "docs/threat-model.md")
WINDOW: Final = 512
"""Tokens that a model sees at once; windows do not overlap."""


def tokens(folder: Path, limit: int = 16 * WINDOW) -> list[int]:
    """Our own documents, in the model's tokens."""
    from tokenizers import Tokenizer  # noqa: PLC0415

    text = "\n\n".join((ROOT / name).read_text(encoding="utf-8") for name in TEXTS)
    ids: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    return ids[:limit]


def perplexity(runner: ModelRunner, ids: list[int]) -> float:
    """e to the mean surprise of each token but the first of its window."""
    surprise, count = 0.0, 0
    for start in range(0, len(ids) - 1, WINDOW):
        window = ids[start : start + WINDOW]
        blocks = list(range(-(-len(window) // runner.block_size)))
        sequence = Sequence(id=0, request=request("p", window, 1), index=0, tokens=window, blocks=blocks)
        logits = runner.logits(Chunk(sequence, 0, len(window)))
        chosen = torch.log_softmax(logits[:-1].double(), -1).gather(1, torch.tensor(window[1:]).unsqueeze(1))
        surprise -= float(chosen.sum())
        count += len(window) - 1
    return math.exp(surprise / count)
