"""The workload with its decisions on record, against the same work with none made.

On record as in a gateway: a second's decisions are one event, signed into the log and committed by the ledger's own
thread. The seconds of the whole process are counted, that thread's too.
"""

import asyncio
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from typing_extensions import override

import llmcore.engine
from audit.event import Event
from audit.log import AuditLog
from bench.llm.ours import answer, engine
from bench.llm.workload import requests
from gateway.ids import new_id
from gateway.keyring import open_keyring
from gateway.llm.asjson import as_json
from gateway.llm.usage import KIND
from gateway.loading import open_ledger
from gateway.options import MODEL_SERVER
from gateway.ports import Done
from gateway.stores.database import open_database
from gateway.stores.ledger import Ledger
from llmcore.decisions import DecisionLog
from llmcore.messages import Decision
from llmcore.runner.model_runner import ModelRunner
from llmcore.service import DECIDED_S


class _Silent(DecisionLog):
    """No decision is made up, and none told."""

    @override
    def note(self, *_: Any, **__: Any) -> None: ...

    @override
    def waited(self, *_: Any) -> None: ...

    @override
    def refused(self, *_: Any) -> None: ...

    @override
    def served(self, *_: Any, **__: Any) -> None: ...


def ratios(runner: ModelRunner, pairs: int) -> list[float]:
    """Processor seconds with the record to those without, for each of `pairs`, in turns."""
    with tempfile.TemporaryDirectory() as folder, _recorder(Path(folder)) as recorder:
        _recorded(runner, recorder)  # what warms up
        found = []
        for number in range(pairs):
            if number % 2:
                recorded = _recorded(runner, recorder)
                silent = _silent(runner)
            else:
                silent = _silent(runner)
                recorded = _recorded(runner, recorder)
            found.append(recorded / silent)
        return found


class _Recorder:
    """A ledger on an event loop of its own."""

    def __init__(self, ledger: Ledger, loop: asyncio.AbstractEventLoop) -> None:
        self._ledger, self._loop = ledger, loop

    def record(self, decisions: list[Decision]) -> Any:
        """A future of the commit."""
        payload = {"decisions": [{key: value for key, value in as_json(one).items() if value} for one in decisions]}
        event = Event(id=new_id("evt"), kind=KIND, time=time.time(), payload=payload, server=MODEL_SERVER)
        unit = self._ledger.run(lambda _db: Done(value=None, events=(event,)))
        return asyncio.run_coroutine_threadsafe(unit, self._loop)


@contextmanager
def _recorder(state: Path) -> Iterator[_Recorder]:
    keyring, loop = open_keyring(state, fresh=True), asyncio.new_event_loop()
    turning = threading.Thread(target=loop.run_forever)
    turning.start()

    def run(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    with closing(open_database(state)) as database:
        ledger = run(open_ledger(database, AuditLog(keyring.origin, keyring.signer)))
        try:
            yield _Recorder(ledger, loop)
        finally:
            run(ledger.stop())
            loop.call_soon_threadsafe(loop.stop)
            turning.join()
            loop.close()


def _recorded(runner: ModelRunner, recorder: _Recorder) -> float:
    turned = engine(runner, prefix_cache=True)
    began, told, writes = time.process_time(), time.monotonic(), []

    def watch() -> None:
        nonlocal told
        if time.monotonic() - told >= DECIDED_S:
            told = time.monotonic()
            writes.append(recorder.record(turned.decisions()))

    answer(turned, requests(), watch)
    writes.append(recorder.record(turned.decisions()))
    for write in writes:
        write.result()
    return time.process_time() - began


def _silent(runner: ModelRunner) -> float:
    telling, llmcore.engine.DecisionLog = llmcore.engine.DecisionLog, _Silent  # type: ignore[misc]
    try:
        turned = engine(runner, prefix_cache=True)
    finally:
        llmcore.engine.DecisionLog = telling  # type: ignore[misc]
    began = time.process_time()
    answer(turned, requests())
    assert not turned.decisions()
    return time.process_time() - began
