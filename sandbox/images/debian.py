"""A base made on this machine: a small Debian with Python and Node, unpacked by mmdebstrap and never run."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from sandbox.errors import SandboxError

SUITE: Final = "bookworm"
RUNTIME: Final = ("base-files", "ca-certificates", "coreutils", "dash", "nodejs", "python3")
"""What running servers need."""
INSTALLERS: Final = ("npm", "python3-pip")
"""What installing needs besides: in the root that installs, never in the image."""

Told = Callable[[str], None]
"""Is told what is being done, a line at a time."""

_SOURCES: Final = (Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources"))
_NO_TOOL: Final = "Or start from another base: --base FILE.tar, or --base REGISTRY/IMAGE@sha256:..."


async def bootstrap(archive: Path, packages: Sequence[str], told: Told) -> None:
    """Write a tar of the packages and all that they depend on.

    Raises:
        SandboxError: this machine cannot, or the packages cannot be had.
    """
    program = shutil.which("mmdebstrap")
    if program is None:
        raise SandboxError("base", "mmdebstrap is not installed", f"apt install mmdebstrap. {_NO_TOOL}")
    if os.geteuid() != 0:
        raise SandboxError("base", "making a Debian takes root", f"Build as root. {_NO_TOOL}")
    settings = archive.with_suffix(".apt")
    settings.write_text(await _acquire())
    command = [program, "--variant=extract", "--mode=root", f"--include={','.join(packages)}"]
    command += ['--aptopt=APT::Install-Recommends "false"', f"--aptopt={settings}", "--format=tar"]
    process = await asyncio.create_subprocess_exec(
        *command,
        SUITE,
        str(archive),
        *_sources(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(archive.parent), "LC_ALL": "C.UTF-8"},
        cwd="/",
    )
    said: list[str] = []
    try:
        assert process.stderr is not None
        async for line in process.stderr:
            said.append(line.decode(errors="replace").strip())
            told(said[-1].removeprefix("I: "))
        status = await process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            process.terminate()  # it unmounts and removes what it made
        await process.wait()
        raise
    if status != 0:
        wrong = "; ".join(line for line in said if line.startswith("E: ")) or "; ".join(said[-3:])
        raise SandboxError("base", f"mmdebstrap: {wrong}", "See whether apt-get update works here.")


def _sources() -> Iterator[str]:
    """This machine's own sources, where it is the same Debian: they are known to be reached from here."""
    with suppress(OSError):
        if f"VERSION_CODENAME={SUITE}\n" in Path("/etc/os-release").read_text():
            yield from (str(path) for path in _SOURCES if path.is_file())


async def _acquire() -> str:
    """How this machine's apt fetches: proxies, certificates, timeouts."""
    try:
        process = await asyncio.create_subprocess_exec("apt-config", "dump", "Acquire", stdout=subprocess.PIPE)
    except FileNotFoundError:
        return ""
    return (await process.communicate())[0].decode()
