"""A world for the `/v1` edge: a model corridor that says what a test tells it to, and the edge before it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from gateway.edges.openai.edge import ModelEdge
from gateway.errors import LlmRefused
from gateway.ports import Answer, Begun, Unauthorised, Words
from policies.action import Subject
from policies.jsonvalue import JSONObject
from policies.verdict import Code
from support.edge import Post, subject

ACTION = "act_0199b0c4-1d2e-7000-8000-000000000001"
USAGE: JSONObject = {"prompt_tokens": 12, "completion_tokens": 5, "cached_tokens": 8, "block_seconds": 0.5}
CHAT: JSONObject = {"model": "parrot", "messages": [{"role": "user", "content": "Say it."}]}
TEXT: JSONObject = {"model": "parrot", "prompt": "Once"}

Script = Callable[[Words | None], Awaitable[Answer]]


def token(text: str, logprob: float | None = None, *top: tuple[str, float]) -> JSONObject:
    return {"token": len(text), "text": text, "logprob": logprob, "top": [list(pair) for pair in top]}


def piece(text: str, index: int = 0, *tokens: JSONObject) -> JSONObject:
    return {"index": index, "text": text, "tokens": list(tokens)}


def choice(text: str, index: int = 0, finish: str = "stop", *tokens: JSONObject) -> JSONObject:
    return {"index": index, "text": text, "finish": finish, "tokens": list(tokens), "detail": ""}


def spoken(*choices: JSONObject) -> Answer:
    return Answer(
        action=ACTION,
        result={"content": [], "structuredContent": {"choices": list(choices), "usage": USAGE}},
    )


def says(answer: Answer, *pieces: JSONObject) -> Script:
    """Says these pieces, a turn of the loop between them, and answers."""

    async def script(words: Words | None) -> Answer:
        for one in pieces:
            if words:
                words(one)
            await asyncio.sleep(0)
        return answer

    return script


def refuses(code: Code, ticket: str = "") -> Script:
    return says(Answer(action=ACTION, code=code, ticket=ticket))


def raises(why: Exception) -> Script:
    async def script(words: Words | None) -> Answer:
        raise why

    return script


@dataclass
class Speaker:
    """Implements `ModelCorridor`: every name is a token, `revoked` holds those that no longer stand."""

    script: Script = field(
        default_factory=lambda: says(spoken(choice("Hello there.")), piece("Hello"), piece(" there."))
    )
    revoked: set[str] = field(default_factory=set)
    asked: list[tuple[str, JSONObject]] = field(default_factory=list)
    resumed: list[str] = field(default_factory=list)
    kept: list[JSONObject] = field(default_factory=list)
    running: set[str] = field(default_factory=set)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    model: str = "parrot"
    window: int = 64

    def admit(self, credential: str) -> Subject | Unauthorised:
        if credential in self.revoked or not credential.startswith("tok-"):
            return Unauthorised("the token is not one of this gateway's")
        return subject(credential.removeprefix("tok-"), root=credential)

    def is_live(self, subject: Subject) -> bool:
        return f"tok-{subject.principal}" not in self.revoked

    async def generate(
        self, subject: Subject, arguments: JSONObject, words: Words | None = None, *, on_begun: Begun | None = None
    ) -> Answer:
        self.asked.append((subject.principal, arguments))
        return await self._speak(words, on_begun)

    async def resume(
        self, subject: Subject, generation: str, words: Words | None = None, *, on_begun: Begun | None = None
    ) -> Answer:
        self.resumed.append(generation)
        return await self._speak(words, on_begun)

    async def suspend(self, subject: Subject, generation: str) -> bool:
        return generation in self.running

    async def generations(self, subject: Subject) -> list[JSONObject]:
        return self.kept

    async def _speak(self, words: Words | None, on_begun: Begun | None) -> Answer:
        if on_begun:
            on_begun(ACTION)
        self.started.set()
        try:
            return await self.script(words)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


@dataclass
class Forever:
    """A script that says its pieces and then waits until it is let go, or is cancelled."""

    pieces: list[JSONObject] = field(default_factory=list)
    answer: Answer = field(default_factory=lambda: spoken(choice("")))
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, words: Words | None) -> Answer:
        for one in self.pieces:
            if words:
                words(one)
        await self.go_on.wait()
        return self.answer


def edge(speaker: Speaker | None, keep_alive_s: float = 10.0) -> ModelEdge:
    return ModelEdge(speaker, public="http://127.0.0.1:8808", clock=lambda: 1000.0, keep_alive_s=keep_alive_s)


def post(app: ModelEdge, body: JSONObject | bytes = b"", path: str = "/v1/chat/completions", **given: Any) -> Post:
    """One request put to the application directly; the path is the raw one."""
    return Post(app, body if isinstance(body, bytes) else json.dumps(body).encode(), path=path, **given)


def code(asked: Post) -> str:
    return str(asked.answer["error"]["code"])


def events(asked: Post) -> list[Any]:
    """What a stream said, comments left out."""
    blocks = [block for block in asked.content.decode().split("\n\n") if block.startswith("data: ")]
    return [block if block == "data: [DONE]" else json.loads(block.removeprefix("data: ")) for block in blocks]


OVERLONG = LlmRefused(
    "context_length_exceeded", "the window is 64 tokens; the prompt has 60 and max_tokens asks for 16"
)
