"""Packages into an image, while it is built: npm's into /opt/npm, PyPI's into a virtual environment at /opt/python.

Installing is running what strangers wrote, so it runs in a sandbox: the network is the host's, and what can be written
is two folders and a home that is thrown away. Packages' own scripts do not run unless they are asked for.
"""

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sandbox.bubblewrap import hand_over
from sandbox.driver import Driver
from sandbox.errors import SandboxError
from sandbox.images.archive import inside
from sandbox.images.runners import add_npx, add_uvx
from sandbox.images.sources import HOME, machine_sources
from sandbox.mounts import ENVIRONMENT
from sandbox.spec import MIB, Image, Limits, Mount, Spec

NPM: Final = re.compile(r"(@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*@\d+\.\d+\.\d+[\w.+-]*")
PYPI: Final = re.compile(r"[A-Za-z0-9][\w.-]*(\[[\w,.-]+\])?==\d[\w.!+]*")

LIMITS: Final = Limits(memory_bytes=4096 * MIB, pids=512, files=4096, tmp_bytes=64 * MIB, file_bytes=4096 * MIB)
STEP_S: Final = 900.0

_LIST: Final = """
import runpy, sys
packages = f"/opt/python/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
sys.argv = ["pip", "list", "--format=freeze", "--disable-pip-version-check", "--path", packages]
runpy.run_module("pip", run_name="__main__")
"""
"""By the root's own Python: the environment's would run whatever a package put into a `.pth` file."""

_ROOTS: Final = {"PATH": ENVIRONMENT["PATH"]}
"""The root's own programs, none that was installed."""

_SCRIPT: Final = "Packages' scripts did not run; if it needs them, and you trust it, add --scripts."


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """A sandbox to install in."""

    driver: Driver
    root: Path
    """A settled root that has the installers."""
    work: Path
    """An empty folder; afterwards it holds `npm` and `python`."""
    scripts: bool
    """Whether packages may run scripts of their own while they are installed."""

    async def install_npm(self, packages: Sequence[str]) -> list[str]:
        """Install; what is there now, as `name@version`.

        Raises:
            SandboxError: npm is missing, or says no.
        """
        options = ["--no-audit", "--no-fund", "--no-package-lock", "--omit=dev", "--loglevel=error"]
        if not self.scripts:
            options.append("--ignore-scripts")
        await self._run("npm", ("npm", "install", "--prefix=/opt/npm", *options, "--", *packages), "/opt/npm")
        add_npx(self.work / "npm", packages)
        lock = inside(self.work, "npm/node_modules") / ".package-lock.json"
        try:
            if lock.is_symlink() or not lock.is_file():
                raise OSError("no file")
            found = json.loads(lock.read_text())["packages"]
            return sorted(
                {f"{path.rpartition('node_modules/')[2]}@{about['version']}" for path, about in found.items()}
            )
        except (OSError, ValueError, KeyError) as odd:
            raise SandboxError("npm", f"left no list of what it installed: {odd}", "Use npm 7 or newer.") from odd
        finally:
            lock.unlink(missing_ok=True)  # it names the registry that this machine uses

    async def install_pypi(self, packages: Sequence[str]) -> list[str]:
        """Install; what is there now, as `name==version`.

        Raises:
            SandboxError: pip is missing, or says no.
        """
        options = ["--no-compile", "--no-cache-dir", "--no-input", "--disable-pip-version-check", "--quiet"]
        if not self.scripts:
            options.append("--only-binary=:all:")
        environment = "/opt/python"
        await self._run("pip", ("python3", "-m", "venv", "--without-pip", environment), environment)
        pip = ("python3", "-m", "pip", "--python", f"{environment}/bin/python")
        await self._run("pip", (*pip, "install", *options, "--", *packages), environment)
        seen = (Mount(source=str(self.work / "python"), target=environment),)
        said = await run("pip", self.driver, self.root, ("python3", "-I", "-c", _LIST), mounts=seen, env=_ROOTS)
        add_uvx(self.work / "python")
        return sorted(said.split())

    async def _run(self, step: str, argv: tuple[str, ...], folder: str) -> str:
        into = self.work / Path(folder).name
        into.mkdir(parents=True, exist_ok=True)
        home = Path(tempfile.mkdtemp(prefix="home-", dir=self.work))  # a new one: the last may hold anybody's links
        (home / "tmp").mkdir()
        sources = machine_sources(home, os.environ)
        hand_over(home)
        hand_over(into)
        writable = (
            Mount(source=str(home), target=HOME, writable=True),
            Mount(source=str(into), target=folder, writable=True),
        )
        env = {**_ROOTS, "HOME": HOME, "TMPDIR": f"{HOME}/tmp", **sources.env}  # noqa: S108
        mounts = (*writable, *sources.mounts)
        return await run(step, self.driver, self.root, argv, mounts=mounts, env=env, network="host")


async def run(
    step: str,
    driver: Driver,
    root: Path,
    argv: tuple[str, ...],
    *,
    mounts: tuple[Mount, ...] = (),
    env: Mapping[str, str] | None = None,
    network: Literal["none", "host"] = "none",
) -> str:
    """What a program of a root printed.

    Raises:
        SandboxError: it did not start, or ended badly, or not in time.
    """
    spec = Spec(
        argv=argv,
        env=env or {},
        mounts=mounts,
        image=Image(digest="", archive="", root=str(root)),
        limits=LIMITS,
        network=network,
    )
    session = await driver.start(spec)
    try:
        async with asyncio.timeout(STEP_S):
            session.stdin.close()
            said, complained = await asyncio.gather(session.stdout.read(), session.stderr.read())
            status = await session.wait()
    except TimeoutError:
        raise SandboxError(
            step, f"no end after {STEP_S:.0f} seconds", "Try again when the network is better."
        ) from None
    finally:
        session.kill()
        await session.wait()
        with suppress(ConnectionError):
            await session.stdin.wait_closed()
    if status != 0:
        lines = complained.decode(errors="replace").strip().splitlines() or [f"ended with status {status}"]
        raise SandboxError(step, " | ".join(lines[-6:]), _SCRIPT if step in ("npm", "pip") else "Use another base.")
    return said.decode(errors="replace")
