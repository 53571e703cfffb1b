"""`python -m bench.stages`: where the time of one call goes, step by step, and the label check against a long memory.

Processor microseconds of the thread that does the work, warm, each step by itself in a tight loop: in a gateway at work
the same step costs more, since its data has left the caches meanwhile. Waiting (for the disk, for the server) is not
in them.
"""

import asyncio
import json
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvloop

from bench.targets import ECHO, HERE
from gateway.bootstrap import Running, running
from gateway.ids import new_id
from gateway.ports import Answer, Done, Intent, Outcome, OutcomeKind
from gateway.settings import read_settings
from gateway.stages.commit import Commit, intent_for
from gateway.stages.settle import Settle
from gateway.wire import answers, jsonrpc, modern, upstream
from gateway.wire.asks import Call
from gateway.wire.http import Door, Head
from policies.action import Action, Kind, Subject
from policies.case import Case
from policies.dataflow import consider
from policies.jsonvalue import JSONObject
from policies.label import Integrity, Label, Source
from policies.pack import Form
from policies.reading import Reading

ROUNDS = 7
REPEATS = 400
"""The cheapest of `ROUNDS` means over `REPEATS` runs is what is reported: everything above it is somebody else's."""
TEXT = "t" * 420
REMEMBERED = (10, 100, 1_000, 10_000)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        uvloop.run(_measure(Path(folder)))


async def _measure(folder: Path) -> None:
    config = folder / "pratique.toml"
    config.write_text(
        f'[gateway]\nlisten = "127.0.0.1:18993"\n[server.bench]\ncommand = {json.dumps(ECHO)}\n'
        f'mounts = ["{HERE}:ro"]\npack = "{HERE / "bench.toml"}"\n'
    )
    async with running(read_settings(config, folder / "state")) as gateway:
        allow = ['bench.write(to in ["d0", "d1"])', "bench.look"]
        granted = await gateway.control.grant(text="bench", allow=allow, by="bench")
        subject = gateway.control.authority.read(granted.token, time.time())
        assert isinstance(subject, Subject)
        await gateway.pipeline.mediate(_action(subject))  # the server has started
        print("| step | what is measured | us |\n|---|---|---|")
        for name, what, cost in [*_edge(gateway, granted.token), *await _corridor(gateway, subject)]:
            print(f"| {name} | {what} | {cost:.1f} |", flush=True)
        print("\n| values remembered | label check, us |\n|---|---|")
        for count, cost in await _memory(gateway, subject):
            print(f"| {count:,} | {cost:.1f} |", flush=True)


# ---- the steps ------------------------------------------------------------------------------------------------------


def _edge(gateway: Running, token: str) -> list[tuple[str, str, float]]:
    door, (fields, body) = Door(frozenset({"127.0.0.1"}), gateway.url), _request(token)
    head = door.read("POST", b"/mcp", fields)
    message = jsonrpc.parse(body)
    assert isinstance(head, Head)
    assert isinstance(message, jsonrpc.Request)
    call = modern.receive(head, message)
    assert isinstance(call, Call)
    answer = Answer(action="act_1", result=_result())
    return [
        ("edge", "header fields to a head", _cost(lambda: door.read("POST", b"/mcp", fields))),
        ("edge", "the token, signatures remembered", _cost(lambda: gateway.control.authority.read(token, time.time()))),
        ("edge", "body to a call: JSON, envelope, headers against body", _cost(lambda: _parsed(head, body))),
        ("edge", "answer to bytes", _cost(lambda: answers.modern(call.id, answer))),
    ]


async def _corridor(gateway: Running, subject: Subject) -> list[tuple[str, str, float]]:
    pipeline, action = gateway.pipeline, _action(subject)
    costs = [("decide", "snapshot", await _async_cost(lambda: pipeline.archive.snapshot(action)))]
    case = Case(action=action, seen=await pipeline.archive.snapshot(action))
    for number, stage in enumerate(pipeline.stages, 1):
        before = case
        costs.append((f"decide ({number})", stage.name, await _async_cost(lambda: stage.consider(before))))  # noqa: B023
        case = (await stage.consider(before)).joined(before.verdict)
    costs.append(("decide", "all of it", await _async_cost(lambda: pipeline.decide(action))))
    intent = intent_for(case, gateway.table.frame(action), deadline_s=60.0, max_result_bytes=10_000_000)
    line = json.dumps({"jsonrpc": "2.0", "id": action.id, "result": _result()}, separators=(",", ":")).encode()
    reading = gateway.memory.read(action, _result())
    costs += [
        ("commit (6)", "the frame", _cost(lambda: gateway.table.frame(action))),
        ("execute (7)", "the server's line to a result", _cost(lambda: upstream.read(line))),
        ("settle (8)", "labels and proofs of the result", _cost(lambda: gateway.memory.read(action, _result()))),
    ]
    costs += await _writer(gateway, intent, reading)
    return costs


async def _writer(gateway: Running, intent: Intent, reading: Reading) -> list[tuple[str, str, float]]:
    """Units on the writer's own thread and connection, in transactions that are rolled back; then one that is not."""
    outcome = Outcome(kind=OutcomeKind.OK, result=_result(), size=1_300)

    def measured(db: sqlite3.Connection) -> Done[list[tuple[str, str, float]]]:
        commit = Commit(intent=intent, memory=gateway.memory, clock=time.time)
        settle = Settle(
            intent=intent, outcome=outcome, reading=reading, mark=None, memory=gateway.memory, clock=time.time
        )

        def undone(unit: Callable[[sqlite3.Connection], object]) -> None:
            db.execute("SAVEPOINT bench")
            unit(db)
            db.execute("ROLLBACK TO bench")
            db.execute("RELEASE bench")

        costs = [("commit (6)", "the unit: re-read, guard, call, intent", _cost(lambda: undone(commit)))]
        commit(db)
        costs.append(("settle (9)", "the unit: result, mark, outcome", _cost(lambda: undone(settle))))
        return Done(value=costs, keep=False)

    units = await gateway.ledger.run(measured)
    whole = await _process_cost(lambda: gateway.ledger.run(lambda _db: Done(value=None)), 300)
    call = await _process_cost(lambda: gateway.pipeline.mediate(_action(intent.action.subject)), 300)
    return [
        *units,
        ("ledger", "one durable batch that holds nothing: hops, BEGIN, COMMIT, fsync; both threads", whole),
        ("all", "one call through the pipeline, two durable batches; both threads, no HTTP", call),
    ]


# ---- the label check ------------------------------------------------------------------------------------------------


async def _memory(gateway: Running, subject: Subject) -> list[tuple[int, float]]:
    """Data flow over the same call, in a task that has seen ever more values."""
    remembered = gateway.memory.task(subject.task)
    assert remembered is not None
    pipeline, action, found = gateway.pipeline, _action(subject), []
    for count in REMEMBERED:
        label = Label(integrity=Integrity.ATTESTED, sources=frozenset({Source("bench", "look", "act_0", "/id")}))
        atoms = tuple((Form.ID, f"value-{number:06d}", label) for number in range(len(remembered.proofs), count))
        remembered.proofs.add(Reading(label=label, atoms=atoms))
        case = Case(action=action, seen=await pipeline.archive.snapshot(action))
        for stage in pipeline.stages[:2]:
            case = await stage.consider(case)
        found.append((len(remembered.proofs), _cost(lambda: consider(case))))  # noqa: B023
    return found


# ---- how it is measured ---------------------------------------------------------------------------------------------


def _cost(work: Callable[[], object]) -> float:
    """Microseconds of this thread."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.thread_time()
        for _ in range(REPEATS):
            work()
        best = min(best, time.thread_time() - started)
    return best / REPEATS * 1e6


async def _async_cost(work: Callable[[], Awaitable[object]]) -> float:
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.thread_time()
        for _ in range(REPEATS):
            await work()
        best = min(best, time.thread_time() - started)
    return best / REPEATS * 1e6


async def _process_cost(work: Callable[[], Awaitable[object]], repeats: int) -> float:
    """Microseconds of the whole process, one at a time."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(repeats):
            await work()
        best = min(best, time.process_time() - started)
        await asyncio.sleep(0)
    return best / repeats * 1e6


# ---- one call -------------------------------------------------------------------------------------------------------


def _action(subject: Subject) -> Action:
    return Action(
        id=new_id("act"),
        kind=Kind.CALL_TOOL,
        subject=subject,
        server="bench",
        name="write",
        arguments={"to": "d0", "text": TEXT},
    )


def _request(token: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    fields = [
        (b"host", b"127.0.0.1:18993"),
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
        (b"mcp-protocol-version", b"2026-07-28"),
        (b"mcp-method", b"tools/call"),
        (b"mcp-name", b"bench__write"),
        (b"authorization", b"Bearer " + token.encode()),
    ]
    meta: dict[str, Any] = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    params = {"name": "bench__write", "arguments": {"to": "d0", "text": TEXT}, "_meta": meta}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()
    return fields, body


def _parsed(head: Head, body: bytes) -> object:
    message = jsonrpc.parse(body)
    assert not isinstance(message, jsonrpc.Malformed)
    return modern.receive(head, message)


def _result() -> JSONObject:
    said = {"id": "receipt-000001", "text": TEXT[:64], "note": "n" * 420}
    return {"content": [{"type": "text", "text": json.dumps(said, separators=(",", ":"))}], "structuredContent": said}


if __name__ == "__main__":
    main()
