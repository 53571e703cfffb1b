"""The `/mcp` application from its ASGI side: who is let in, what ends a call, what a restart keeps."""

import asyncio
import json

import pytest
from support.edge import Echo, Post, Rows, edge, handshake, legacy, message, modern, nowhere

from gateway.edges.calls import MAX_CALLS
from gateway.edges.http import Edge
from gateway.errors import Unrecordable
from gateway.ports import Answer, Progress
from gateway.wire.http import MAX_BODY
from gateway.wire.legacy import IDLE_S
from gateway.wire.mirrors import mirrors
from policies.action import Subject
from policies.jsonvalue import JSONObject


@pytest.fixture
def corridor() -> Echo:
    return Echo()


@pytest.fixture
def app(corridor: Echo) -> Edge:
    return edge(corridor, Rows())


def code(post: Post) -> str:
    return str(post.answer["result"]["_meta"]["dev.pratique/decision"]["code"])


async def test_any_other_path_goes_to_the_application_behind(app: Edge) -> None:
    for path in ("/", "/console", "/mcpx", "/api/v1/mcp"):
        assert (await Post(app, path=path)()).status == 418


@pytest.mark.promise("exact-routes")
async def test_a_path_that_only_decodes_to_the_route_is_not_found(app: Edge, corridor: Echo) -> None:
    post = modern(app, "tools/call", name="say", path="/mcp/bank")
    scope_path = post.path
    post.path = "/mcp/%62ank"
    assert (await post()).status == 404
    post.path = scope_path
    assert corridor.called == []


@pytest.mark.promise("unauthorised-metadata")
@pytest.mark.parametrize("token", [None, "foreign", ""])
async def test_without_a_token_of_ours_there_is_a_401_under_the_requests_id(app: Edge, token: str | None) -> None:
    post = await Post(app, message("tools/list", "q"), token=token)()

    assert post.status == 401
    assert "resource_metadata=" in post.head["www-authenticate"]
    assert post.answer["id"] == "q"
    assert post.answer["error"]["message"].startswith("Unauthorized")


async def test_the_metadata_document_needs_no_token(app: Edge) -> None:
    post = await Post(app, verb="GET", path="/.well-known/oauth-protected-resource/mcp", token=None)()
    assert post.answer["resource"] == "http://127.0.0.1:8808/mcp"


async def test_a_call_is_handed_over_and_answered_in_both_eras(app: Edge, corridor: Echo) -> None:
    session = await handshake(app)
    old = await legacy(app, session, "tools/call", name="echo__say", arguments={"text": "a"})()
    new = await modern(app, "tools/call", name="echo__say", arguments={"text": "b"})()

    assert old.answer["result"] == {"content": [{"type": "text", "text": "a"}], "x": 1}
    assert new.answer["result"] == {"content": [{"type": "text", "text": "b"}], "x": 1, "resultType": "complete"}
    assert corridor.called == [("alice", "echo", "say", {"text": "a"}), ("alice", "echo", "say", {"text": "b"})]


async def test_on_a_servers_route_names_are_its_own(app: Edge, corridor: Echo) -> None:
    session = await handshake(app, path="/mcp/bank")
    listed = await legacy(app, session, "tools/list", path="/mcp/bank")()
    await legacy(app, session, "tools/call", name="a__b", arguments={}, path="/mcp/bank")()

    assert listed.answer["result"]["tools"][0]["name"] == "say"
    assert corridor.called == [("alice", "bank", "a__b", {})]


@pytest.mark.promise("not-yet-mediated")
async def test_a_method_without_stages_is_recorded_and_refused(app: Edge, corridor: Echo) -> None:
    session = await handshake(app)
    old = await legacy(app, session, "resources/read", uri="file:///etc/passwd")()
    new = await modern(app, "prompts/get", name="p")()

    assert (old.status, old.answer["error"]["code"]) == (200, -32601)
    assert (new.status, new.answer["error"]["code"]) == (404, -32601)
    assert corridor.refused == ["resources/read", "prompts/get"]


@pytest.mark.promise("sessions-survive-restart")
async def test_a_restarted_gateway_still_knows_the_session_and_still_whose_it_is(corridor: Echo) -> None:
    rows = Rows()
    session = await handshake(edge(corridor, rows))
    restarted = edge(corridor, rows)

    assert (await legacy(restarted, session, "ping", token="tok-bob")()).status == 404
    assert (await legacy(restarted, session, "ping", path="/mcp/bank")()).status == 404
    assert (await legacy(restarted, session, "ping")()).answer["result"] == {}


async def test_a_session_ends_by_idling_and_by_delete(corridor: Echo) -> None:
    now = [0.0]
    app = edge(corridor, Rows(), clock=lambda: now[0])
    session, other = await handshake(app), await handshake(app)

    gone = Post(app, verb="DELETE", fields={"mcp-session-id": session})
    assert (await gone()).status == 200
    assert (await legacy(app, session, "ping")()).status == 404
    assert (await legacy(app, other, "ping")()).status == 200
    now[0] = 2 * IDLE_S
    assert (await legacy(app, other, "ping", "q")()).answer["id"] == "q"
    assert (await legacy(app, other, "ping")()).status == 404
    assert (await Post(app, message("ping"))()).status == 400


@pytest.mark.promise("legacy-cancel")
async def test_a_legacy_call_is_cancelled_by_message_and_still_answered(app: Edge, corridor: Echo) -> None:
    session = await handshake(app)
    post = legacy(app, session, "tools/call", 7, name="echo__say", arguments={"forever": True})
    running = asyncio.create_task(post())
    await corridor.started.wait()

    again = await legacy(app, session, "tools/call", 7, name="echo__say", arguments={})()
    assert again.answer["error"]["message"] == "a request with this id is in flight"
    stranger = await handshake(app, token="tok-bob")
    await legacy(app, stranger, "notifications/cancelled", None, token="tok-bob", requestId=7)()
    assert not corridor.cancelled.is_set()
    assert (await legacy(app, session, "notifications/cancelled", None, requestId=7)()).status == 202
    await running

    assert corridor.cancelled.is_set()
    assert post.answer["error"]["code"] == -32800


async def test_a_closed_stream_does_not_cancel_a_legacy_call_and_deleting_its_session_does(
    app: Edge, corridor: Echo
) -> None:
    session = await handshake(app)
    post = legacy(app, session, "tools/call", 7, name="echo__say", arguments={"forever": True})
    post.closed.set()
    running = asyncio.create_task(post())
    await corridor.started.wait()
    done, _ = await asyncio.wait({running}, timeout=0.2)
    assert not done

    await Post(app, verb="DELETE", fields={"mcp-session-id": session})()
    await running
    assert post.answer["error"]["code"] == -32800


@pytest.mark.promise("closed-stream-cancels")
async def test_a_closed_stream_cancels_a_modern_call(app: Edge, corridor: Echo) -> None:
    post = modern(app, "tools/call", name="echo__say", arguments={"forever": True})
    running = asyncio.create_task(post())
    await corridor.started.wait()
    post.closed.set()
    await running

    assert corridor.cancelled.is_set()
    assert post.sent == []


@pytest.mark.promise("revocation-ends-calls")
async def test_a_revoked_token_ends_its_calls_in_flight_within_a_second(app: Edge, corridor: Echo) -> None:
    session = await handshake(app)
    arguments = {"forever": True, "steps": 1}
    new = modern(app, "tools/call", name="echo__say", arguments=arguments, _meta={"progressToken": "p"})
    old = legacy(app, session, "tools/call", name="echo__say", arguments=arguments)
    running = asyncio.gather(new(), old())
    await corridor.started.wait()
    corridor.revoked.add("tok-alice")
    async with asyncio.timeout(1):
        await running

    assert code(old) == "revoked"
    assert b'"code":"revoked"' in new.content
    assert (await legacy(app, session, "ping")()).status == 401


@pytest.mark.promise("headers-match-body")
async def test_a_header_that_does_not_show_its_argument_stops_the_call_except_over_the_socket(corridor: Echo) -> None:
    wanted = mirrors({"properties": {"text": {"type": "string", "x-mcp-header": "Text"}}})
    app = Edge(corridor, Rows(), nowhere, public="http://localhost", mirrors_of=lambda _subject, _server, _tool: wanted)
    post = modern(app, "tools/call", name="echo__say", arguments={"text": "a"})
    post.fields["mcp-param-text"] = "b"
    assert ((await post()).status, post.answer["error"]["code"]) == (400, -32020)
    assert corridor.called == []

    right = modern(app, "tools/call", name="echo__say", arguments={"text": "a"})
    right.fields["mcp-param-text"] = "a"
    local = modern(app, "tools/call", name="echo__say", arguments={"text": "a"})
    local.server = ("agent.sock", None)
    assert ((await right()).status, (await local()).status) == (200, 200)


async def test_progress_turns_the_answer_into_a_stream_of_numbers(app: Edge) -> None:
    post = modern(app, "tools/call", name="echo__say", arguments={"steps": 3}, _meta={"progressToken": 0})
    await post()

    assert post.head["content-type"] == "text/event-stream"
    events = [json.loads(event.partition(b"data: ")[2]) for event in post.content.split(b"\n\n") if event]
    *progress, answer = events
    assert answer["id"] == 7
    assert progress
    assert all(event["params"].keys() == {"progressToken", "progress"} for event in progress)
    shown = [event["params"]["progress"] for event in progress]
    assert shown == sorted(set(shown))
    assert shown[-1] == 3.0


@pytest.mark.parametrize(("accept", "token"), [("application/json", {"progressToken": 1}), ("*/*", {})])
async def test_an_answer_is_plain_json_where_progress_was_not_wanted(
    app: Edge, accept: str, token: dict[str, int]
) -> None:
    post = modern(app, "tools/call", name="echo__say", arguments={"steps": 3}, _meta=token)
    post.fields["accept"] = accept
    assert (await post()).head["content-type"] == "application/json"


class Wild(Echo):
    """A corridor whose progress is what no tool should send."""

    async def call(
        self, subject: Subject, server: str, tool: str, arguments: JSONObject, progress: Progress | None = None
    ) -> Answer:
        if progress:
            for number in (float("nan"), 2.0, 2.0, 1.0, float("inf"), 3.0):
                progress(number, float("inf"))
                await asyncio.sleep(0)
        return await super().call(subject, server, tool, arguments)


@pytest.mark.promise("progress-numbers")
async def test_progress_is_finite_and_rising_whatever_a_tool_says() -> None:
    post = modern(edge(Wild(), Rows()), "tools/call", name="a__b", arguments={}, _meta={"progressToken": 1})
    await post()
    assert [json.loads(e.partition(b"data: ")[2]).get("params") for e in post.content.split(b"\n\n") if e][:-1] == [
        {"progressToken": 1, "progress": 2.0},
        {"progressToken": 1, "progress": 3.0},
    ]


@pytest.mark.promise("calls-bounded")
async def test_a_tokens_calls_are_bounded_and_free_again_after(app: Edge, corridor: Echo) -> None:
    corridor.expected = MAX_CALLS
    posts = [modern(app, "tools/call", name="echo__say", arguments={"forever": True}) for _ in range(MAX_CALLS)]
    running = asyncio.gather(*(post() for post in posts))
    await corridor.started.wait()

    assert code(await modern(app, "tools/call", name="echo__say")()) == "overloaded"
    for post in posts:
        post.closed.set()
    await running
    assert "isError" not in (await modern(app, "tools/call", name="echo__say")()).answer["result"]


@pytest.mark.promise("body-bounded")
async def test_a_body_too_large_is_refused_under_its_id_and_does_not_end_the_client(app: Edge, corridor: Echo) -> None:
    post = modern(app, "tools/call", name="echo__say", arguments={"text": "x" * MAX_BODY})
    await post()

    assert (post.status, post.answer["id"]) == (200, 7)
    assert post.answer["error"]["message"] == "Request body too large"
    assert corridor.called == []


@pytest.mark.promise("wire-surrogates")
async def test_a_lone_surrogate_disturbs_nobody(app: Edge, corridor: Echo) -> None:
    session = await handshake(app)
    bad = legacy(app, session, "tools/call", name="echo__say", arguments={"text": "\ud800"})
    await bad()

    assert (bad.status, bad.answer["id"], bad.answer["error"]["code"]) == (200, 7, -32700)
    assert corridor.called == []
    assert (await legacy(app, session, "ping")()).status == 200


async def test_a_malformed_modern_body_has_this_revisions_status(app: Edge) -> None:
    post = Post(app, b"nope", fields={"mcp-protocol-version": "2026-07-28"})
    assert ((await post()).status, post.answer["error"]["code"]) == (400, -32700)


class Full(Echo):
    """A corridor whose ledger cannot write."""

    async def call(
        self, subject: Subject, server: str, tool: str, arguments: JSONObject, progress: Progress | None = None
    ) -> Answer:
        raise Unrecordable("disk full")

    async def tools(self, subject: Subject, server: str | None) -> list[JSONObject]:
        raise Unrecordable("disk full")


async def test_what_cannot_be_recorded_is_refused() -> None:
    app = edge(Full(), Rows())
    assert code(await modern(app, "tools/call", name="a__b")()) == "unavailable"
    listed = await modern(app, "tools/list")()
    assert (listed.status, listed.answer["id"], listed.answer["error"]["code"]) == (200, 7, -32603)
