"""`python -m bench.walled`: one gateway call, its server in each sandbox, against the same call with a bare child.

Everything is on: token, schema, labels, Rego, durable audit. One gateway, one server a driver, calls in turn; ratios of
medians within the run. Needs what the sandboxes need (`tests/setup.sh`), started by `tests/with_engine.sh`.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bench.targets import HERE
from gateway.bootstrap import Running, running
from gateway.ids import new_id
from gateway.options import Options, SandboxOptions, ServerOptions
from gateway.walls import Walls
from policies.action import Action, Kind, Subject
from sandbox.driver import GUARANTEES, Capabilities, Outlet, Session, Tried
from sandbox.drivers import FINDERS, tried
from sandbox.spec import Spec

TEXT = "t" * 420


class Bare:
    """The baseline: no sandbox at all."""

    name = "none"

    async def probe(self) -> Capabilities:
        return Capabilities(verified=frozenset(GUARANTEES))

    async def start(self, spec: Spec, outlet: Outlet | None = None) -> Session:  # noqa: ARG002
        return _Child(await asyncio.create_subprocess_exec(*spec.argv, stdin=-1, stdout=-1, stderr=-1))


class _Child:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin and process.stdout and process.stderr  # noqa: PT018
        self._process = process
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr

    async def wait(self) -> int:
        return await self._process.wait()

    def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()


async def _measure(folder: Path, rounds: int, calls: int) -> None:
    found = await tried()
    for one in found:
        if one.driver is None or not one.capabilities.verified:
            print(f"{one.name}: {dict(one.capabilities.why_not)}", file=sys.stderr)
    bare = Tried(name="none", driver=Bare(), capabilities=await Bare().probe())
    names = ("none", *FINDERS)
    command = (sys.executable, "-c", (HERE / "echo.py").read_text())  # no file: no mount, so sealed
    profiles = {name: SandboxOptions(driver=name, guarantees=frozenset()) for name in names}
    pack = (HERE / "bench.toml").read_text()
    servers = {}
    for name in names:
        own = folder / f"{name}.toml"
        own.write_text(pack.replace('"bench"', f'"{name}"').replace("bench =", f"{name} ="))
        servers[name] = ServerOptions(name=name, command=command, sandbox=name, pack=str(own))
    options = Options(state=folder / "state", port=0, servers=servers, sandboxes=profiles)
    async with running(options, Walls(tried=(bare, *found), profiles=profiles)) as gateway:
        subjects = {name: await _subject(gateway, name) for name in names}
        medians: dict[tuple[str, str], list[float]] = {}
        for number in range(rounds + 1):
            for tool in ("write", "look"):
                for name in names:
                    took = await _calls(gateway, subjects[name], name, tool, calls if number else 20)
                    if number:  # the first round starts the servers and warms up
                        medians.setdefault((tool, name), []).append(took)
            print(f"round {number}/{rounds}", file=sys.stderr, flush=True)
    print(f"\n{datetime.now(UTC):%Y-%m-%d}, {rounds} rounds of {calls} calls, one caller, medians\n")
    print("| call | server in | p50 ms | to a bare child |\n|---|---|---|---|")
    for (tool, name), times in medians.items():
        ratio = statistics.median(a / b for a, b in zip(times, medians[tool, "none"], strict=True))
        print(f"| {tool} | {name} | {1e3 * statistics.median(times):.2f} | {ratio:.2f}x |")


async def _subject(gateway: Running, server: str) -> Subject:
    allow = [f'{server}.write(to in ["d0"])', f"{server}.look"]
    granted = await gateway.control.grant(text="bench", allow=allow, by="bench")
    subject = gateway.control.authority.read(granted.token, time.time())
    assert isinstance(subject, Subject)
    return subject


async def _calls(gateway: Running, subject: Subject, server: str, tool: str, calls: int) -> float:
    """Seconds of the median call."""
    arguments = {"text": TEXT} if tool == "look" else {"to": "d0", "text": TEXT}
    times = []
    for _ in range(calls):
        action = Action(
            id=new_id("act"), kind=Kind.CALL_TOOL, subject=subject, server=server, name=tool, arguments=arguments
        )
        begun = time.perf_counter()
        answer = await gateway.pipeline.mediate(action)
        times.append(time.perf_counter() - begun)
        assert answer.code is None, (server, answer)
    return statistics.median(times)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--calls", type=int, default=200)
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(_measure(Path(folder), chosen.rounds, chosen.calls))


if __name__ == "__main__":
    main()
