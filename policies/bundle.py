"""Bundles: the kernel's Rego and the operator's, read, checked, and in force together.

A file says `package operator` or `package operator.NAME`; `*_test.rego` are its tests. The comment `# pratique: values`
in a file asks for argument values in the input, at the price of a longer cache key.
"""

import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from policies.document import shape
from policies.engine import Decision, Engine, PolicyError
from policies.jsonvalue import JSONObject, digest
from policies.rego_engine import RegoEngine

KERNEL = "pratique.kernel"
KERNEL_RULES = frozenset({"spend", "destructive", "untrusted-command"})
"""What `unsafe_without` may name."""

REMEMBERED = 4_096
"""How many decisions a bundle keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Rego by file name: what decides, and what tests it."""

    modules: Mapping[str, str]
    tests: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A policy in force."""

    revision: str
    """Digest of everything that it decides by."""
    engine: Engine
    values: bool = False
    """Whether it is given argument values."""
    without: frozenset[str] = frozenset()
    sources: Sources = field(repr=False)
    _decided: OrderedDict[str, Decision] = field(default_factory=OrderedDict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)  # protects _decided

    @property
    def demands_sandboxes(self) -> bool:
        """Whether the operator's rules name a guarantee (`sandbox:...`): then every sandbox is worth trying."""
        return any("sandbox:" in text for name, text in self.sources.modules.items() if not name.startswith("kernel/"))

    def evaluate(self, document: JSONObject) -> Decision:
        """Decide, or remember what was decided for exactly this document. Never raises."""
        try:
            key = digest(document)
        except (TypeError, ValueError, RecursionError):
            return self.engine.evaluate(document)
        with self._lock:
            if (known := self._decided.get(key)) is not None:
                self._decided.move_to_end(key)
                return known
        decision = self.engine.evaluate(document)
        with self._lock:
            self._decided[key] = decision
            if len(self._decided) > REMEMBERED:
                self._decided.popitem(last=False)
        return decision


class InForce:
    """The bundle that decides now; a bad one never takes its place."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    @property
    def bundle(self) -> Bundle:
        return self._bundle

    def reload(self, paths: Iterable[Path]) -> PolicyError | None:
        """Read the bundles again and put them in force at once, or say why the last good one stays."""
        try:
            self._bundle = load(paths, without=self._bundle.without)
        except PolicyError as error:
            return error
        return None


def load(paths: Iterable[Path] = (), *, without: frozenset[str] = frozenset()) -> Bundle:
    """The kernel and the operator's bundles, checked as `regolint.py` says.

    Raises:
        PolicyError: they cannot be used; it names file and line.
    """
    if unknown := without - KERNEL_RULES:
        known = ", ".join(sorted(KERNEL_RULES))
        raise PolicyError(f"unsafe_without: no kernel rule is called {', '.join(sorted(unknown))} (there are {known})")
    sources = read_sources(paths)
    packages = frozenset(_package(name, text) for name, text in sources.modules.items())
    values = any(_VALUES.search(text) for text in sources.modules.values())
    engine = RegoEngine(sources.modules, packages, shape(values=values))
    revision = digest([dict(sources.modules), sorted(without), values])
    return Bundle(revision=revision, engine=engine, values=values, without=without, sources=sources)


def read_sources(paths: Iterable[Path] = ()) -> Sources:
    """The kernel's files and every `*.rego` under the given files and folders.

    Raises:
        PolicyError: a file cannot be read, or a folder holds none.
    """
    found: dict[str, str] = {}
    for resource in sorted(files("policies").joinpath("rego").iterdir(), key=lambda entry: entry.name):
        found[f"kernel/{resource.name}"] = resource.read_text("utf-8")
    for path in paths:
        inside = sorted(path.rglob("*.rego")) if path.is_dir() else [path]
        if not inside:
            raise PolicyError("no *.rego file in this folder", str(path))
        for file in inside:
            found[str(file)] = _read(file)
    tests = {name: text for name, text in found.items() if name.endswith("_test.rego")}
    return Sources(modules={name: text for name, text in found.items() if name not in tests}, tests=tests)


_VALUES = re.compile(r"^[ \t]*#[ \t]*pratique:[ \t]*values[ \t]*$", re.MULTILINE)
_PACKAGE = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\n)*[ \t]*package[ \t]+([A-Za-z_][\w.]*)[ \t]*(?:#[^\n]*)?(?:\n|$)")


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise PolicyError(f"cannot be read: {why}", str(file)) from error


def _package(name: str, text: str) -> str:
    found = _PACKAGE.match(text)
    package = found[1] if found else ""
    allowed = package == KERNEL if name.startswith("kernel/") else f"{package}.".startswith("operator.")
    if not allowed:
        raise PolicyError("begin the file with `package operator` or `package operator.NAME`", name, 1)
    return package
