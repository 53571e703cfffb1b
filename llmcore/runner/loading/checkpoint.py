"""A Hugging Face folder: its configuration, and its tensors one by one, without ever having all twice in memory."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from torch import Tensor

from llmcore.errors import ModelError
from llmcore.runner.loading.quiet import quiet_transformers
from llmcore.runner.models import ModelConfig
from llmcore.runner.models.families import check_architecture, model_config

INDEX: Final = "model.safetensors.index.json"
SINGLE: Final = "model.safetensors"


class Checkpoint:
    """A folder with `config.json` and safetensors files, one or several."""

    def __init__(self, folder: Path) -> None:
        """
        Raises:
            ModelError: something is missing or cannot be read.
        """
        self.folder = folder
        self._file_of = _files(folder)
        self._open: dict[Path, Any] = {}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._file_of)

    def config(self, name: str) -> ModelConfig:
        """
        Raises:
            ModelError: it is not one of ours, or not a configuration.
        """
        raw = _json(self.folder / "config.json")
        architecture = check_architecture(raw, str(self.folder))
        with quiet_transformers() as transformers:
            try:
                # defaults that the file leaves out, and old spellings of what it says
                found = transformers.AutoConfig.from_pretrained(
                    self.folder, local_files_only=True, trust_remote_code=False
                ).to_dict()
            except Exception as error:  # whatever a foreign parser makes of a strange file
                raise ModelError(f"{self.folder / 'config.json'} cannot be understood: {_first_line(error)}") from error
        found["eos_token_id"] = self._eos(found.get("eos_token_id"))
        try:
            return model_config(found, architecture=architecture, name=name)
        except KeyError as error:
            raise ModelError(f"{self.folder / 'config.json'} does not say {error.args[0]}") from error

    def tensor(self, name: str) -> Tensor:
        """
        Raises:
            ModelError: it is missing, or its file is not whole.
        """
        if name not in self._file_of:
            raise ModelError(f"{self.folder} has no tensor {name}: it is not whole, or of another architecture")
        path = self._file_of[name]
        try:
            if path not in self._open:
                self._open[path] = safe_open(path, framework="pt")
            found: Tensor = self._open[path].get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} cannot be read ({_first_line(error)}): fetch it again") from error
        return found

    def digest(self) -> str:
        """SHA-256 over configuration and weights."""
        total = hashlib.sha256((self.folder / "config.json").read_bytes())
        for path in sorted(set(self._file_of.values())):
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        return total.hexdigest()

    def _eos(self, configured: int | list[int] | None) -> list[int]:
        """Chat models end a turn with a token that only `generation_config.json` names."""
        path = self.folder / "generation_config.json"
        named = _json(path).get("eos_token_id") if path.is_file() else None
        return sorted({token for found in (configured, named) if found is not None for token in _listed(found)})


def _files(folder: Path) -> Mapping[str, Path]:
    """Which file each tensor lies in."""
    if (folder / INDEX).is_file():
        weights = _json(folder / INDEX).get("weight_map", {})
        missing = sorted({file for file in weights.values() if not (folder / file).is_file()})
        if missing:
            raise ModelError(f"{folder} is not whole: {', '.join(missing)} is missing")
        return {name: folder / file for name, file in weights.items()}
    path = folder / SINGLE
    if not path.is_file():
        raise ModelError(f"{folder} has no {SINGLE}: weights are read from safetensors files, or from a GGUF file")
    try:
        with safe_open(path, framework="pt") as file:
            return dict.fromkeys(file.keys(), path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} cannot be read ({_first_line(error)}): fetch it again") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read: {_first_line(error)}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no JSON object")
    return found


def _listed(found: int | list[int]) -> list[int]:
    return found if isinstance(found, list) else [found]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
