"""The travel agent's day, twice: wired straight to the servers, then through a running gateway."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.demo.agent import TASK, Call, Reply, Step, Stuck, play
from gateway.demo.human import Office, Person
from gateway.demo.roads import straight, through
from gateway.demo.tamper import Verification, verify_and_tamper
from gateway.demo.world import ALLOW, SPEND, World, look, make_folders


@dataclass(frozen=True, slots=True)
class Entry:
    """One step and what came of it."""

    step: Step
    reply: Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One playing of the day."""

    entries: tuple[Entry, ...]
    world: World
    stuck: str = ""

    def entry(self, title: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.step.title == title), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """Both columns, and what the gateway's log says of the right one."""

    direct: Column
    mediated: Column
    task: str
    events: tuple[dict[str, Any], ...]
    """The task's events, in the log's order."""
    log: Verification


async def live(
    *, url: str, office: Office, person: Person, folder: Path, database: Path, say: Callable[[str], None]
) -> Day:
    """Play both columns; `folder` holds the servers' files as `direct/` and `mediated/`, the latter made already."""
    make_folders(folder / "direct")
    say("left: the agent wired straight to its servers ...")
    async with straight(folder / "direct") as call:
        direct = await _column(call, folder / "direct")
    say("right: the same agent, through Pratique ...")
    body = {"text": TASK, "agent": "travel-agent", "allow": list(ALLOW), "spend": SPEND, "expires_s": 7200.0}
    granted = await office.post("/tasks", body)
    attending = asyncio.create_task(person.attend(office))
    try:
        async with through(url, granted["token"]) as call:
            mediated = await _column(call, folder / "mediated")
    finally:
        attending.cancel()
    events = await office.get("/audit", task=granted["task"], limit=500)
    return Day(
        direct=direct,
        mediated=mediated,
        task=granted["task"],
        events=tuple(events["events"]),
        log=await asyncio.to_thread(verify_and_tamper, database, folder / "copy.db"),
    )


async def _column(call: Call, folder: Path) -> Column:
    entries: list[Entry] = []

    async def noted(step: Step) -> Reply:
        reply = await call(step)
        entries.append(Entry(step, reply))
        return reply

    stuck = ""
    try:
        await play(noted)
    except Stuck as error:
        stuck = str(error)
    return Column(entries=tuple(entries), world=look(folder), stuck=stuck)
