"""What a program needs to run at all: its interpreter, that one's library, and the packages beside it.

So that a person writes `command = ["python3", "-m", "bank"]` and no mounts. Only runtimes are found here, read-only:
a script's own folder may be anything, a home even, and is mounted by whoever says so.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sandbox.errors import SandboxError
from sandbox.mounts import SYSTEM
from sandbox.spec import Mount, Spec

_HOPS = 16
"""Links and `#!` lines followed before it is called a loop."""


def resolve(spec: Spec) -> Spec:
    """The spec with its program's whole path, looked up in the host's PATH.

    Raises:
        SandboxError: there is no such program, or it only stands for another.
    """
    program = spec.argv[0] if spec.argv else ""
    found = shutil.which(program)
    if found is None:
        raise SandboxError("program", f"{program!r} was not found", "Install it, or write its whole path.")
    if Path(found).parent.name == "shims":
        mend = "Write the whole path of what it stands for (pyenv which, asdf which, mise which)."
        raise SandboxError("program", f"{found} is a shim, which needs the tool that made it", mend)
    return replace(spec, argv=(os.path.abspath(found), *spec.argv[1:]))


def runtime_mounts(argv: tuple[str, ...]) -> tuple[Mount, ...]:
    """Read-only mounts of everything that `argv` needs besides its own data.

    Knows Python (environments, and the interpreter they stand on), Node (its folder, `node_modules`), scripts that
    start with `#!`, and `python -m` of a package installed in place in this very environment.

    Raises:
        SandboxError: there is no such program.
    """
    argv = resolve(Spec(argv=argv)).argv
    places: dict[str, str] = {}
    for path in (*_chain(Path(argv[0])), *_arguments(argv)):
        for place in _places(path):
            if not _is_system(place):
                places[str(place)] = os.path.realpath(place)
    if _is_this_python(argv[0]) and "-m" in argv[:-1]:
        places |= {folder: folder for folder in _in_place(argv[argv.index("-m") + 1])}
    outer = [Path(place) for place in places]
    return tuple(
        Mount(source=source, target=target)
        for target, source in sorted(places.items())
        if not any(parent in outer for parent in Path(target).parents)
    )


def _chain(path: Path) -> Iterator[Path]:
    """The program, each link on the way to it, and the interpreter that its first line names."""
    for _ in range(_HOPS):
        yield path
        if path.is_symlink():
            path = Path(os.path.normpath(path.parent / path.readlink()))
        elif (interpreter := _interpreter(path)) is not None:
            path = interpreter
        else:
            return
    raise SandboxError("program", f"{path} leads round in a circle", "Name the program that it means.")


def _interpreter(path: Path) -> Path | None:
    with path.open("rb") as file:
        if file.read(2) != b"#!":
            return None
        words = os.fsdecode(file.readline(256)).split()
    if words and Path(words[0]).name == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        words[:1] = filter(None, [shutil.which(words[0])]) if words else []
    return Path(words[0]) if words else None


def _arguments(argv: tuple[str, ...]) -> Iterator[Path]:
    """Files of a `node_modules` that the command line names."""
    for argument in argv[1:]:
        path = Path(argument)
        if path.is_absolute() and "node_modules" in path.parts and path.exists():
            yield path


def _places(path: Path) -> Iterator[Path]:
    """What has to be mounted so that this one file is of use."""
    if "node_modules" in path.parts:
        yield Path(*path.parts[: path.parts.index("node_modules") + 1])
        return
    prefix = path.parent.parent
    if path.parent.name != "bin" or not _is_runtime(prefix):
        yield path
        return
    yield prefix
    yield from _bases(prefix)


def _is_runtime(prefix: Path) -> bool:
    """Whether a folder is a runtime's and nothing else's: not a home, nor the ~/.local that holds so much more."""
    if prefix in (Path.home(), Path.home() / ".local") or prefix == Path("/"):
        return False
    marks = ("pyvenv.cfg", "lib/node_modules", "include/node", "lib/python3*/os.py")
    return any(next(prefix.glob(mark), None) is not None for mark in marks)


def _bases(environment: Path) -> Iterator[Path]:
    """The installation that a virtual environment stands on."""
    configuration = environment / "pyvenv.cfg"
    if configuration.is_file():
        for line in configuration.read_text().splitlines():
            key, _, value = line.partition("=")
            if key.strip() == "home":
                yield Path(value.strip()).parent
                yield Path(os.path.realpath(value.strip())).parent


def _is_system(path: Path) -> bool:
    return any(path == Path(system) or Path(system) in path.parents for system in SYSTEM)


def _is_this_python(program: str) -> bool:
    return os.path.dirname(program) == os.path.dirname(sys.executable) and "python" in os.path.basename(program)


def _in_place(module: str) -> Iterator[str]:
    """Where the module's package lies, if that is outside of every environment (an editable installation)."""
    found = importlib.util.find_spec(module.partition(".")[0])
    for folder in (found.submodule_search_locations or ()) if found else ():
        if not Path(folder).is_relative_to(sys.prefix) and not Path(folder).is_relative_to(sys.base_prefix):
            yield os.path.abspath(folder)
