"""Signs of life that are seen from outside, whatever the wall: who lives inside writes to a shared file."""

import asyncio
from pathlib import Path

from conformance.running import WORK, shared, shell

from sandbox.spec import Spec

QUIET_S = 1.0
"""Several beats: a file that did not grow for so long has nobody left to write to it."""

BEAT = f"while :; do echo >>{WORK}/$0; sleep 0.1; done"

FAMILY = f"""
setsid sh -c 'trap "" TERM HUP INT; {BEAT}' daemon </dev/null >/dev/null 2>&1 &
(sh -c '{BEAT}' twice-forked </dev/null >/dev/null 2>&1 &)
sh -c 'trap "" TERM HUP INT; {BEAT}' child &
until [ -e {WORK}/daemon ] && [ -e {WORK}/twice-forked ] && [ -e {WORK}/child ]; do sleep 0.05; done
echo up
"""
"""One that left the session, one whose parent is gone, one that hears no signal."""
MEMBERS = ("daemon", "twice-forked", "child")


def beating(folder: Path, name: str) -> Spec:
    """Says that it is up, then writes to the file of that name until somebody ends it, SIGTERM or not."""
    beat = f"echo >>{WORK}/{name}"
    return shell(f"trap '' TERM; {beat}; echo up; while :; do {beat}; sleep 0.1; done", shared(folder))


def family(folder: Path, then: str) -> Spec:
    return shell(f"{FAMILY}{then}", shared(folder))


async def lives(*files: Path) -> bool:
    """Whether anybody still writes to any of them."""
    before = [file.stat().st_size for file in files]
    await asyncio.sleep(QUIET_S)
    return before != [file.stat().st_size for file in files]
