"""How an image is built.

(1) a base      a Debian made here, an image of a registry pinned by digest, or a tar
(2) tidied      what varies is taken away, mount points are made
(3) installed   npm's and PyPI's packages, in a sandbox whose root is the base
(4) compiled    Python's bytecode
(5) tried       a shell in it starts, in a sandbox
(6) kept        under the digest of its content; until then, whatever fails leaves nothing
"""

import asyncio
import errno
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.bubblewrap import Bubblewrap
from sandbox.driver import Driver
from sandbox.errors import SandboxError
from sandbox.images.archive import inside, settle, unpack
from sandbox.images.bytecode import compile_python
from sandbox.images.debian import INSTALLERS, RUNTIME, SUITE, Told, bootstrap
from sandbox.images.install import NPM, PYPI, Workshop, run
from sandbox.images.registry import export, pinned
from sandbox.images.store import NAME, Entry, Store
from sandbox.images.tidy import tidy, tidy_debian

DEBIAN: Final = re.compile(r"[a-z0-9][a-z0-9+.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What to build."""

    name: str
    base: str | None = None
    """A registry's image pinned by digest, or the path of a tar; None: a Debian made here."""
    npm: tuple[str, ...] = ()
    """`package@1.2.3`."""
    pypi: tuple[str, ...] = ()
    """`package==1.2.3`."""
    debian: tuple[str, ...] = ()
    """More packages of Debian, where that is the base."""
    scripts: bool = False
    """Whether packages may run their own scripts while they are installed (npm's, and builds of Python's)."""

    def checked(self) -> "Recipe":
        """Raises SandboxError if this cannot be built, or would be something else tomorrow."""
        for what, pattern, words, mend in (
            ("name", NAME, (self.name,), "A small letter, then at most 62 small letters, digits or -."),
            ("npm", NPM, self.npm, "Name one version exactly: package@1.2.3."),
            ("pypi", PYPI, self.pypi, "Name one version exactly: package==1.2.3."),
            ("debian", DEBIAN, self.debian, "Name packages of Debian, without versions."),
        ):
            for word in words:
                if not pattern.fullmatch(word):
                    raise SandboxError("image", f"{word!r} will not do as {what}", mend)
        if self.debian and self.base:
            raise SandboxError("image", "Debian's packages are for Debian's base", "Leave out --base or --debian.")
        if self.base and not _is_file(self.base):
            pinned(self.base)
        return self


async def build(store: Store, recipe: Recipe, told: Told) -> Entry:
    """Build and keep an image; the same recipe and sources give the same digest.

    Raises:
        SandboxError: it could not be built: the step, and what mends it. Nothing is left.
    """
    recipe.checked()
    driver = Bubblewrap.find()
    with _disk(store.folder), store.draft() as draft:
        root = draft / "root"
        await _base(recipe, (*RUNTIME, *recipe.debian), root, told)
        builder = root
        if recipe.base is None and (recipe.npm or recipe.pypi):
            builder = draft / "builder"
            tools = (*INSTALLERS, *(recipe.debian if recipe.scripts else ()))  # scripts may compile
            await _base(recipe, (*RUNTIME, *tools), builder, told)
        _vacant(root, recipe)
        shop = Workshop(driver=driver, root=builder, work=draft / "work", scripts=recipe.scripts)
        installed = {"npm": await _npm(shop, recipe, told), "pypi": await _pypi(shop, recipe, told)}  # (3)
        for folder in ("npm", "python"):
            if (shop.work / folder).is_dir():
                (shop.work / folder).rename(inside(root, "opt", make=True) / folder)
        await _finish(driver, root, shop.work, told)
        told("writing the archive")
        base = recipe.base or _debian(recipe.debian)
        return await asyncio.to_thread(store.add, recipe.name, root, base=base, **installed)  # (6)


async def _base(recipe: Recipe, packages: Sequence[str], root: Path, told: Told) -> None:
    """(1) and (2): a settled root."""
    archive = root.with_suffix(".tar")
    if recipe.base is None:
        await bootstrap(archive, packages, told)
    elif _is_file(recipe.base):
        archive = Path(recipe.base)
    else:
        await asyncio.to_thread(export, recipe.base, archive, told)
    told("unpacking the base")
    await asyncio.to_thread(unpack, archive, root)
    if archive.parent == root.parent:
        archive.unlink()
    if recipe.base is None:
        tidy_debian(root)
    tidy(root)
    settle(root)


def _vacant(root: Path, recipe: Recipe) -> None:
    for wanted, folder in ((recipe.npm, "npm"), (recipe.pypi, "python")):
        if wanted and os.path.lexists(inside(root, "opt") / folder):
            mend = "Name all packages in one build, from a base without them."
            raise SandboxError("base", f"it has /opt/{folder} already", mend)


async def _npm(shop: Workshop, recipe: Recipe, told: Told) -> list[str]:
    if not recipe.npm:
        return []
    told(f"npm install {' '.join(recipe.npm)}")
    return await shop.install_npm(recipe.npm)


async def _pypi(shop: Workshop, recipe: Recipe, told: Told) -> list[str]:
    if not recipe.pypi:
        return []
    told(f"pip install {' '.join(recipe.pypi)}")
    return await shop.install_pypi(recipe.pypi)


async def _finish(driver: Driver, root: Path, work: Path, told: Told) -> None:
    """(4) and (5)."""
    tidy(root)
    settle(root)
    told("compiling Python")
    await compile_python(driver, root, work)
    settle(root)
    told("trying it")
    await run("image", driver, root, ("/bin/sh", "-c", "exit 0"))


def _is_file(base: str) -> bool:
    return Path(base).is_file()


def _debian(packages: Sequence[str]) -> str:
    return f"debian {SUITE}" + (f" with {', '.join(sorted(packages))}" if packages else "")


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """A full disk, or a folder that cannot be written, as an error of ours."""
    try:
        yield
    except OSError as failed:
        full = failed.errno in (errno.ENOSPC, errno.EDQUOT)
        mend = "Make room there, or name another --state." if full else "See that the gateway's user may write there."
        raise SandboxError("image", f"{folder}: {failed.strerror or failed}", mend) from failed
