"""GGUF files: converted once, by transformers, into a folder of the kind everything else reads."""

import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

from llmcore.errors import ModelError
from llmcore.runner.loading.checkpoint import SINGLE
from llmcore.runner.loading.once import once
from llmcore.runner.loading.quiet import quiet_transformers
from llmcore.runner.models.families import SUPPORTED, check_architecture

LARGE: Final = 2_000_000_000
"""Parameters from which the conversion is kept in half precision: such a model does not run in fp32 anyway."""

FORMAT: Final = 1
"""Raised when the conversion writes something else."""


def converted(file: Path, cache_folder: Path, progress: Callable[[str, float], None]) -> Path:
    """The folder of this very file, named by its digest; made now if it is not there yet. Whoever comes second waits.

    Raises:
        ModelError: the file is corrupt, or of an architecture that is not supported.
    """
    with file.open("rb") as opened:
        if opened.read(4) != b"GGUF":
            raise ModelError(f"{file} is no GGUF file: it does not begin like one")
        opened.seek(0)
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    folder = cache_folder / f"{file.stem}-{digest[:16]}-{FORMAT}"
    return once(folder, lambda part: _write(file, part, lambda done: progress(f"converting {file.name}", done)))


def _write(file: Path, folder: Path, progress: Callable[[float], None]) -> None:
    progress(0.0)
    source: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
    with quiet_transformers() as transformers:
        try:
            config = transformers.AutoConfig.from_pretrained(file.parent, **source)
        except Exception as error:  # whatever a foreign parser makes of a strange file
            raise _unreadable(file, error) from error
        names = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        config.architectures = [names.get(config.model_type, config.model_type)]
        check_architecture(config.to_dict(), str(file))
        try:
            with _watched(lambda done: progress(0.9 * done)):
                model, found = transformers.AutoModelForCausalLM.from_pretrained(
                    file.parent, config=config, dtype=torch.float32, output_loading_info=True, **source
                )
            tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **source)
        except Exception as error:
            raise _unreadable(file, error) from error
        if found["missing_keys"]:  # transformers would have drawn them at random
            raise ModelError(
                f"{file} is not whole: it has no tensor for {', '.join(sorted(found['missing_keys'])[:3])}"
            )
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        if config.tie_word_embeddings:
            tensors.pop("lm_head.weight", None)
        if model.num_parameters() > LARGE:
            tensors = {name: tensor.bfloat16() for name, tensor in tensors.items()}
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
    progress(1.0)


@contextmanager
def _watched(progress: Callable[[float], None]) -> Iterator[None]:
    """transformers draws a bar of its own here, whatever it was told: its loop tells us instead."""
    module: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")

    def told(tensors: Sequence[Any], **_: object) -> Iterator[Any]:
        for done, tensor in enumerate(tensors):
            progress(done / len(tensors))
            yield tensor

    bar, module.tqdm = module.tqdm, told
    try:
        yield
    finally:
        module.tqdm = bar


def _unreadable(file: Path, error: Exception) -> ModelError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return ModelError(
        f"{file} cannot be converted ({reason}): it is corrupt, or of an architecture that is not supported "
        f"({', '.join(SUPPORTED)} are)"
    )
