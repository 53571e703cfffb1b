"""The `/v1` application from its ASGI side: who is heard, how each refusal reads, and what a slow reader is sent."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

import pytest
from support.edge import Post
from support.speaker import (
    ACTION,
    CHAT,
    OVERLONG,
    TEXT,
    Forever,
    Speaker,
    choice,
    code,
    edge,
    events,
    piece,
    post,
    raises,
    refuses,
    says,
    spoken,
    token,
)

from gateway.edges.openai.edge import ModelEdge
from gateway.edges.openai.generations import MAX_GENERATIONS
from gateway.errors import LlmRefused, Unrecordable
from gateway.ports import Answer, Words
from gateway.wire.answers import SENTENCES
from gateway.wire.http import MAX_BODY
from policies.jsonvalue import JSONObject
from policies.verdict import Code

STREAMED = {**CHAT, "stream": True}


@pytest.fixture
def speaker() -> Speaker:
    return Speaker()


@pytest.fixture
def app(speaker: Speaker) -> ModelEdge:
    return edge(speaker)


# ---- who is heard -----------------------------------------------------------------------------------------------


@pytest.mark.promise("no-rebinding")
@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost:1:2"])
async def test_another_name_for_our_address_is_not_answered(app: ModelEdge, speaker: Speaker, host: str) -> None:
    asked = await post(app, CHAT, fields={"host": host})()
    assert (asked.status, code(asked), speaker.asked) == (421, "turned_away", [])


@pytest.mark.promise("no-cross-site")
@pytest.mark.parametrize("origin", ["https://evil.example", "null", "file://", "http://127.0.0.1.evil.example"])
async def test_a_page_of_somewhere_else_is_turned_away(app: ModelEdge, speaker: Speaker, origin: str) -> None:
    asked = await post(app, CHAT, fields={"origin": origin})()
    assert (asked.status, code(asked), speaker.asked) == (403, "turned_away", [])
    assert not any(name.startswith("access-control-") for name in asked.head)


async def test_a_field_that_decides_may_not_come_twice(app: ModelEdge, speaker: Speaker) -> None:
    class Doubled(Post):
        async def __call__(self) -> Post:
            inner = self.app

            async def doubling(scope: Any, receive: Any, send: Any) -> None:
                await inner(
                    {**scope, "headers": [*scope["headers"], (b"authorization", b"Bearer tok-bob")]}, receive, send
                )

            self.app = doubling
            return await Post.__call__(self)

    asked = await Doubled(app, json.dumps(CHAT).encode(), path="/v1/chat/completions")()
    assert (asked.status, speaker.asked) == (400, [])


@pytest.mark.promise("exact-routes")
@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1/chat/completions/",
        "/v1//chat/completions",
        "/v1/chat%2fcompletions",
        "/v1/./completions",
        "/V1/completions",
        "/v1/generations/act_1/../act_2/resume",
        "/v1/generations/task_1/resume",
        "/v1/generations/act_A/resume",
        f"/v1/generations/act_{'a' * 65}/resume",
        "/v1/embeddings",
        "/v1/models/é",
    ],
)
async def test_a_path_that_is_not_spelled_as_a_route_is_not_found(app: ModelEdge, speaker: Speaker, path: str) -> None:
    asked = await post(app, CHAT, path)()
    assert (asked.status, code(asked), speaker.asked, speaker.resumed) == (404, "unknown_url", [], [])


@pytest.mark.parametrize(
    ("verb", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("OPTIONS", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/parrot", "GET"),
        ("GET", f"/v1/generations/{ACTION}/suspend", "POST"),
    ],
)
async def test_another_verb_names_the_one_there_is(app: ModelEdge, verb: str, path: str, allowed: str) -> None:
    asked = await post(app, path=path, verb=verb)()
    assert (asked.status, asked.head["allow"]) == (405, allowed)
    assert not any(name.startswith("access-control-") for name in asked.head)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
async def test_a_body_of_another_type_is_not_read(app: ModelEdge, speaker: Speaker, media_type: str) -> None:
    asked = await post(app, CHAT, fields={"content-type": media_type})()
    assert (asked.status, speaker.asked) == (415, [])


@pytest.mark.promise("token-or-401")
@pytest.mark.parametrize("token", [None, "foreign", ""])
@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/completions"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/parrot"),
        ("GET", "/v1/generations"),
        ("POST", f"/v1/generations/{ACTION}/suspend"),
        ("POST", f"/v1/generations/{ACTION}/resume"),
    ],
)
async def test_nothing_is_answered_without_a_token(token: str | None, verb: str, path: str) -> None:
    speaker = Speaker(running={ACTION}, kept=[{"id": ACTION, "kind": "chat"}])
    asked = await post(edge(speaker), CHAT, path, verb=verb, token=token)()
    assert (asked.status, code(asked)) == (401, "invalid_api_key")
    assert "www-authenticate" in asked.head
    assert (speaker.asked, speaker.resumed) == ([], [])


async def test_a_token_in_the_query_or_the_body_is_none(app: ModelEdge) -> None:
    asked = await post(app, {**CHAT, "api_key": "tok-alice"}, token=None)()
    assert asked.status == 401


async def test_without_a_model_it_says_how_to_have_one() -> None:
    for verb, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/v1/nothing")):
        asked = await post(edge(None), CHAT, path, verb=verb)()
        assert (asked.status, code(asked)) == (404, "model_not_configured")
        assert "[llm]" in asked.answer["error"]["message"]
    assert (await post(edge(None), CHAT, fields={"host": "evil.example"})()).status == 421


# ---- what is sent -----------------------------------------------------------------------------------------------

DEEP = b"[" * 200 + b"]" * 200
BODIES = {
    "empty": b"",
    "no JSON": b'{"model":',
    "no object": b"[]",
    "not UTF-8": b'{"model":"\xff"}',
    "a lone surrogate": b'{"model":"parrot","messages":[{"role":"user","content":"\\ud800"}]}',
    "nested deeply": b'{"model":"parrot","messages":[{"role":"user","content":"x"}],"metadata":' + DEEP + b"}",
    "nested without end": b'{"metadata":' + b"[" * 100_000,
    "a number beyond doubles": b'{"model":"parrot","temperature":1e999,"messages":[]}',
}


@pytest.mark.promise("bad-requests-run-nothing")
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_body_off_the_rails_is_a_400(app: ModelEdge, speaker: Speaker, body: bytes) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", f"/v1/generations/{ACTION}/resume"):
        asked = await post(app, body or b" ", path)()
        assert asked.status == 400
    assert (speaker.asked, speaker.resumed) == ([], [])


async def test_a_body_over_the_bound_is_a_413(app: ModelEdge, speaker: Speaker) -> None:
    asked = await post(app, json.dumps(CHAT).encode() + b" " * MAX_BODY)()
    assert (asked.status, code(asked), speaker.asked) == (413, "too_large", [])


async def test_of_a_key_that_comes_twice_the_last_one_is_all_there_is(app: ModelEdge, speaker: Speaker) -> None:
    await post(app, b'{"model":"x","model":"parrot","messages":[],"messages":[{"role":"user","content":"b"}]}')()
    assert speaker.asked == [("alice", {"messages": [{"role": "user", "content": "b"}]})]


# ---- how it says no ---------------------------------------------------------------------------------------------

STATUSES = {
    Code.UNKNOWN_TOOL: (404, "false"),
    Code.NOT_MEDIATED: (403, "false"),
    Code.DEFINITION_CHANGED: (403, "false"),
    Code.ARGUMENTS_INVALID: (400, "false"),
    Code.NO_CAPABILITY: (403, "false"),
    Code.CAPABILITY_EXHAUSTED: (429, "false"),
    Code.REVOKED: (401, "false"),
    Code.UNPROVEN: (403, "false"),
    Code.FLOW_REFUSED: (403, "false"),
    Code.POLICY_REFUSED: (403, "false"),
    Code.NO_SANDBOX: (403, "false"),
    Code.PENDING: (403, "false"),
    Code.DENIED_BY_PERSON: (403, "false"),
    Code.EXPIRED: (403, "false"),
    Code.DUPLICATE: (409, "false"),
    Code.UPSTREAM_FAILED: (502, "false"),
    Code.UPSTREAM_TIMEOUT: (504, "false"),
    Code.UNKNOWN_OUTCOME: (502, "false"),
    Code.OVERLOADED: (429, "true"),
    Code.UNAVAILABLE: (503, "true"),
}


@pytest.mark.parametrize("refusal", Code)
async def test_each_decision_has_its_status_its_code_and_a_constant_sentence(refusal: Code) -> None:
    speaker = Speaker(refuses(refusal))
    whole = await post(edge(speaker), CHAT)()
    streamed = await post(edge(speaker), STREAMED)()

    assert (whole.status, whole.head["x-should-retry"]) == STATUSES[refusal]
    assert ("retry-after" in whole.head) == (whole.head["x-should-retry"] == "true")
    assert set(whole.answer["error"]) == {"message", "type", "param", "code", "action"}
    assert (code(whole), whole.answer["error"]["action"]) == (refusal.value, ACTION)
    if STATUSES[refusal][0] == 403:
        assert whole.answer["error"]["message"] == SENTENCES[refusal]
    assert "tool's server" not in whole.answer["error"]["message"]
    assert (streamed.status, streamed.content) == (whole.status, whole.content), (
        "a refusal before any word has a status"
    )


@pytest.mark.parametrize(
    ("why", "status"),
    [
        (OVERLONG, 400),
        (LlmRefused("invalid_value", "temperature is below 0"), 400),
        (LlmRefused("overloaded", "the queue is full"), 429),
        (LlmRefused("quota", "its share is used up"), 429),
        (LlmRefused("unavailable", "the model is being loaded"), 503),
        (LlmRefused("generation_not_found", "nothing is kept of it"), 404),
    ],
)
async def test_what_the_model_cannot_take_says_why(why: LlmRefused, status: int) -> None:
    for body in (CHAT, STREAMED):
        asked = await post(edge(Speaker(raises(why))), body)()
        assert (asked.status, code(asked)) == (status, why.code)
        assert asked.answer["error"]["message"] == f"{why}."


async def test_a_gateway_that_cannot_record_is_unavailable(app: ModelEdge, speaker: Speaker) -> None:
    speaker.script = raises(Unrecordable("the disk is full"))
    for body in (CHAT, STREAMED):
        asked = await post(app, body)()
        assert (asked.status, code(asked)) == (503, "unavailable")
        assert b"disk" not in asked.content


@pytest.mark.parametrize(("finish", "status"), [("failed", 500), ("cancelled", 409), ("suspended", 409)])
async def test_a_generation_that_did_not_end_by_itself_has_no_completion(finish: str, status: int) -> None:
    script = says(spoken(choice("so far", 0, "stop"), choice("so f", 1, finish)), piece("so far"))
    whole = await post(edge(Speaker(script)), CHAT)()
    streamed = await post(edge(Speaker(script)), STREAMED)()

    assert whole.status == status
    assert (streamed.status, events(streamed)[-1]) == (200, whole.answer)
    assert whole.answer["error"]["action"] == ACTION
    assert (f"/v1/generations/{ACTION}/resume" in whole.answer["error"]["message"]) == (finish == "suspended")


async def test_a_models_own_error_is_not_taken_for_a_completion(app: ModelEdge, speaker: Speaker) -> None:
    result = {"isError": True, "content": [{"type": "text", "text": "inner details"}]}
    speaker.script = says(Answer(action=ACTION, result=result))
    asked = await post(app, CHAT)()
    assert (asked.status, code(asked)) == (502, "upstream_failed")
    assert b"inner" not in asked.content


# ---- what a reader is sent --------------------------------------------------------------------------------------


async def test_a_stream_is_events_that_end_with_done(app: ModelEdge) -> None:
    asked = await post(app, {**STREAMED, "stream_options": {"include_usage": True}})()
    said = events(asked)

    assert (asked.status, asked.head["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert said[-1] == "data: [DONE]"
    assert said[-2]["usage"]["total_tokens"] == 17
    assert {one["object"] for one in said[:-1]} == {"chat.completion.chunk"}
    assert [message.get("more_body") for message in asked.sent[1:]][-1] is False


async def test_without_being_asked_for_no_count_is_streamed(app: ModelEdge) -> None:
    assert all(one["choices"] for one in events(await post(app, STREAMED)())[:-1])


async def test_tokens_that_nobody_asked_the_likelihood_of_are_not_shown(app: ModelEdge, speaker: Speaker) -> None:
    speaker.script = says(spoken(choice("Hey", 0, "stop", token("Hey"))), piece("Hey", 0, token("Hey")))
    assert (await post(app, CHAT)()).answer["choices"][0]["logprobs"] is None
    assert all(one["choices"][0]["logprobs"] is None for one in events(await post(app, STREAMED)())[:-1])


async def test_a_likelihood_is_always_a_number_and_a_broken_character_has_no_bytes(
    app: ModelEdge, speaker: Speaker
) -> None:
    never = token("\ufffd", -0.5, ("\ufffd", -0.5), ("x", float("-inf")))
    speaker.script = says(spoken(choice("é", 0, "stop", never)))
    (told,) = (await post(app, CHAT)()).answer["choices"][0]["logprobs"]["content"]
    assert told["bytes"] is None
    assert told["top_logprobs"][1] == {"token": "x", "logprob": -9999.0, "bytes": [120]}

    text = await post(app, TEXT, "/v1/completions")()
    assert text.answer["choices"][0]["logprobs"]["top_logprobs"] == [{"\ufffd": -0.5, "x": -9999.0}]


class Stalled(Post):
    """A reader that takes nothing of the body until it is let."""

    def __init__(self, app: ModelEdge, body: JSONObject) -> None:
        super().__init__(app, json.dumps(body).encode(), path="/v1/chat/completions")
        self.reads = asyncio.Event()
        self.blocked = asyncio.Event()
        self.cut = asyncio.Event()
        """What it was being sent was given up."""

    async def __call__(self) -> Post:
        inner = self.app

        async def stalled(scope: Any, receive: Any, send: Any) -> None:
            async def late(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.body":
                    await self._until_read()
                await send(message)

            await inner(scope, receive, late)

        self.app = stalled
        return await super().__call__()

    async def _until_read(self) -> None:
        self.blocked.set()
        try:
            await self.reads.wait()
        except asyncio.CancelledError:
            self.cut.set()
            raise


@pytest.mark.promise("slow-readers-bounded")
async def test_a_reader_that_is_slow_gets_what_came_meanwhile_in_one_piece() -> None:
    words = [f"w{number} " for number in range(500)]
    reader: Stalled

    async def script(heard: Words | None) -> Answer:
        assert heard
        heard(piece(words[0]))
        await reader.blocked.wait()
        for word in words[1:]:
            heard(piece(word))
        reader.reads.set()
        return spoken(choice("".join(words)))

    reader = Stalled(edge(Speaker(script)), STREAMED)
    asked = await reader()

    assert "".join(one["choices"][0]["delta"].get("content", "") for one in events(asked)[:-1]) == "".join(words)
    assert len(asked.sent) <= 4, "the head, the first words, the rest, the end"


async def test_a_token_revoked_under_a_reader_that_stalls_ends_the_generation_all_the_same() -> None:
    reader: Stalled

    async def script(heard: Words | None) -> Answer:
        assert heard
        heard(piece("Once"))
        await reader.blocked.wait()
        heard(piece(" upon a time"))
        speaker.revoked.add("tok-alice")
        return await Forever()(heard)

    speaker = Speaker(script)
    reader = Stalled(edge(speaker), STREAMED)
    asking = asyncio.create_task(reader())
    await speaker.cancelled.wait()
    reader.reads.set()
    asked = await asking

    assert events(asked)[-1]["error"]["code"] == "revoked"
    assert b"upon a time" not in asked.content


async def test_words_that_came_while_a_reader_was_slow_are_sent_before_an_error() -> None:
    reader: Stalled

    async def script(heard: Words | None) -> Answer:
        assert heard
        heard(piece("Once"))
        await reader.blocked.wait()
        heard(piece(" upon a time"))
        reader.reads.set()
        return Answer(action=ACTION, code=Code.UPSTREAM_FAILED)

    reader = Stalled(edge(Speaker(script)), STREAMED)
    said = events(await reader())

    assert "".join(one["choices"][0]["delta"]["content"] for one in said[:-1]) == "Once upon a time"
    assert said[-1]["error"]["code"] == "upstream_failed"


@pytest.mark.promise("revoked-generation-ends")
async def test_what_was_generated_but_not_read_yet_ends_with_its_token_too() -> None:
    script = Forever([piece("Once")], spoken(choice("Once upon a time")))
    speaker = Speaker(script)
    reader = Stalled(edge(speaker), STREAMED)
    asking = asyncio.create_task(reader())
    await reader.blocked.wait()
    script.go_on.set()
    speaker.revoked.add("tok-alice")
    await reader.cut.wait()
    reader.reads.set()
    asked = await asking

    assert events(asked)[-1]["error"]["code"] == "revoked"
    assert b"upon a time" not in asked.content


class Listener(Post):
    """A reader that lets a script go on once it has heard `enough` parts of the body."""

    enough = 2

    def __init__(self, app: ModelEdge, body: JSONObject, go_on: asyncio.Event) -> None:
        super().__init__(app, json.dumps(body).encode(), path="/v1/chat/completions")
        self.sent = _Counted(1 + self.enough, go_on)


class _Counted(list[Any]):
    def __init__(self, enough: int, reached: asyncio.Event) -> None:
        super().__init__()
        self._enough, self._reached = enough, reached

    def append(self, message: Any) -> None:
        super().append(message)
        if len(self) >= self._enough:
            self._reached.set()


async def test_a_silence_is_filled_with_comments_and_then_a_refusal_is_an_event() -> None:
    script = Forever(answer=Answer(action=ACTION, code=Code.DENIED_BY_PERSON))
    asked = await Listener(edge(Speaker(script), keep_alive_s=0.01), STREAMED, script.go_on)()

    assert asked.status == 200
    assert asked.content.startswith(b": waiting\n\n: waiting\n\n")
    assert [one["error"]["code"] for one in events(asked)] == ["denied_by_person"]


@pytest.mark.promise("gone-client-cancels")
@pytest.mark.parametrize("body", [CHAT, STREAMED])
async def test_a_client_that_has_gone_cancels_its_generation(body: JSONObject) -> None:
    speaker = Speaker(Forever([piece("Once")]))
    asked = post(edge(speaker), body)
    asking = asyncio.create_task(asked())
    await speaker.started.wait()
    asked.closed.set()
    await asking

    assert speaker.cancelled.is_set()
    assert b"error" not in asked.content


# ---- how many ---------------------------------------------------------------------------------------------------


async def test_one_grant_cannot_hold_more_than_its_share_of_generations() -> None:
    speaker = Speaker(forever := Forever())
    app, full = edge(speaker), asyncio.Event()

    async def counted(words: Words | None) -> Answer:
        if len(speaker.asked) == MAX_GENERATIONS:
            full.set()
        return await forever(words)

    speaker.script = counted
    held = [post(app, CHAT) for _ in range(MAX_GENERATIONS)]
    holding = [asyncio.create_task(one()) for one in held]
    await full.wait()

    assert code(await post(app, CHAT)()) == "overloaded"
    speaker.script = says(spoken(choice("There is room for others.")))
    assert (await post(app, CHAT, token="tok-bob")()).status == 200
    for one in held:
        one.closed.set()
    await asyncio.gather(*holding)
    assert (await post(app, CHAT)()).status == 200, "whoever goes gives its place back"
