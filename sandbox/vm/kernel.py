"""The guest's kernel: where it is, and the few of its modules that a guest needs, in the order to load them."""

import gzip
import lzma
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.errors import SandboxError

PLACE: Final = "PRATIQUE_VM_KERNEL"
"""The environment variable that names a folder with `boot/` and `lib/modules/`, as a kernel package unpacks to."""

NEEDED: Final = ("virtio_pci", "virtio_console", "virtio_rng", "9pnet_virtio", "9p")
"""Devices on the bus, streams, randomness, files."""

INSTALL: Final = (
    "Install one (Debian: apt install linux-image-amd64), or unpack its package into a folder and name that in "
    f"{PLACE}."
)

_UNPACK: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    ".ko": bytes,
    ".ko.gz": gzip.decompress,
    ".ko.xz": lzma.decompress,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel."""

    image: Path
    modules: Path
    """Its folder beneath lib/modules."""

    def load_order(self) -> Iterator[tuple[str, bytes]]:
        """The modules that a guest needs, each after those that it depends on. Ones built in are left out.

        Raises:
            SandboxError: the kernel lacks one, or it is packed in a way that is not read here.
        """
        there = {_name(path): path for path in sorted(self.modules.rglob("*.ko*"))}
        built_in = self._built_in()
        done: set[str] = set()
        for name in NEEDED:
            yield from self._with_what_it_needs(name, there, built_in, done)

    def _with_what_it_needs(
        self, name: str, there: dict[str, Path], built_in: frozenset[str], done: set[str]
    ) -> Iterator[tuple[str, bytes]]:
        if name in done or name in built_in:
            return
        done.add(name)
        if name not in there:
            raise SandboxError("vm", f"the kernel {self.modules.name} has no module {name}", INSTALL)
        content = self._unpacked(there[name])
        for needed in _depends(content):
            yield from self._with_what_it_needs(needed, there, built_in, done)
        yield name, content

    def _built_in(self) -> frozenset[str]:
        listed = self.modules / "modules.builtin"
        lines = listed.read_text().splitlines() if listed.is_file() else []
        return frozenset(_name(Path(line)) for line in lines)

    def _unpacked(self, path: Path) -> bytes:
        suffix = path.name[path.name.index(".ko") :]
        if suffix not in _UNPACK:
            raise SandboxError("vm", f"{path} is packed as {suffix}, which is not read here", INSTALL)
        return _UNPACK[suffix](path.read_bytes())


def find_kernel(place: Path | None = None) -> Kernel:
    """The newest kernel with modules, in the folder that `PRATIQUE_VM_KERNEL` names, else the host's own.

    Raises:
        SandboxError: there is none.
    """
    place = place or Path(os.environ.get(PLACE) or "/")
    images = sorted(place.glob("boot/vmlinuz-*"), key=lambda path: _version(path.name), reverse=True)
    for image in images:
        modules = place / "lib/modules" / image.name.removeprefix("vmlinuz-")
        if modules.is_dir() and os.access(image, os.R_OK):
            return Kernel(image=image, modules=modules)
    raise SandboxError(
        "vm", f"no readable kernel with its modules in {place / 'boot'} and {place / 'lib/modules'}", INSTALL
    )


def _name(path: Path) -> str:
    return path.name.partition(".ko")[0].replace("-", "_")


def _version(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)))


def _depends(module: bytes) -> list[str]:
    """What its own description names (the .modinfo section holds `key=value` strings, each ended by a NUL)."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name.replace("-", "_") for name in found[1].decode().split(",") if name] if found else []
