"""One connection to a server over the streams of its sandbox session: what was asked, by id, and what came back.

A connection belongs to one task, so what a server does to it (crash, flood, an endless line) ends that task's calls and
nobody else's. Memory is bounded by the largest result that is allowed, time by each call's deadline.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from gateway.errors import UpstreamError
from gateway.ports import Outcome, OutcomeKind, Progress
from gateway.upstreams.launch import Reader, Session
from gateway.upstreams.lines import Lines, LineTooLong
from gateway.upstreams.noise import Noise
from gateway.upstreams.stderr import Tail
from gateway.wire import upstream
from gateway.wire.jsonrpc import RequestId
from policies.jsonvalue import JSONObject
from policies.verdict import Code

logger = logging.getLogger(__name__)

MAX_IN_FLIGHT = 64
"""Calls that one connection carries at once; more are refused, not queued."""
MAX_UNREAD_BYTES = 32_000_000
"""What the calls in flight may weigh together: a server that reads nothing holds no more of our memory."""
CANCEL_GRACE_S = 2.0
"""How long a cancelled call is still waited for: a server that honours a cancellation need not answer."""
CLOSE_GRACE_S = 2.0
"""How long a server may take to end by itself once its stdin is closed."""
_DRAIN_S = 0.5
_CHUNK = 1 << 16
_ENVELOPE_BYTES = 4096
"""Room on a line beside the result."""
_DETAIL_CHARS = 500


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, with its length on the wire."""

    event: upstream.Result | upstream.Failed | upstream.Wanted
    size: int


@dataclass(frozen=True, slots=True)
class Interim:
    """A call was answered, and is not complete: its server wants something first."""

    wanted: upstream.Wanted
    size: int


@dataclass(slots=True)
class _Pending:
    answer: asyncio.Future[Reply | Outcome]
    size: int
    progress: Progress | None = None
    reached: float = float("-inf")
    timer: asyncio.TimerHandle | None = None
    received: int = 0
    """What the connection had received when this was sent: a server that has said nothing since is hung."""


@dataclass(slots=True, kw_only=True)
class Connection:
    """Frames go out one write each; a reader task hands every answer to whoever waits for its id."""

    session: Session
    max_result_bytes: int
    on_tools_changed: Callable[[], None] = lambda: None
    on_end: Callable[[str], None] = lambda _: None
    """Called once, with why it ended."""
    on_asked: Callable[[upstream.Asked], bytes | None] = lambda asked: asked.refusal
    """Told of the server's own requests: the line that refuses one, or None where somebody else answers it."""
    on_withdrawn: Callable[[RequestId], None] = lambda _: None
    """Told that the server no longer wants an answer to its own request of this id."""
    on_late: Callable[[str], None] = lambda _: None
    """Told of an answer to nothing in flight, by its id."""
    noise: Noise = field(default_factory=Noise)
    ended: str = ""
    """Why nothing more can be sent; empty while it lives."""
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _weight: int = 0
    _received: int = 0
    _tail: Tail = field(default_factory=Tail)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def open(self) -> None:
        """Begin to read."""
        self._tasks = [
            asyncio.create_task(self._read(), name="upstream stdout"),
            asyncio.create_task(self._tail.drain(self.session.stderr), name="upstream stderr"),
        ]

    @property
    def is_busy(self) -> bool:
        return bool(self._pending)

    @property
    def last_words(self) -> str:
        """The tail of the server's stderr."""
        return self._tail.text

    async def ask(self, frame: bytes, request_id: str, timeout_s: float) -> JSONObject:
        """Send a request of our own (handshake, listing) and wait for its result.

        Raises:
            Refused: the server answered an error.
            UpstreamError: it did not answer.
        """
        reply = await self._exchange(frame, request_id, timeout_s, None)
        if isinstance(reply, Outcome):
            raise UpstreamError(reply.detail)
        match reply.event:
            case upstream.Result(_, result):
                return result
            case upstream.Failed() as failed:
                raise Refused(failed)
            case upstream.Wanted():
                raise UpstreamError("the server wants input before it answers")

    async def call(
        self, frame: bytes, request_id: str, deadline_s: float, progress: Progress | None = None
    ) -> Outcome | Interim:
        """Send a call once and wait for its answer, its deadline, or the end of the server."""
        reply = await self._exchange(frame, request_id, deadline_s, progress)
        if isinstance(reply, Outcome):
            return reply
        match reply.event:
            case upstream.Wanted() as wanted:
                return Interim(wanted, reply.size)
            case upstream.Result(_, result):
                return Outcome(kind=OutcomeKind.OK, result=result, size=reply.size)
            case upstream.Failed(_, code, message, is_unmediated=is_unmediated):
                detail = f"the server answered error {code}: {message[:_DETAIL_CHARS]}"
                refusal = Code.NOT_MEDIATED if is_unmediated else Code.UPSTREAM_FAILED
                return Outcome(kind=OutcomeKind.ERROR, code=refusal, size=reply.size, detail=detail)

    def tell(self, notification: bytes) -> None:
        """Send a line that nobody answers; a server that is gone does not hear it."""
        if not self.ended:
            with suppress(OSError, RuntimeError):
                self.session.stdin.write(notification + b"\n")

    async def say(self, line: bytes) -> None:
        """Send a line, and wait until there is room for another: a server that asks and does not read waits for
        itself."""
        self.tell(line)
        with suppress(OSError, RuntimeError):
            await self.session.stdin.drain()

    def cancel(self, request_id: str) -> None:
        """Ask the server to stop; what it answers within the grace still counts."""
        pending = self._pending.get(request_id)
        if pending is None or pending.timer is None:
            return
        self.tell(upstream.cancelled(request_id))
        loop = asyncio.get_running_loop()
        if pending.timer.when() > loop.time() + CANCEL_GRACE_S:
            pending.timer.cancel()
            pending.timer = loop.call_later(CANCEL_GRACE_S, self._expire, request_id, "cancelled, and no answer came")

    def end(self, reason: str) -> None:
        """Nothing more is sent; what was sent and has no answer is unknown."""
        if self.ended:
            return
        self.ended = reason
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_result(_unknown(Code.UPSTREAM_FAILED, reason))
        self.on_end(reason)

    async def close(self, reason: str = "closed", *, politely: bool = True) -> int:
        """End the server and everything that waits for it; its exit status, once nothing of it is left."""
        self.end(reason)
        await self._discard_output()
        self.session.stdin.close()
        if politely:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_GRACE_S):
                    await self.session.wait()
        self.session.kill()
        status = await self.session.wait()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_DRAIN_S)  # what it said last is still in the pipes
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return status

    async def _discard_output(self) -> None:
        """What it writes from here on goes nowhere; an unread pipe would keep asyncio from seeing the process end."""
        if not self._tasks:
            return
        reader = self._tasks.pop(0)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        self._tasks.append(asyncio.create_task(_discard(self.session.stdout), name="upstream discard"))

    async def _exchange(
        self, frame: bytes, request_id: str, timeout_s: float, progress: Progress | None
    ) -> Reply | Outcome:
        if refusal := self._refusal(frame, request_id):
            return refusal
        loop = asyncio.get_running_loop()
        pending = _Pending(loop.create_future(), len(frame), progress, received=self._received)
        try:
            self.session.stdin.write(frame + b"\n")
        except (OSError, RuntimeError):  # asyncio's and uvloop's ways to say that the pipe is closed
            return _not_sent(Code.UPSTREAM_FAILED, "the server has closed its input")
        self._pending[request_id] = pending
        self._weight += len(frame)
        pending.timer = loop.call_later(timeout_s, self._expire, request_id, f"no answer within {timeout_s:g} s")
        try:
            return await pending.answer
        finally:
            pending.timer.cancel()
            self._weight -= len(frame)
            self._pending.pop(request_id, None)

    def _refusal(self, frame: bytes, request_id: str) -> Outcome | None:
        """Why this cannot be sent; nothing has left."""
        if self.ended:
            return _not_sent(Code.UPSTREAM_FAILED, self.ended)
        if len(self._pending) >= MAX_IN_FLIGHT or self._weight + len(frame) > MAX_UNREAD_BYTES:
            return _not_sent(Code.OVERLOADED, "too many calls in flight on this connection")
        if request_id in self._pending:
            return _not_sent(Code.DUPLICATE, "this action is in flight already")
        return None

    async def _read(self) -> None:
        lines = Lines(self.max_result_bytes + _ENVELOPE_BYTES)
        try:
            while chunk := await self.session.stdout.read(_CHUNK):
                for line in lines.feed(chunk):
                    self._received += 1
                    if refusal := self._receive(line):
                        self.tell(refusal)
                        await self.session.stdin.drain()  # a server that asks and does not read waits for itself
                    if self.ended:
                        break
                if self.ended:
                    break
        except LineTooLong:
            self.end(f"the server wrote a line of more than {self.max_result_bytes} bytes")
        except OSError as error:
            self.end(f"the server's streams broke: {error.strerror}")
        else:
            self.end("the server ended")
        finally:
            self.end("what the server said could not be read")  # no news, unless something else broke

    def _receive(self, line: bytes) -> bytes | None:
        """Hand one line to whom it concerns; what must be answered at once is returned."""
        event = upstream.read(line)
        match event:
            case upstream.Result(id) | upstream.Failed(id) | upstream.Wanted(id):
                pending = self._pending.get(id)
                if pending is not None and not pending.answer.done():
                    self.noise.answered()
                    pending.answer.set_result(Reply(event, len(line)))
                    return None
                self.noise.late += 1
                self.on_late(id)
            case upstream.Progressed(id, progress, total):
                pending = self._pending.get(id)
                if pending is not None and progress > pending.reached and not pending.answer.done():
                    pending.reached = progress
                    if pending.progress is not None:
                        pending.progress(progress, total)
            case upstream.ToolsChanged():
                self.on_tools_changed()
            case upstream.Ignored():
                self.noise.ignored += 1
            case upstream.Malformed(reason, id, is_json):
                self.noise.malformed += 1
                self._fail(id if is_json else self._meant(line), reason)
            case upstream.Withdrawn(withdrawn):
                self.noise.ignored += 1
                self.on_withdrawn(withdrawn)
            case upstream.Asked() as asked:
                refusal = self.on_asked(asked)
                if refusal is None:
                    return None
                self.noise.refused += 1
                logger.info("an upstream's request was refused", extra={"method": asked.method[:100]})
                self._bear(line)
                return refusal
        self._bear(line)
        return None

    def _bear(self, line: bytes) -> None:
        if not self.noise.heard(len(line)):
            self.end("the server flooded its output")

    def _meant(self, line: bytes) -> str:
        """Which call a line that is not JSON looks like the answer to; a guess that can only end that call sooner."""
        if not line.lstrip().startswith(b"{") or b'"result"' not in line:
            return ""
        return next((id for id in self._pending if id.encode() in line), "")

    def _fail(self, request_id: str, reason: str) -> None:
        """The answer to this call came and cannot be read: its effect is not known."""
        pending = self._pending.get(request_id)
        if pending is not None and not pending.answer.done():
            pending.answer.set_result(_unknown(Code.UPSTREAM_FAILED, f"the answer cannot be read: {reason}"))

    def _expire(self, request_id: str, reason: str) -> None:
        pending = self._pending.get(request_id)
        if pending is None or pending.answer.done():
            return
        pending.answer.set_result(_unknown(Code.UPSTREAM_TIMEOUT, reason))
        self.tell(upstream.cancelled(request_id))
        if pending.received == self._received and len(self._pending) == 1:
            self.end("the server hung")  # nothing at all since this was sent: the next call gets a fresh server


class Refused(UpstreamError):
    """The server answered a request of ours with an error."""

    def __init__(self, failed: upstream.Failed) -> None:
        super().__init__(f"the server answered error {failed.code}: {failed.message[:_DETAIL_CHARS]}")
        self.failed = failed


async def _discard(stream: Reader) -> None:
    with suppress(OSError):
        while await stream.read(_CHUNK):
            pass


def _not_sent(code: Code, detail: str) -> Outcome:
    return Outcome(kind=OutcomeKind.NOT_SENT, code=code, detail=detail)


def _unknown(code: Code, detail: str) -> Outcome:
    return Outcome(kind=OutcomeKind.UNKNOWN, code=code, detail=detail)
