"""GGUF files: converted once, by transformers, into a folder of the kind everything else reads."""

import hashlib
import importlib
from collections.abc import Callable, Collection, Iterator, Sequence
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

STRETCH: Final = "rope_freqs.weight"
"""How Llama 3.1 and later write the frequencies of their longer window into a GGUF file."""

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
        with _parsing(file):
            config = transformers.AutoConfig.from_pretrained(file.parent, **source)
        names = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
        config.architectures = [names.get(config.model_type, config.model_type)]
        check_architecture(config.to_dict(), str(file))
        in_file: set[str] = set()
        with _parsing(file), _watched(in_file, lambda done: progress(0.9 * done)):
            model, found = transformers.AutoModelForCausalLM.from_pretrained(
                file.parent, config=config, dtype=torch.float32, output_loading_info=True, **source
            )
        _check_whole(file, found["missing_keys"], in_file)
        with _parsing(file):
            tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **source)
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_file(_tensors(model), folder / SINGLE, metadata={"format": "pt"})
    progress(1.0)


def _check_whole(file: Path, missing: Collection[str], in_file: Collection[str]) -> None:
    if missing:  # transformers would have drawn them at random
        raise ModelError(f"{file} is not whole: it has no tensor for {', '.join(sorted(missing)[:3])}")
    if STRETCH in in_file:  # transformers would have left it out, and long texts would come out wrong
        raise ModelError(f"{file} stretches its positions by {STRETCH}: take the checkpoint's safetensors folder")


def _tensors(model: Any) -> dict[str, torch.Tensor]:
    """As they are saved: a tied output matrix once."""
    dtype = torch.bfloat16 if model.num_parameters() > LARGE else torch.float32
    return {
        name: tensor.to(dtype).contiguous()
        for name, tensor in model.state_dict().items()
        if not (model.config.tie_word_embeddings and name == "lm_head.weight")
    }


@contextmanager
def _parsing(file: Path) -> Iterator[None]:
    """Whatever a foreign parser makes of a strange file becomes one of ours; a Rust panic too, no Exception."""
    try:
        yield
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ModelError(
            f"{file} cannot be converted ({reason}): it is corrupt, or of an architecture that is not supported "
            f"({', '.join(SUPPORTED)} are)"
        ) from error


@contextmanager
def _watched(names: set[str], progress: Callable[[float], None]) -> Iterator[None]:
    """transformers draws a bar of its own here, whatever it was told: its loop tells us instead, and which
    tensors there are."""
    module: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")

    def told(tensors: Sequence[Any], **_: object) -> Iterator[Any]:
        for done, tensor in enumerate(tensors):
            progress(done / len(tensors))
            names.add(tensor.name)
            yield tensor

    bar, module.tqdm = module.tqdm, told
    try:
        yield
    finally:
        module.tqdm = bar
