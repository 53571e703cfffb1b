"""An engine that is spoken to by messages: requests in; words, decisions and snapshots out.

No threads and no I/O: a host gives what arrives to `serve`, and carries away what it emits.
"""

import logging
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final, assert_never

from llmcore.bill import Bill
from llmcore.engine import Engine
from llmcore.errors import SnapshotError
from llmcore.events import Advanced, Ended, Event
from llmcore.messages import (
    Broken,
    Cancel,
    Checkpoint,
    Decided,
    Decision,
    Done,
    FromEngine,
    Look,
    NotTaken,
    Restore,
    Stop,
    Submit,
    Suspend,
    Suspended,
    ToEngine,
)
from llmcore.request import Finish, RefusalCode, Refused, Request
from llmcore.saved import Saved
from llmcore.snapshot import decode_snapshot, encode_snapshot, fitting, snapshot_of
from llmcore.telling import Telling
from llmcore.text import Stream, Tokenizer

logger = logging.getLogger(__name__)

DECIDED_S: Final = 1.0
"""How long decisions are gathered before they are told, while there is work."""


@dataclass(slots=True, kw_only=True)
class _Running:
    """One request that was taken."""

    request: Request
    bill: Bill
    tellings: list[Telling]
    """By index."""
    unsaved: int = 0
    """Steps that brought it further since its last checkpoint."""

    @property
    def has_ended(self) -> bool:
        return all(telling.choice is not None for telling in self.tellings)


class Service:
    """Turns an engine. One thread has it."""

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        checkpoint_tokens: int = 32,
        snapshot_kv_bytes: int = 64 << 20,
    ) -> None:
        """
        Args:
            checkpoint_tokens: a request is written down when it is taken, and each so many tokens; 0: never.
            snapshot_kv_bytes: keys and values are kept with a suspended request up to this size.
        """
        self._engine = engine
        self._tokenizer = tokenizer
        self._checkpoint_tokens = checkpoint_tokens
        self._snapshot_kv_bytes = snapshot_kv_bytes
        self._running: dict[str, _Running] = {}
        self._decisions: list[Decision] = []

    @property
    def has_work(self) -> bool:
        return self._engine.has_work

    def receive(self, message: ToEngine) -> list[FromEngine]:
        """What can be answered at once; the rest comes of steps."""
        match message:
            case Submit(Request(id=id)) | Restore(id) if id in self._running:  # of one that has not been told its end
                return [_not_taken(id, f"{id} is the id of another request")]
            case Submit(request):
                return self._taken(request, self._engine.submit(request))
            case Restore():
                return self._restored(message)
            case Cancel(id):
                self._engine.cancel(id)
                return []
            case Suspend(id):
                return self._suspended(id, self._snapshot_kv_bytes)
            case Look(token):
                return [self._engine.look(token)]
            case Stop():
                return self._stopped()
            case _:
                assert_never(message)

    def step(self) -> list[FromEngine]:
        """One of the engine's, and all that can be told of it."""
        events = self._engine.step()
        self._gather()
        said: list[FromEngine] = []
        advanced: set[str] = set()
        for event in events:
            id = event.sequence.request.id
            said += self._told(self._running[id], event)
            if self._running[id].has_ended:
                said.append(self._done(id))
            else:
                advanced.add(id)
        said += self._checkpoints(advanced)
        return said

    def decided(self) -> list[FromEngine]:
        """Every decision since this was last asked."""
        self._gather()
        decisions, self._decisions = self._decisions, []
        return [Decided(tuple(decisions))] if decisions else []

    # ---- requests ---------------------------------------------------------------------------------------------------

    def _taken(self, request: Request, refused: Refused | None, said_before: int = 0) -> list[FromEngine]:
        if refused is not None:
            return [NotTaken(refused)]
        self._running[request.id] = _Running(
            request=request,
            bill=Bill(prompt_tokens=len(request.prompt), completion_tokens=said_before),
            tellings=[
                Telling(request.id, index, self._tokenizer, Stream(self._tokenizer, request.stop))
                for index in range(request.n)
            ],
        )
        self._gather()
        return self._checkpoint(request.id) if self._checkpoint_tokens else []

    def _restored(self, message: Restore) -> list[FromEngine]:
        request = message.request
        try:
            snapshot = decode_snapshot(message.snapshot)
            saved = fitting(snapshot, request, self._engine.runner.shape, self._engine.config.block_size)
        except SnapshotError as error:
            return [_not_taken(message.id, str(error))]
        return self._taken(request, self._engine.restore(request, saved), snapshot.output_tokens)

    def _suspended(self, id: str, most_kv_bytes: int) -> list[FromEngine]:
        saved = self._engine.take(id)
        return [] if saved is None else [Suspended(id, self._body(saved, most_kv_bytes))]

    def _stopped(self) -> list[FromEngine]:
        """Everything is suspended without its keys and values: whoever stops does not want to wait for them."""
        said: list[FromEngine] = []
        for id in list(self._running):
            said += self._suspended(id, 0)
        while self._running:
            said += self.step()
        return said + self.decided()

    # ---- what a step brought ----------------------------------------------------------------------------------------

    def _told(self, running: _Running, event: Event) -> Many[FromEngine]:
        sequence = event.sequence
        telling = running.tellings[sequence.index]
        match event:
            case Advanced():
                deltas = telling.tell(event.tokens, event.logprobs)
                if telling.has_stopped:
                    self._engine.finish(sequence, Finish.STOP)
                return deltas
            case Ended():
                return telling.end(event.finish, sequence.detail)
            case _:
                assert_never(event)

    def _done(self, id: str) -> Done:
        running = self._running.pop(id)
        choices = tuple(telling.choice for telling in running.tellings if telling.choice is not None)
        return Done(id, choices, running.bill.usage())

    def _gather(self) -> None:
        """Decisions go to the log, and on the bill of the request they are of."""
        for decision in self._engine.decisions():
            self._decisions.append(decision)
            if (running := self._running.get(decision.request)) is not None:
                running.bill.add(decision)

    # ---- snapshots --------------------------------------------------------------------------------------------------

    def _checkpoints(self, advanced: set[str]) -> Iterator[FromEngine]:
        """Of those that have come far enough since the last."""
        if not self._checkpoint_tokens:
            return
        for id, running in self._running.items():
            running.unsaved += id in advanced or running.request.beam_width > 1  # a beam search tells nothing yet
            if running.unsaved >= self._checkpoint_tokens:
                running.unsaved = 0
                yield from self._checkpoint(id)

    def _checkpoint(self, id: str) -> list[FromEngine]:
        saved = self._engine.save(id)
        return [] if saved is None else [Checkpoint(id, self._body(saved, 0))]  # None: it ends with the next step

    def _body(self, saved: Saved, most_kv_bytes: int) -> bytes:
        shape, block_size = self._engine.runner.shape, self._engine.config.block_size
        return encode_snapshot(snapshot_of(saved, shape, block_size, most_kv_bytes=most_kv_bytes))


def _not_taken(id: str, reason: str) -> NotTaken:
    return NotTaken(Refused(id=id, code=RefusalCode.INVALID, reason=reason))


def serve(
    service: Service,
    inbox: SimpleQueue[ToEngine],
    emit: Callable[[Many[FromEngine]], None],
    *,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Drain the inbox, step, emit, until `Stop`; it waits for messages while there is no work.

    Answers False where the engine cannot go on: `Broken` was the last that was emitted.
    """
    told = clock()
    while True:
        said: list[FromEngine] = []
        try:
            for message in _arrived(inbox, wait=not service.has_work):
                said += service.receive(message)
                if isinstance(message, Stop):
                    emit(said)
                    return True
            if service.has_work:
                said += service.step()
            if not service.has_work or clock() - told >= DECIDED_S:
                said += service.decided()
                told = clock()
        except Exception as error:  # the engine's own books are wrong: nothing it would say after that is worth having
            logger.exception("the engine broke")
            emit([*said, Broken(f"the engine broke: {type(error).__name__}")])
            return False
        if said:
            emit(said)


def _arrived(inbox: SimpleQueue[ToEngine], *, wait: bool) -> Iterator[ToEngine]:
    """All that has come; at least one message if told to wait."""
    if wait:
        yield inbox.get()
    while not inbox.empty():
        yield inbox.get()
