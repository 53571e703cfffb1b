"""The `/v1` application: whom it hears, what is asked, and how the answer leaves.

    host, origin, path, verb, media type    before the body (`wire/http.py`, `routes.py`)
    who                                     the corridor admits the token, at every request
    body                                    bounded in size, time and depth (`bodies.py`)
    the generation                          one action of the corridor, in flight (`generations.py`)

Any refusal has OpenAI's shape (`failures.py`). No page of a browser is answered: there is no CORS.
"""

import time
from collections.abc import Callable

import msgspec

from gateway.edges.asgi import ClientGone, Receive, Scope, Send, read_body, write
from gateway.edges.http import LOOPBACK, STRANGER_BODY
from gateway.edges.openai import bodies, failures
from gateway.edges.openai.answers import CHAT, TEXT, Form, listed, model_of
from gateway.edges.openai.failures import FIELDS, Failure
from gateway.edges.openai.generations import Exchange, Generations, Wanted
from gateway.edges.openai.routes import Route, find
from gateway.edges.openai.stream import KEEP_ALIVE_S
from gateway.errors import LlmRefused, Unrecordable
from gateway.ports import ModelCorridor, Unauthorised
from gateway.wire.http import MAX_BODY, Door, Head, Reply
from policies.action import Subject
from policies.jsonvalue import JSONObject


class ModelEdge:
    """The gateway's face to clients of a model; without a corridor it says how to have one."""

    def __init__(
        self,
        corridor: ModelCorridor | None,
        *,
        public: str,
        hosts: frozenset[str] = LOOPBACK,
        clock: Callable[[], float] = time.time,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self._corridor = corridor
        self._door = Door(hosts, public)
        self._clock = clock
        self._since = int(clock())
        self._generations = Generations(keep_alive_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            answer = await self._answer(scope, receive, send)
        except ClientGone:
            return
        except Unrecordable:
            answer = failures.UNRECORDABLE
        except LlmRefused as why:
            answer = failures.refused(why)
        match answer:
            case Failure():
                await write(answer.reply(), send)
            case dict():
                await write(Reply(200, msgspec.json.encode(answer), FIELDS), send)
            case None:
                pass

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> JSONObject | Failure | None:
        """What one request is answered; None where its answer was streamed, or nobody is there to read it."""
        head = Head.of(scope["method"], scope["raw_path"], None, scope["headers"])
        if turned_away := self._door.objection(head):
            return failures.turned_away(*turned_away)
        if self._corridor is None:
            return failures.UNCONFIGURED
        found = find(head)
        if isinstance(found, Failure):
            return found
        subject = _admit(self._corridor, head)
        if isinstance(subject, Unauthorised):
            await read_body(receive, STRANGER_BODY)
            return failures.unauthorised(subject)
        body = await read_body(receive, MAX_BODY)
        if isinstance(body, Reply):
            return failures.unread(body, MAX_BODY)
        exchange = Exchange(self._corridor, subject, receive, send)
        return await self._routed(exchange, *found, body)

    async def _routed(self, exchange: Exchange, route: Route, name: str, body: bytes) -> JSONObject | Failure | None:
        corridor = exchange.corridor
        match route:
            case Route.MODELS:
                return listed([self._model(corridor)])
            case Route.MODEL:
                known = name == corridor.model
                return self._model(corridor) if known else failures.model_not_found(name, corridor.model)
            case Route.CHAT:
                return await self._complete(exchange, bodies.chat(body), CHAT)
            case Route.TEXT:
                return await self._complete(exchange, bodies.text(body), TEXT)
            case Route.GENERATIONS:
                return listed(await corridor.generations(exchange.subject))
            case Route.SUSPEND:
                if not await corridor.suspend(exchange.subject, name):
                    return failures.generation_not_found(name)
                return {"id": name, "object": "generation", "state": "suspended"}
            case Route.RESUME:
                return await self._resume(exchange, name, bodies.resumed(body))

    async def _complete(
        self, exchange: Exchange, asked: bodies.Asked | Failure, form: Form
    ) -> JSONObject | Failure | None:
        if isinstance(asked, Failure):
            return asked
        corridor, subject = exchange.corridor, exchange.subject
        if asked.model != corridor.model:
            return failures.model_not_found(asked.model, corridor.model)
        wanted = Wanted(
            begin=lambda words, begun: corridor.generate(subject, asked.arguments, words, on_begun=begun),
            form=form,
            created=int(self._clock()),
            how=asked.how,
        )
        return await self._generations.run(exchange, wanted)

    async def _resume(
        self, exchange: Exchange, generation: str, how: bodies.How | Failure
    ) -> JSONObject | Failure | None:
        if isinstance(how, Failure):
            return how
        corridor, subject = exchange.corridor, exchange.subject
        kept = {one["id"]: one for one in await corridor.generations(subject)}.get(generation)
        if kept is None:
            return failures.generation_not_found(generation)
        wanted = Wanted(
            begin=lambda words, begun: corridor.resume(subject, generation, words, on_begun=begun),
            form=CHAT if kept["kind"] == "chat" else TEXT,
            created=int(self._clock()),
            how=how,
        )
        return await self._generations.run(exchange, wanted)

    def _model(self, corridor: ModelCorridor) -> JSONObject:
        return model_of(corridor.model, corridor.window, self._since)


def _admit(corridor: ModelCorridor, head: Head) -> Subject | Unauthorised:
    credential = head.credential
    if credential is None:
        return Unauthorised("a capability token is needed as the API key; `pratique grant` makes one")
    return corridor.admit(credential)
