"""OpenAI's own Python client against the `/v1` edge over a real socket: what it reads, and what it raises."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI
from support.edge import served
from support.speaker import (
    ACTION,
    CHAT,
    OVERLONG,
    TEXT,
    Forever,
    Speaker,
    choice,
    edge,
    piece,
    raises,
    refuses,
    says,
    spoken,
    token,
)

from gateway.errors import LlmRefused
from gateway.ports import Answer, Words
from policies.verdict import Code


@asynccontextmanager
async def client(speaker: Speaker, key: str = "tok-alice") -> AsyncIterator[AsyncOpenAI]:
    async with served(edge(speaker)) as url, AsyncOpenAI(base_url=f"{url}/v1", api_key=key, timeout=30) as connected:
        yield connected


# ---- what it reads ----------------------------------------------------------------------------------------------


async def test_a_chat_is_answered_whole() -> None:
    async with client(Speaker()) as model:
        answer = await model.chat.completions.create(**CHAT)

    assert answer.id == f"chatcmpl-{ACTION}"
    assert (answer.object, answer.model, answer.created) == ("chat.completion", "parrot", 1000)
    (said,) = answer.choices
    assert (said.message.role, said.message.content, said.finish_reason) == ("assistant", "Hello there.", "stop")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (12, 5, 17)
    assert answer.usage.prompt_tokens_details.cached_tokens == 8


async def test_a_chat_streams_its_role_its_words_its_end_and_its_count() -> None:
    async with client(Speaker()) as model:
        stream = await model.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]

    assert {chunk.id for chunk in chunks} == {f"chatcmpl-{ACTION}"}
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Hello there."
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]][-1] == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 17


async def test_a_text_goes_on_whole_and_streamed() -> None:
    async with client(Speaker()) as model:
        whole = await model.completions.create(**TEXT)
        chunks = [chunk async for chunk in await model.completions.create(**TEXT, stream=True)]

    assert (whole.id, whole.object) == (f"cmpl-{ACTION}", "text_completion")
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("Hello there.", "stop")
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Hello there."
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_samples_are_told_apart_in_a_stream() -> None:
    pieces = [piece("a"), piece("x", 1), piece("b"), piece("y", 1)]
    speaker = Speaker(says(spoken(choice("ab"), choice("xy", 1, "length")), *pieces))
    async with client(speaker) as model:
        stream = await model.chat.completions.create(**CHAT, n=2, stream=True)
        text, roles, ends = {0: "", 1: ""}, [], {}
        async for chunk in stream:
            (said,) = chunk.choices
            text[said.index] += said.delta.content or ""
            roles += [said.index] if said.delta.role else []
            ends |= {said.index: said.finish_reason} if said.finish_reason else {}

    assert (text, sorted(roles), ends) == ({0: "ab", 1: "xy"}, [0, 1], {0: "stop", 1: "length"})


LIKELY = (token("He", -0.5, ("He", -0.5), ("Ha", -1.5)), token("y", -0.25, ("y", -0.25)))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chats_log_probabilities_are_read(stream: bool) -> None:
    pieces = [piece("He", 0, LIKELY[0]), piece("y", 0, LIKELY[1])]
    async with client(Speaker(says(spoken(choice("Hey", 0, "stop", *LIKELY)), *pieces))) as model:
        asked: Any = {**CHAT, "logprobs": True, "top_logprobs": 2}
        if stream:
            chunks = [chunk async for chunk in await model.chat.completions.create(**asked, stream=True)]
            tokens = [one for chunk in chunks if chunk.choices[0].logprobs for one in chunk.choices[0].logprobs.content]
        else:
            tokens = (await model.chat.completions.create(**asked)).choices[0].logprobs.content

    assert [(one.token, one.logprob, one.bytes) for one in tokens] == [("He", -0.5, [72, 101]), ("y", -0.25, [121])]
    assert [(one.token, one.logprob) for one in tokens[0].top_logprobs] == [("He", -0.5), ("Ha", -1.5)]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_texts_log_probabilities_are_read(stream: bool) -> None:
    pieces = [piece("He", 0, LIKELY[0]), piece("y", 0, LIKELY[1])]
    async with client(Speaker(says(spoken(choice("Hey", 0, "stop", *LIKELY)), *pieces))) as model:
        if stream:
            chunks = [chunk async for chunk in await model.completions.create(**TEXT, logprobs=2, stream=True)]
            told = [chunk.choices[0].logprobs for chunk in chunks if chunk.choices[0].logprobs]
        else:
            told = [(await model.completions.create(**TEXT, logprobs=2)).choices[0].logprobs]

    assert [text for one in told for text in one.tokens] == ["He", "y"]
    assert [offset for one in told for offset in one.text_offset] == [0, 2]
    assert told[0].top_logprobs[0] == {"He": -0.5, "Ha": -1.5}


async def test_words_that_were_not_streamed_come_with_the_end() -> None:
    async with client(Speaker(says(spoken(choice("best of all")), piece("best")))) as model:
        stream = await model.chat.completions.create(**CHAT, stream=True, extra_body={"beam_width": 4})
        assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "best of all"


async def test_the_one_model_is_listed_and_found() -> None:
    async with client(Speaker()) as model:
        listed = [one async for one in model.models.list()]
        found = await model.models.retrieve("parrot")
        with pytest.raises(openai.NotFoundError, match="this gateway has 'parrot'"):
            await model.models.retrieve("gpt-4o")

    assert [one.id for one in listed] == ["parrot"]
    assert (found.id, found.owned_by) == ("parrot", "pratique")


async def test_what_the_client_asks_for_reaches_the_corridor() -> None:
    speaker = Speaker()
    schema = {"name": "flag", "schema": {"type": "object", "properties": {"z": {}, "a": {}}}, "strict": True}
    async with client(speaker) as model:
        await model.chat.completions.create(
            model="parrot",
            messages=[
                {"role": "developer", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]},
            ],
            max_completion_tokens=7,
            n=2,
            temperature=0,
            top_p=0.5,
            presence_penalty=1,
            frequency_penalty=-1,
            seed=5,
            stop="END",
            logprobs=True,
            top_logprobs=3,
            response_format={"type": "json_schema", "json_schema": schema},
            user="somebody",
            store=False,
            extra_body={"top_k": 9},
        )

    assert speaker.asked == [
        (
            "alice",
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "One.\nTwo."},
                ],
                "max_tokens": 7,
                "n": 2,
                "temperature": 0.0,
                "top_p": 0.5,
                "top_k": 9,
                "presence_penalty": 1.0,
                "frequency_penalty": -1.0,
                "seed": 5,
                "stop": ["END"],
                "logprobs": 3,
                "grammar": {"kind": "json_schema", "text": '{"type":"object","properties":{"z":{},"a":{}}}'},
            },
        )
    ]


async def test_an_answer_can_be_sent_back_as_a_part_of_the_conversation() -> None:
    speaker = Speaker()
    async with client(speaker) as model:
        first = await model.chat.completions.create(**CHAT)
        messages: Any = [
            *CHAT["messages"],
            first.choices[0].message.model_dump(),
            {"role": "user", "content": "Again."},
        ]
        await model.chat.completions.create(model="parrot", messages=messages)

    assert speaker.asked[1][1]["messages"][1] == {"role": "assistant", "content": "Hello there."}


# ---- what it raises ---------------------------------------------------------------------------------------------

RAISED: list[tuple[Any, type[openai.APIStatusError], str, int]] = [
    (refuses(Code.NO_CAPABILITY), openai.PermissionDeniedError, "no_capability", 1),
    (refuses(Code.PENDING, "apr_7"), openai.PermissionDeniedError, "pending", 1),
    (refuses(Code.REVOKED), openai.AuthenticationError, "revoked", 1),
    (refuses(Code.ARGUMENTS_INVALID), openai.BadRequestError, "arguments_invalid", 1),
    (refuses(Code.DUPLICATE), openai.ConflictError, "duplicate", 1),
    (refuses(Code.CAPABILITY_EXHAUSTED), openai.RateLimitError, "capability_exhausted", 1),
    (refuses(Code.UPSTREAM_FAILED), openai.InternalServerError, "upstream_failed", 1),
    (refuses(Code.UPSTREAM_TIMEOUT), openai.InternalServerError, "upstream_timeout", 1),
    (raises(OVERLONG), openai.BadRequestError, "context_length_exceeded", 1),
    (raises(LlmRefused("quota", "its share of the queue is used up")), openai.RateLimitError, "quota", 1),
    (says(spoken(choice("", 0, "failed"))), openai.InternalServerError, "generation_failed", 1),
    (says(spoken(choice("so far", 0, "suspended"))), openai.ConflictError, "suspended", 1),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("script", "error", "code", "times"), RAISED, ids=[row[2] for row in RAISED])
async def test_a_refusal_is_the_clients_own_error_and_is_not_asked_again(
    script: Any, error: type[openai.APIStatusError], code: str, times: int, stream: bool
) -> None:
    speaker = Speaker(script)
    async with client(speaker) as model:
        with pytest.raises(error) as raised:
            await model.chat.completions.create(**CHAT, stream=stream)

    assert raised.value.code == code
    assert len(speaker.asked) == times, "the client repeats 409, 429 and 5xx by itself, unless it is told not to"


async def test_a_question_to_a_person_names_its_ticket_and_its_action() -> None:
    async with client(Speaker(refuses(Code.PENDING, "apr_7"))) as model:
        with pytest.raises(openai.PermissionDeniedError) as raised:
            await model.chat.completions.create(**CHAT)

    body: Any = raised.value.body
    assert (body["ticket"], body["action"]) == ("apr_7", ACTION)


async def test_a_gateway_that_is_full_is_asked_again() -> None:
    answers = iter([refuses(Code.OVERLOADED), says(spoken(choice("There was room.")))])

    async def full_once(words: Words | None) -> Answer:
        return await next(answers)(words)

    speaker = Speaker(full_once)
    async with client(speaker) as model:
        answer = await model.chat.completions.create(**CHAT)

    assert answer.choices[0].message.content == "There was room."
    assert len(speaker.asked) == 2


async def test_a_key_that_is_no_token_is_an_authentication_error() -> None:
    speaker = Speaker()
    async with client(speaker, key="sk-something") as model:
        with pytest.raises(openai.AuthenticationError, match="not one of this gateway's"):
            await model.chat.completions.create(**CHAT)
    assert speaker.asked == []


async def test_another_model_is_not_found_and_this_one_is_named() -> None:
    speaker = Speaker()
    async with client(speaker) as model:
        with pytest.raises(openai.NotFoundError, match="'parrot'") as raised:
            await model.chat.completions.create(**{**CHAT, "model": "gpt-4o"})
    assert (raised.value.code, speaker.asked) == ("model_not_found", [])


# ---- what ends a stream early -----------------------------------------------------------------------------------


async def test_a_client_that_closes_its_stream_cancels_the_generation() -> None:
    speaker = Speaker(Forever([piece("Once")]))
    async with client(speaker) as model:
        stream = await model.chat.completions.create(**CHAT, stream=True)
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                break
        await stream.close()
        await speaker.cancelled.wait()


async def test_a_client_that_gives_up_waiting_cancels_the_generation() -> None:
    speaker = Speaker(Forever())
    async with client(speaker) as model:
        asking = asyncio.create_task(model.chat.completions.create(**CHAT))
        await speaker.started.wait()
        asking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asking
        await speaker.cancelled.wait()


@pytest.mark.promise("revoked-generation-ends")
@pytest.mark.parametrize("stream", [False, True])
async def test_a_token_that_is_revoked_ends_its_generation(stream: bool) -> None:
    speaker = Speaker(Forever([piece("Once")]))
    async with client(speaker) as model:
        if stream:
            opened = await model.chat.completions.create(**CHAT, stream=True)
            speaker.revoked.add("tok-alice")
            with pytest.raises(openai.APIError) as raised:
                _ = [chunk async for chunk in opened]
        else:
            asking = asyncio.create_task(model.chat.completions.create(**CHAT))
            await speaker.started.wait()
            speaker.revoked.add("tok-alice")
            with pytest.raises(openai.APIError) as raised:
                await asking
        await speaker.cancelled.wait()

    assert raised.value.code == "revoked"


async def test_what_goes_wrong_after_the_first_words_ends_the_stream_with_an_error() -> None:
    async with client(Speaker(says(Answer(action=ACTION, code=Code.UPSTREAM_FAILED), piece("Once")))) as model:
        stream = await model.chat.completions.create(**CHAT, stream=True)
        read = [(await anext(stream)).choices[0].delta.content for _ in ("its role", "its words")]
        with pytest.raises(openai.APIError, match="could not be used") as raised:
            await anext(stream)

    assert (read, raised.value.code) == (["", "Once"], "upstream_failed")


# ---- suspended ones ---------------------------------------------------------------------------------------------

KEPT = {"id": ACTION, "kind": "chat", "state": "suspended", "tokens": 3, "created": 900}


async def test_a_generation_is_suspended_listed_and_gone_on_with() -> None:
    speaker = Speaker(kept=[KEPT], running={ACTION})
    async with client(speaker) as model:
        suspended = await model.post(f"/generations/chatcmpl-{ACTION}/suspend", cast_to=dict[str, Any])
        listed = await model.get("/generations", cast_to=dict[str, Any])
        whole = await model.post(f"/generations/{ACTION}/resume", cast_to=openai.types.chat.ChatCompletion)
        stream = await model.post(
            f"/generations/{ACTION}/resume",
            body={"stream": True},
            cast_to=openai.types.chat.ChatCompletion,
            stream=True,
            stream_cls=openai.AsyncStream[openai.types.chat.ChatCompletionChunk],
        )
        again = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert suspended == {"id": ACTION, "object": "generation", "state": "suspended"}
    assert listed == {"object": "list", "data": [KEPT]}
    assert whole.choices[0].message.content == again == "Hello there."
    assert speaker.resumed == [ACTION, ACTION]


async def test_a_text_that_was_suspended_goes_on_as_a_text() -> None:
    async with client(Speaker(kept=[{**KEPT, "kind": "text"}])) as model:
        answer = await model.post(f"/generations/cmpl-{ACTION}/resume", cast_to=openai.types.Completion)
    assert (answer.id, answer.choices[0].text) == (f"cmpl-{ACTION}", "Hello there.")


async def test_a_generation_of_nobody_or_somebody_else_is_not_found() -> None:
    speaker = Speaker()
    async with client(speaker) as model:
        for verb in ("suspend", "resume"):
            with pytest.raises(openai.NotFoundError) as raised:
                await model.post(f"/generations/{ACTION}/{verb}", cast_to=dict[str, Any])
            assert raised.value.code == "generation_not_found"
    assert speaker.resumed == []
