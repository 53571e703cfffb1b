"""One program in one sandbox, watched from the host: what it says of itself is only half of it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, Protocol

from security.escape.baits import Laid
from security.escape.probes.table import PROBES, Probe

from sandbox.driver import Session
from sandbox.runtime import runtime_mounts
from sandbox.spec import Mount, Spec

SOURCE: Final = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from security.escape.probes.main import main; main(*sys.argv[1:])"
)
SLOWER: Final = {"vm": 5.0, "gvisor": 3.0}
"""Deadlines there are so many times as long: an emulated processor, a kernel in user space."""
SILENCE_S: Final = 30.0
"""How long a sandbox may say nothing, times `SLOWER`."""
SAID_BYTES: Final = 1 << 22

OWN_KERNEL: Final = frozenset({"gvisor", "vm"})
"""What the kernel inside allows there is not the host's."""
MISSING: Final = frozenset({"ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ENXIO", "ENODEV"})
"""This kernel was built without it: nobody gets through, defended or not."""


class Starts(Protocol):
    async def start(self, spec: Spec) -> Session: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one probe ended."""

    probe: Probe
    through: bool = False
    """By its own word."""
    said: str = ""
    errno: str = ""
    broken: bool = False
    """It made a mistake of its own: no proof of anything."""
    late: bool = False
    leaked: bool = False
    """It said a secret."""
    landed: str = ""
    """What it left on the host."""

    def got_through(self, driver: str) -> bool:
        if self.leaked or self.landed:
            return True
        match self.probe.judged:
            case "effect":
                return False
            case "kernel":
                return self.through and driver not in OWN_KERNEL
            case "word":
                return self.through


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How all of them ended, and what is to be said of the sandbox as a whole."""

    driver: str
    outcomes: dict[str, Outcome]
    complaints: tuple[str, ...]
    """Effects that nobody signed, residue, secrets on stderr."""
    ended: tuple[str, ...] = ()
    """Probes that ended their whole sandbox."""

    @property
    def through(self) -> set[str]:
        return {name for name, one in self.outcomes.items() if one.got_through(self.driver)}


def spec_for(laid: Laid, names: Sequence[str], slower: float) -> Spec:
    argv = (
        sys.executable,
        "-I",
        "-S",
        "-B",
        "-c",
        SOURCE,
        laid.program,
        laid.as_argument(),
        ",".join(names),
        str(slower),
    )
    mounts = (
        *runtime_mounts(argv[:1]),
        Mount(source=laid.bait.given, target=laid.bait.given),
        Mount(source=laid.bait.box, target=laid.bait.box, writable=True),
        Mount(source=laid.program, target=laid.program),
    )
    is_short = any(PROBES[name].group == "resources" for name in names)  # of processor time, as the others need not be
    return Spec(argv=argv, mounts=mounts, limits=laid.limits if is_short else replace(laid.limits, cpu_s=None))


async def tried(starts: Starts, driver: str, laid: Laid, names: Sequence[str]) -> Report:
    """Try these probes, in another sandbox again from where one was ended by a probe."""
    said: dict[str, dict[str, object]] = {}
    rest, ended, complained = list(names), [], b""
    while rest:
        lines, errors = await _one_sandbox(starts, laid, rest, SLOWER.get(driver, 1.0))
        complained += errors
        said |= {str(line["ended"]): line for line in lines if "ended" in line}
        begun = [str(line["begun"]) for line in lines if "begun" in line]
        assert begun, f"the probes did not begin: {errors.decode(errors='replace')[-2000:]}"
        if begun[-1] not in said:
            ended.append(begun[-1])
            said[begun[-1]] = {"said": "the whole sandbox ended"}
        rest = [name for name in rest if name not in said]
    landed, residue = laid.landed(), laid.residue()
    outcomes = {name: outcome_of(PROBES[name], said[name], laid.secret, landed.pop(name, "")) for name in names}
    complaints = [f"{name}: {what}" for name, what in landed.items()] + [f"left behind: {one}" for one in residue]
    if laid.secret.encode() in complained:
        complaints.append("a secret was read: " + complained.decode(errors="replace"))
    return Report(driver=driver, outcomes=outcomes, complaints=tuple(complaints), ended=tuple(ended))


async def _one_sandbox(
    starts: Starts, laid: Laid, names: Sequence[str], slower: float
) -> tuple[list[dict[str, object]], bytes]:
    session = await starts.start(spec_for(laid, names, slower))
    try:
        with suppress(OSError):
            session.stdin.close()
        errors = asyncio.ensure_future(session.stderr.read(SAID_BYTES))
        lines = [json.loads(line) async for line in _lines(session, SILENCE_S * slower)]
        return lines, await errors
    finally:
        session.kill()
        await session.wait()


async def _lines(session: Session, silence_s: float) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(silence_s):
            line = await session.stdout.readline()
        if not line:
            return
        yield line


def outcome_of(probe: Probe, line: dict[str, object], secret: str, landed: str) -> Outcome:
    said = str(line.get("said", ""))
    outcome = Outcome(probe=probe, through=line.get("through") is True, said=said, landed=landed)
    return replace(
        outcome,
        errno=str(line.get("errno", "")),
        broken=line.get("broken") is True,
        late=line.get("late") is True,
        leaked=secret in said,
    )
