"""The compiled kernels: built at first need into a cache folder, found there ever after.

The library's name holds a digest of its sources, flags, torch and processor. It is built in a folder of its own and
renamed into place, so two processes may build at once and neither reads half a library.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

import torch

logger = logging.getLogger(__name__)

SOURCES: Final = ("attention.cpp", "linear.cpp")
HEADERS: Final = ("simd.h",)
FLAGS: Final = ("-O3", "-march=native", "-fopenmp", "-ffp-contract=fast", "-fno-math-errno")

_POINTER: Final = ctypes.c_void_p
_INT: Final = ctypes.c_int64


@dataclass(frozen=True, slots=True)
class Kernels:
    """The library's functions; each runs without the interpreter's lock. The sources describe their arguments."""

    paged_attention: Callable[..., int]
    linear_f32: Callable[..., None]
    linear_i8: Callable[..., None]


def kernels(cache_folder: Path, progress: Callable[[str, float], None]) -> Kernels | str:
    """The functions; the string says why there are none on this machine (said once in the log, tried once)."""
    folder = cache_folder.absolute()
    if folder not in _found:
        _found[folder] = _find(folder, progress)
    return _found[folder]


_found: dict[Path, Kernels | str] = {}


def _find(cache_folder: Path, progress: Callable[[str, float], None]) -> Kernels | str:
    with resources.as_file(resources.files(__package__)) as folder:
        library = cache_folder / f"kernels-{_digest(folder)}.so"
        if not library.exists():
            progress("compiling kernels for this processor", 0.0)
            why = _build(folder, library)
            if why:
                logger.warning("kernels not compiled; torch's own are slower", extra={"reason": why})
                return why
            progress("compiling kernels for this processor", 1.0)
    return _opened(library)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256(repr((FLAGS, torch.__version__, platform.machine(), _processor())).encode())
    for name in (*SOURCES, *HEADERS):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def _processor() -> str:
    """What `-march=native` means here: a cache folder may be carried to another machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())


def _build(folder: Path, library: Path) -> str:
    """Why it failed; empty: `library` is there."""
    from torch.utils import cpp_extension  # noqa: PLC0415  imports setuptools: half a second that most starts are spared

    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="build-", dir=library.parent) as place, _ninja_beside_python():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of compilers it has not heard of
                built = cpp_extension.load(
                    name="kernels",
                    sources=[str(folder / name) for name in SOURCES],
                    extra_cflags=list(FLAGS),
                    extra_ldflags=["-fopenmp"],
                    build_directory=place,
                    with_cuda=False,
                    is_python_module=False,
                )
        except (RuntimeError, OSError) as error:
            return f"the compiler or ninja is missing or failed: {str(error).splitlines()[0]}"
        os.replace(built or Path(place) / "kernels.so", library)
    return ""


@contextmanager
def _ninja_beside_python() -> Iterator[None]:
    """torch looks for ninja on the PATH alone, where an environment that nobody activated is not."""
    beside = Path(sys.executable).parent
    if shutil.which("ninja") is not None or not (beside / "ninja").exists():
        yield
        return
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{before}{os.pathsep}{beside}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


def _opened(library: Path) -> Kernels:
    opened = ctypes.CDLL(str(library))
    attention, f32, i8 = opened.paged_attention, opened.linear_f32, opened.linear_i8
    attention.argtypes, attention.restype = (_POINTER, _POINTER), ctypes.c_int
    f32.argtypes, f32.restype = (_POINTER, _INT, _POINTER, _POINTER, _POINTER, _INT, _INT, _INT, _INT), None
    i8.argtypes = (_POINTER, _INT, *(_POINTER,) * 7, _INT, _INT, _INT, _INT, _INT)
    i8.restype = None
    return Kernels(attention, f32, i8)
