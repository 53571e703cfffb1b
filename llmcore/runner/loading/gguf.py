"""GGUF files: converted once, by transformers, into a folder of the kind everything else reads."""

import fcntl
import hashlib
import importlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

from llmcore.errors import ModelError
from llmcore.runner.loading.checkpoint import SINGLE
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
    if folder.is_dir():
        return folder
    cache_folder.mkdir(parents=True, exist_ok=True)
    with _alone(cache_folder / f"{folder.name}.lock"):
        if not folder.is_dir():
            _convert(file, folder, progress)
    return folder


def _convert(file: Path, folder: Path, progress: Callable[[str, float], None]) -> None:
    for left in folder.parent.glob(f"{folder.name}.part-*"):  # of who died at it: we hold the lock
        shutil.rmtree(left)
    part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
    try:
        _write(file, part, lambda done: progress(f"converting {file.name}", done))
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    progress(f"converting {file.name}", 1.0)


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
                model = transformers.AutoModelForCausalLM.from_pretrained(
                    file.parent, config=config, dtype=torch.float32, **source
                )
            tokenizer = transformers.AutoTokenizer.from_pretrained(file.parent, **source)
        except Exception as error:
            raise _unreadable(file, error) from error
        tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
        if config.tie_word_embeddings:
            tensors.pop("lm_head.weight", None)
        if model.num_parameters() > LARGE:
            tensors = {name: tensor.bfloat16() for name, tensor in tensors.items()}
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_file(tensors, folder / SINGLE, metadata={"format": "pt"})


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


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time; the system lets go of the lock of one that dies."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _unreadable(file: Path, error: Exception) -> ModelError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return ModelError(
        f"{file} cannot be converted ({reason}): it is corrupt, or of an architecture that is not supported "
        f"({', '.join(SUPPORTED)} are)"
    )
