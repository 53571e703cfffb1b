"""A table of upstream servers as plain child processes, and what it told the log and the store."""

import asyncio
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.errors import Unrecordable
from gateway.ids import new_id
from gateway.options import ServerOptions
from gateway.ports import Intent, Outcome, Sampler
from gateway.upstreams.table import Table
from policies.action import Action, Kind, Subject
from policies.case import Case, Definition, Snapshot
from policies.describe import Survey
from policies.grant import Grant
from policies.jsonvalue import JSONObject
from policies.label import CLEAN

SERVERS = Path(__file__).parents[1] / "servers"


@dataclass(frozen=True)
class Process:
    """A plain child, where the gateway has a sandbox."""

    process: asyncio.subprocess.Process
    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    async def wait(self) -> int:
        return await self.process.wait()

    def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()


async def launch(server: ServerOptions, *, driver: str, task: str) -> Process:
    process = await asyncio.create_subprocess_exec(
        *server.command, env=dict(server.env), stdin=-1, stdout=-1, stderr=-1
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    return Process(process, process.stdin, process.stdout, process.stderr)


@dataclass
class Harbour:
    """A table, and what it told the log and the store."""

    servers: dict[str, ServerOptions]
    events: list[tuple[str, str, str]] = field(default_factory=list)
    payloads: list[JSONObject] = field(default_factory=list)
    surveys: list[Survey] = field(default_factory=list)
    recordable: bool = True
    start_s: float = 20.0
    sampler: Sampler | None = None
    told: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def heard(self, kind: str, server: str, task: str) -> None:
        """Wait until the log has been told."""
        async with asyncio.timeout(20), self.told:
            await self.told.wait_for(lambda: (kind, server, task) in self.events)

    def __post_init__(self) -> None:
        self.table = Table(
            servers=self.servers,
            launch=launch,
            record=self.record,
            report=self.report,
            pinned=lambda _: frozenset({"plain"}),
            start_s=self.start_s,
            sampler=self.sampler,
        )

    async def record(self, kind: str, payload: JSONObject, *, server: str, task: str = "") -> None:
        if not self.recordable:
            raise Unrecordable("the disk is full")
        self.events.append((kind, server, task))
        self.payloads.append(payload)
        async with self.told:
            self.told.notify_all()

    async def report(self, survey: Survey) -> None:
        self.surveys.append(survey)

    async def call(self, server: str, tool: str, arguments: JSONObject | None = None, **how: Any) -> Outcome:
        return await self.table.execute(self.intent(server, tool, arguments, **how), how.get("progress"))

    def intent(self, server: str, tool: str, arguments: JSONObject | None = None, **how: Any) -> Intent:
        first = next(s for s in self.surveys if s.server == server)  # what was pinned on first sight
        described = first.offered[tool]
        subject = Subject(principal="ann", agent="a", task=how.get("task", "t1"), holder="h", root="r", token="k")
        action = Action(
            id=how.get("id", new_id("act")), kind=Kind.CALL_TOOL, subject=subject, server=server, name=tool,
            arguments=arguments or {},
        )  # fmt: skip
        seen = Snapshot(
            now=0,
            task=subject.task,
            task_version=1,
            grant=Grant(rules=()),
            revoked=False,
            mark=CLEAN,
            proofs=Nothing(),
            definition=Definition(server=server, name=tool, digest=described.digest, body=described.body),
        )
        return Intent(
            case=Case(action=action, seen=seen),
            frame=self.table.frame(action),
            deadline_s=how.get("deadline_s", 20.0),
            max_result_bytes=1_000_000,
        )


class Nothing:
    def find(self, form: object, canonical: str) -> None:
        return None


def server(name: str, script: str, *arguments: str) -> ServerOptions:
    command = (sys.executable, "-P", str(SERVERS / script), *arguments)
    return ServerOptions(name=name, command=command, max_result_bytes=1_000_000)
