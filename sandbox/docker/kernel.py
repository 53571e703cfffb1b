"""Whether a sandbox has a kernel of its own: what it says it is, and whether the host's sees the program run."""

import asyncio
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from sandbox.driver import Driver
from sandbox.errors import SandboxError
from sandbox.spec import Spec

DEADLINE_S: Final = 15.0
VERSION: Final = "/proc/version"
_ASK: Final = f"cat {VERSION}; read -r _"


async def why_shared(driver: Driver) -> str:
    """Why its kernel is not, or not known to be, another than the host's; empty where it is. Never raises."""
    token = f"pratique-{secrets.token_hex(8)}"
    try:
        session = await driver.start(Spec(argv=("/bin/sh", "-c", _ASK, token)))
    except SandboxError as failed:
        return str(failed)
    try:
        async with asyncio.timeout(DEADLINE_S):
            version = (await session.stdout.readline()).decode(errors="replace").strip()
            hosts = await asyncio.to_thread(_host)
            is_seen = await asyncio.to_thread(_is_seen, token)
    except (TimeoutError, ValueError):
        return f"the sandbox did not tell its kernel in {DEADLINE_S:.0f} seconds."
    finally:
        session.kill()
        await session.wait()
    if not version or version == hosts:
        return f"the kernel inside is the host's ({version or 'none named'}): see what the runtime runsc really is."
    if is_seen:
        return "the host's kernel runs the program as a process of its own: see what the runtime runsc really is."
    return ""


def _host() -> str:
    return Path(VERSION).read_text().strip()


def _is_seen(token: str) -> bool:
    """Whether some process of this machine was started with that word."""
    for told in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if token.encode() in told.read_bytes().split(b"\0"):
                return True
    return False
