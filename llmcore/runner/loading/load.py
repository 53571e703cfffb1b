"""From a model's name to a decoder with its weights."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from llmcore.runner.loading.checkpoint import Checkpoint
from llmcore.runner.loading.gguf import converted
from llmcore.runner.loading.locate import locate
from llmcore.runner.loading.weights import fill
from llmcore.runner.models import Decoder

READING: Final = "reading weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    model: Decoder
    folder: Path
    """With the tokenizer's files; where a GGUF file was converted, of the conversion."""
    digest: str


def load(
    source: str | Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    cache_folder: Path,
    progress: Callable[[str, float], None],
) -> Loaded:
    """
    Raises:
        ModelError: it cannot be found, read, or run by our decoder.
    """
    found = locate(source)
    folder = converted(found, cache_folder, progress) if found.is_file() else found
    checkpoint = Checkpoint(folder)
    model = Decoder(checkpoint.config(name=found.stem if found.is_file() else found.resolve().name))
    fill(model, checkpoint.tensor, dtype=dtype, device=device, progress=lambda done: progress(READING, done))
    digest = checkpoint.digest()
    progress(READING, 1.0)
    return Loaded(model=model, folder=folder, digest=digest)
