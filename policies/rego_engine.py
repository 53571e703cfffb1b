"""The embedded engine: Microsoft's rego-cpp through `regopy`, behind a guard, because by itself it fails open.

It compiles once. What it answers is read by `engine.read_decision`; whatever it cannot be given faithfully (its C
interface cuts texts at NUL and wraps integers at 64 bits), or cannot evaluate, denies.
"""

import ctypes
import json
import math
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

with suppress(OSError):
    # The engine carries a C++ runtime of its own. Beside a library that brings the system's (torch, greenlet) the two
    # free each other's memory and the process ends; with the system's in front of both there is one.
    ctypes.CDLL("libstdc++.so.6", mode=ctypes.RTLD_GLOBAL)

from regopy import Bundle, Input, Interpreter, LogLevel, Output, RegoError

from policies.document import Shape
from policies.engine import CONTRIBUTIONS, Decision, PolicyError, read_decision, refused
from policies.jsonvalue import JSON, JSONObject
from policies.regolint import check_functions, refuse_unseen
from policies.regoplan import Function, read_plan

MAIN = "pratique.main"
ENTRY = "pratique/main/decision"


class RegoEngine:
    """Modules, compiled and checked; safe to ask from any thread."""

    def __init__(self, modules: Mapping[str, str], packages: frozenset[str], shape: Shape) -> None:
        """`modules`: file name to Rego. `packages`: all that they declare. `shape`: what the input will have.

        Raises:
            PolicyError: the modules cannot be used; it names file and line.
        """
        for name, source in modules.items():
            refuse_unseen(name, source)
        functions, _, _ = _compile(modules)
        self._packages = {package: found for package in packages if (found := _contributed(functions, package))}
        functions, self._interpreter, self._bundle = _compile({**modules, MAIN: _main(self._packages)})
        check_functions(functions, shape, entry=f"{MAIN}.decision", is_builtin=self._interpreter.is_builtin)
        self._lock = threading.Lock()  # the interpreter holds one input at a time

    def evaluate(self, document: JSONObject) -> Decision:
        """Decide; never raises."""
        try:
            if wrong := unfaithful(document):
                return refused(wrong)
            with self._lock:
                self._interpreter.set_input(Input(document))
                answer = _answer(self._interpreter.query_bundle_entrypoint(self._bundle, ENTRY))
        except (RegoError, ValueError, RecursionError) as error:  # ValueError: an error printed where JSON should be
            return refused(type(error).__name__)
        return read_decision(answer, self._packages)


def run_tests(modules: Mapping[str, str], tests: Mapping[str, str]) -> Iterator[tuple[str, str, bool]]:
    """Run every `test_*` rule of the test modules: its file, its path, and whether it is true.

    Raises:
        PolicyError: a module cannot be compiled.
    """
    for name, source in tests.items():
        refuse_unseen(name, source, test=True)
    functions, _, _ = _compile({**modules, **tests})
    found = [f for f in functions.values() if f.path.rpartition(".")[2].startswith("test_")]
    if not found:
        return
    entries = [test.path.replace(".", "/") for test in found]
    _, interpreter, bundle = _compile({**modules, **tests}, *entries)
    interpreter.set_input(Input({}))
    for test, entry in zip(found, entries, strict=True):
        try:
            passed = _answer(interpreter.query_bundle_entrypoint(bundle, entry)) is True
        except (RegoError, ValueError):
            passed = False
        yield test.file, test.path, passed


def unfaithful(value: JSON) -> str:
    """Why the engine would not see this value as it is; empty when it would."""
    match value:
        case bool() | None:
            return ""
        case str():
            return "a text holds NUL" if "\0" in value else ""
        case int():
            return "" if -(2**63) <= value < 2**63 else "a number is beyond 64 bits"
        case float():
            return "" if math.isfinite(value) else "a number is not finite"
        case dict():
            return next((wrong for pair in value.items() for one in pair if (wrong := unfaithful(one))), "")
        case list():
            return next((wrong for one in value if (wrong := unfaithful(one))), "")
        case _:
            return "it is not JSON"


def _answer(output: Output) -> object:
    """The one value of a query; None where it has none or erred."""
    if not output.ok() or len(output) != 1 or len(output[0].expressions) != 1:
        return None
    answer: object = output[0].expressions[0]
    return answer


def _contributed(functions: Mapping[str, Function], package: str) -> tuple[str, ...]:
    paths = {function.path for function in functions.values()}
    return tuple(word for word in CONTRIBUTIONS if f"{package}.{word}" in paths)


def _main(packages: Mapping[str, tuple[str, ...]]) -> str:
    """The module that asks every package for what it contributes, and for nothing else."""
    parts = (
        f"{json.dumps(package)}: {{{', '.join(f'{json.dumps(word)}: data.{package}.{word}' for word in words)}}}"
        for package, words in sorted(packages.items())
    )
    return f"package {MAIN}\n\ndecision := {{{', '.join(parts)}}}\n"


def _compile(modules: Mapping[str, str], *entries: str) -> tuple[dict[str, Function], Interpreter, Bundle]:
    interpreter = Interpreter()
    interpreter.log_level = LogLevel.NONE
    interpreter.strict_built_in_errors = True
    names = {f"m{index}": name for index, name in enumerate(modules)}  # the compiler keeps only the last part of a path
    for module, name in names.items():
        _or_place(modules, names, partial(interpreter.add_module, module, modules[name]))
    bundle = _or_place(modules, names, partial(interpreter.build, None, entries or (ENTRY,)))
    with tempfile.TemporaryDirectory(prefix="pratique-policy-") as folder:
        _or_place(modules, names, partial(interpreter.save_bundle, str(Path(folder, "bundle")), bundle))
        if not bundle.ok():
            raise PolicyError("the bundle cannot be compiled")
        plan: dict[str, Any] = json.loads(Path(folder, "bundle", "plan.json").read_bytes())
    return read_plan(plan, names), interpreter, bundle


_ERROR = re.compile(r"\(error \d+:(m\d+)\|(\d+)\|\d+\s*\(errormsg \d+:([^)]*)\)")


def _or_place(modules: Mapping[str, str], names: Mapping[str, str], step: Callable[[], Any]) -> Any:
    """Run a step of the compiler; its error as one of ours, by file and line."""
    try:
        return step()
    except RegoError as error:
        found = _ERROR.search(str(error))
        if found is None:
            raise PolicyError(f"the bundle cannot be compiled: {error}") from error
        file = names[found[1]]
        before = modules[file].encode()[: int(found[2])]
        raise PolicyError(found[3], file, before.count(b"\n") + 1) from error
