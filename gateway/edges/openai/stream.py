"""A generation as it comes: server-sent events that open with the first words, and end with `[DONE]` or an error.

Nothing is sent before there is something to say, so that a refusal has a status of its own; only after a silence that
clients and proxies would take for a dead line does a comment open the stream. A reader that is slow gets what came
meanwhile in one piece: what waits for it is never more than the generation's own text.
"""

import asyncio
import contextlib
from dataclasses import dataclass, field, replace

import msgspec

from gateway.edges.asgi import Send
from gateway.edges.openai.answers import Envelope
from gateway.edges.openai.failures import Failure
from policies.jsonvalue import JSONObject

KEEP_ALIVE_S = 10.0
"""A silent stream sends a comment so often: held for a person, or in the model's queue."""
FAREWELL_S = 5.0
"""How long a reader that has stopped reading is given to learn why its stream ended."""
_FIELDS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-accel-buffering", b"no"),
)
_COMMENT = b": waiting\n\n"
_DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class _Sample:
    """What a reader has of one sample, and what waits for it."""

    text: list[str] = field(default_factory=list)
    tokens: list[JSONObject] = field(default_factory=list)
    sent_characters: int = 0
    sent_tokens: int = 0
    is_open: bool = False


class CompletionStream:
    """The response to one streamed request."""

    def __init__(self, send: Send, envelope: Envelope, *, include_usage: bool, keep_alive_s: float) -> None:
        self._send = send
        self._envelope = envelope
        self._include_usage = include_usage
        self._keep_alive_s = keep_alive_s
        self._samples: dict[int, _Sample] = {}
        self._wake = asyncio.Event()
        self._is_over = False
        self.is_open = False
        """Whether its status has been sent."""

    def begun(self, action: str) -> None:
        """Implements `ports.Begun`."""
        self._envelope = replace(self._envelope, action=action)

    def words(self, delta: JSONObject) -> None:
        """Implements `ports.Words`."""
        sample = self._samples.setdefault(delta["index"], _Sample())
        sample.text.append(delta["text"])
        sample.tokens.extend(delta.get("tokens") or ())
        self._wake.set()

    def over(self) -> None:
        """There will be no more words: `write` ends when it has written those that are there."""
        self._is_over = True
        self._wake.set()

    async def write(self) -> None:
        """Send what comes, until it is over."""
        while not self._is_over or self._wake.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._keep_alive_s):
                    await self._wake.wait()
            if not self._wake.is_set():
                await self._put(_COMMENT)
            self._wake.clear()
            if waiting := self._waiting():
                await self._put(waiting)

    async def finish(self, choices: list[JSONObject], usage: JSONObject) -> None:
        """What of the samples was not streamed, how each ended, and the end."""
        for choice in choices:
            sample = self._samples.setdefault(choice["index"], _Sample())
            sample.text = [choice["text"][sample.sent_characters :]]
            sample.tokens = (choice.get("tokens") or [])[sample.sent_tokens :]
        envelope = self._envelope
        ends = [envelope.form.closing(choice["index"], choice["finish"]) for choice in choices]
        events = [self._waiting(), *(_event(envelope.piece(end)) for end in ends)]
        if self._include_usage:
            events.append(_event(envelope.count(usage)))
        await self._put(b"".join(events) + _DONE, more=False)

    async def fail(self, failure: Failure) -> None:
        """End a stream that is open with an error, for as long as somebody may be reading; what waits is not sent."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                await self._put(_event(failure.body), more=False)

    def _waiting(self) -> bytes:
        """The events of all words that wait."""
        return b"".join(self._taken(index, sample) for index, sample in self._samples.items())

    def _taken(self, index: int, sample: _Sample) -> bytes:
        text, tokens = "".join(sample.text), sample.tokens
        envelope, events = self._envelope, []
        if not sample.is_open and (opening := envelope.form.opening(index)):
            events.append(opening)
        if text or tokens:
            events.append(envelope.form.more(index, text, tokens, sample.sent_characters))
        sample.is_open = True
        sample.sent_characters += len(text)
        sample.sent_tokens += len(tokens)
        sample.text, sample.tokens = [], []
        return b"".join(_event(envelope.piece(event)) for event in events)

    async def _put(self, body: bytes, *, more: bool = True) -> None:
        if not self.is_open:
            await self._send({"type": "http.response.start", "status": 200, "headers": list(_FIELDS)})
            self.is_open = True
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


def _event(message: JSONObject) -> bytes:
    return b"data: " + msgspec.json.encode(message) + b"\n\n"
