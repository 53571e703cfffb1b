"""Engines that our environment has no room for: each has one of its own, and answers in a process of its own.

`.cache/bench-llm/NAME` is the environment, made once; `NAME.log` beside it is what its process said last. The module
that describes such an engine is also the program of its process, so it imports neither torch nor the engine at its top.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from bench.llm.case import Answers

ROOT: Final = Path(__file__).parents[2]
CACHE: Final = ROOT / ".cache" / "bench-llm"

Prepare = Callable[[str], Callable[[], Answers]]
"""Of a sharing: makes the engine fresh, for `warm` lets it answer others; what it returns is measured."""


class Absent(Exception):
    """It does not run here; the sentence says why."""


def environment(name: str, install: Callable[[Path], None]) -> Path:
    """Its interpreter. `install` is given that, and calls `pip`.

    Raises:
        Absent: it could not be installed; the next run tries again.
    """
    folder = CACHE / name
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.exists():
        print(f"{name}: making {folder}, once", file=sys.stderr, flush=True)
        CACHE.mkdir(parents=True, exist_ok=True)
        _run(name, [sys.executable, "-m", "venv", "--clear", str(folder)])
        install(python)
        complete.touch()
    return python


def pip(python: Path, *arguments: str) -> None:
    """`pip install`, its progress on our standard error.

    Raises:
        Absent: it failed.
    """
    _run(python.parents[1].name, [str(python), "-m", "pip", "install", *arguments])


class Process:
    """An engine that is loaded, and prepared and run in turns."""

    def __init__(self, name: str, python: Path, module: str, *arguments: str, variables: Mapping[str, str]) -> None:
        """
        Raises:
            Absent: it ended before it was ready.
        """
        self._name = name
        self._log = CACHE / f"{name}.log"
        print(f"{name}: loading", file=sys.stderr, flush=True)
        with self._log.open("w") as log:
            self._child = subprocess.Popen(
                [python, "-m", module, *arguments],
                cwd=ROOT,
                env=os.environ | variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._heard()

    def setup(self, sharing: str) -> Callable[[], Answers]:
        self._ask(sharing)
        return lambda: self._ask("")

    def cpu_s(self) -> float:
        """User and system, of all its threads so far, and of children that have ended."""
        fields = Path(f"/proc/{self._child.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        with self._child:
            self._child.kill()

    def _ask(self, line: str) -> Answers:
        assert self._child.stdin is not None
        print(line, file=self._child.stdin, flush=True)
        return self._heard()

    def _heard(self) -> Answers:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            self.close()
            raise Absent(f"{self._name} ended: {_last_line(self._log.read_text())}")
        answers: Answers = json.loads(line)
        return answers


def serve(load: Callable[[], Prepare]) -> None:
    """The process's side: a line is a sharing to prepare, an empty one runs what was prepared."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # engines print what they like
    prepare = load()
    print("[]", file=replies)
    for line in sys.stdin:
        if sharing := line.strip():
            run = prepare(sharing)
            print("[]", file=replies)
        else:
            print(json.dumps(run()), file=replies)


def _run(name: str, command: list[str]) -> None:
    ran = subprocess.run(command, check=False, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    if ran.returncode:
        raise Absent(f"{name} does not install here: {_last_line(ran.stderr)}")


def _last_line(said: str) -> str:
    """Of an error, where there is one."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.casefold()]
    return (errors or lines or ["it said nothing"])[-1]
