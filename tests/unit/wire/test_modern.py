"""The modern machine as transcripts, and its ladder against the SDK's."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp.shared.inbound import (
    ERROR_CODE_HTTP_STATUS,
    InboundLadderRejection,
    classify_inbound_request,
    find_duplicated_routing_header,
)
from mcp_types import version as sdk_versions

from gateway.wire import jsonrpc, modern, versions
from gateway.wire.asks import Ask, Call, List, Unmediated
from gateway.wire.http import Door, Head, Reply
from gateway.wire.jsonrpc import Malformed, Message, Notification, Request

DOOR = Door(frozenset({"localhost"}), "http://localhost")
ENVELOPE = {modern.VERSION_KEY: versions.MODERN, modern.CAPABILITIES_KEY: {}}


def head(path: str = "/mcp", **fields: str) -> Head:
    merged = {"host": "localhost", "content-type": "application/json"} | {
        k.replace("_", "-"): v for k, v in fields.items()
    }
    found = DOOR.read("POST", path.encode(), [(k.encode(), v.encode("latin-1")) for k, v in merged.items()])
    assert isinstance(found, Head)
    return found


def post(
    method: str, path: str = "/mcp", *, id: str | int = 7, meta: dict[str, Any] | None = None, **params: Any
) -> Ask:
    """A well-formed request of this era, received."""
    params["_meta"] = ENVELOPE | (meta or {})
    fields = {"mcp_protocol_version": versions.MODERN, "mcp_method": method}
    if "name" in params:
        fields["mcp_name"] = params["name"]
    return modern.receive(head(path, **fields), Request(id, method, params))


def error(asked: Ask) -> tuple[int, int]:
    assert isinstance(asked, Reply)
    return asked.status, json.loads(asked.body)["error"]["code"]


def test_the_versions_are_those_of_the_sdk() -> None:
    assert versions.HANDSHAKE == sdk_versions.HANDSHAKE_PROTOCOL_VERSIONS
    assert (versions.MODERN,) == sdk_versions.MODERN_PROTOCOL_VERSIONS


def test_a_call_on_the_shared_route_is_split_at_the_first_separator() -> None:
    assert post("tools/call", name="bank__pay__now", arguments={"n": 1}) == Call(7, "bank", "pay__now", {"n": 1})
    assert post("tools/call", name="pay") == Call(7, "", "pay", {})


@pytest.mark.promise("exact-routes")
def test_on_a_servers_route_names_are_not_split() -> None:
    assert post("tools/call", "/mcp/bank", name="mail__send") == Call(7, "bank", "mail__send", {})


@pytest.mark.promise("only-the-action-goes-down")
def test_of_a_call_only_name_arguments_and_progress_token_are_read() -> None:
    asked = post(
        "tools/call",
        name="bank__pay",
        arguments={"n": 1},
        task={"ttl": 1},
        baggage="x",
        meta={"progressToken": "p", "vendor/key": 1, "dev.pratique/decision": {}},
    )
    assert asked == Call(7, "bank", "pay", {"n": 1}, "p")


@pytest.mark.parametrize("token", [True, 1.5, None, [], {}])
def test_a_progress_token_of_another_type_is_none(token: object) -> None:
    asked = post("tools/call", name="a__b", meta={"progressToken": token})
    assert isinstance(asked, Call)
    assert asked.progress_token is None


@pytest.mark.parametrize(
    "params",
    [
        {"name": 7},
        {"arguments": {}},
        {"name": "a__b", "arguments": []},
        {"name": "x" * 200},
        {"name": "a__b", "inputResponses": {}},
        {"name": "a__b", "requestState": "s"},
    ],
)
def test_a_call_that_is_none_is_invalid_params(params: dict[str, Any]) -> None:
    name = params.get("name")
    fields = {"mcp_protocol_version": versions.MODERN, "mcp_method": "tools/call", "mcp_name": str(name)}
    request = Request(7, "tools/call", {**params, "_meta": ENVELOPE})
    if isinstance(name, str):
        assert error(modern.receive(head(**fields), request)) == (400, -32602)
    else:
        assert error(modern.receive(head(**fields), request))[0] == 400


def test_a_list_is_asked_for_and_no_cursor_was_ever_handed_out() -> None:
    assert post("tools/list") == List(7)
    assert error(post("tools/list", cursor="x")) == (400, -32602)


def test_a_list_is_private_to_its_caller() -> None:
    answer = json.loads(modern.listed(7, [{"name": "a__b"}]))["result"]
    assert (answer["cacheScope"], answer["resultType"]) == ("private", "complete")
    assert answer["ttlMs"] >= 0


def test_discover_offers_tools_alone() -> None:
    asked = post("server/discover")
    assert isinstance(asked, Reply)
    result = json.loads(asked.body)["result"]
    assert result["supportedVersions"] == [versions.MODERN]
    assert result["capabilities"] == {"tools": {}}


@pytest.mark.promise("not-yet-mediated")
@pytest.mark.parametrize(
    "method",
    [
        "resources/read",
        "prompts/get",
        "completion/complete",
        "subscriptions/listen",
        "tasks/get",
        "ping",
        "x",
        "initialize",
    ],
)
def test_any_other_method_is_recorded_then_refused_by_name(method: str) -> None:
    asked = post(method)
    assert isinstance(asked, Unmediated)
    reply = modern.failed(asked.refusal)
    assert error(reply) == (404, -32601)
    assert method in json.loads(reply.body)["error"]["message"]


def test_a_notification_is_accepted_and_dropped() -> None:
    note = Notification("notifications/cancelled", {"requestId": 7})
    assert modern.receive(head(mcp_protocol_version=versions.MODERN), note) == Reply(202)
    assert error(modern.receive(head(mcp_protocol_version="2099-01-01"), note)) == (400, -32022)


def test_an_answer_that_a_client_posts_is_refused() -> None:
    asked = modern.receive(head(mcp_protocol_version=versions.MODERN), jsonrpc.Response(7, {}))
    assert error(asked) == (400, -32600)


def test_the_era_is_told_by_the_header_and_without_one_by_the_envelope() -> None:
    bare, enveloped = Request(1, "tools/list", {}), Request(1, "tools/list", {"_meta": ENVELOPE})
    assert modern.is_modern(head(mcp_protocol_version=versions.MODERN), bare)
    assert modern.is_modern(head(mcp_protocol_version="2099-01-01"), bare)
    assert modern.is_modern(head(), enveloped)
    assert not modern.is_modern(head(mcp_protocol_version="2025-11-25"), enveloped)
    assert not modern.is_modern(head(), bare)
    assert not modern.is_modern(head(), Request(1, "initialize", {"_meta": ENVELOPE}))


VERSIONS = st.sampled_from([versions.MODERN, "2099-01-01", "2025-11-25", ""])
METHODS = st.sampled_from(["tools/call", "tools/list", "prompts/get", "resources/read", "server/discover", "zzz"])
NAMES = st.sampled_from(["a", "ü", "=?base64?w7w=?=", "=?base64?YQ==?=", "=?base64?YR==?=", "=?base64?!?=", " a"])
META = st.fixed_dictionaries(
    {},
    optional={
        modern.VERSION_KEY: VERSIONS | st.sampled_from([None, 7]),
        modern.CAPABILITIES_KEY: st.just({}),
        "io.modelcontextprotocol/clientInfo": st.just({"name": "c", "version": "1"}),
    },
)
PARAMS = st.fixed_dictionaries({}, optional={"_meta": META | st.none(), "name": NAMES, "uri": NAMES})
FIELDS = st.lists(
    st.tuples(st.just("mcp-protocol-version"), VERSIONS)
    | st.tuples(st.just("mcp-method"), METHODS)
    | st.tuples(st.just("mcp-name"), NAMES),
    max_size=4,
)


def sdk(method: str, params: dict[str, Any], fields: list[tuple[str, str]]) -> int | None:
    """The error code of the SDK's ladder; None where it lets the request through."""
    if find_duplicated_routing_header(fields) is not None:
        return -32020
    verdict = classify_inbound_request({"method": method, "params": params}, headers={k: v.strip() for k, v in fields})
    return verdict.code if isinstance(verdict, InboundLadderRejection) else None


@pytest.mark.promise("headers-match-body")
@settings(max_examples=400)
@given(METHODS, PARAMS, FIELDS)
def test_the_ladder_is_the_sdks(method: str, params: dict[str, Any], fields: list[tuple[str, str]]) -> None:
    sent = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    found = DOOR.read("POST", b"/mcp", [*sent, *((k.encode(), v.encode("latin-1")) for k, v in fields)])
    assert isinstance(found, Head)
    asked = modern.receive(found, Request(7, method, params))

    expected = sdk(method, params, fields)
    if expected is not None:
        assert error(asked) == (ERROR_CODE_HTTP_STATUS[expected], expected)
    elif isinstance(asked, Reply) and asked.status != 200:  # past the ladder: the call itself is no call
        assert (method, error(asked)) == ("tools/call", (400, -32602))


@pytest.mark.promise("headers-match-body")
def test_an_unsupported_version_names_those_that_are() -> None:
    fields = {"mcp_protocol_version": "2099-01-01", "mcp_method": "tools/list"}
    meta = ENVELOPE | {modern.VERSION_KEY: "2099-01-01"}
    reply = modern.receive(head(**fields), Request(7, "tools/list", {"_meta": meta}))
    assert isinstance(reply, Reply)
    assert json.loads(reply.body)["error"]["data"] == {"supported": [versions.MODERN], "requested": "2099-01-01"}


KEYS = st.sampled_from(["method", "params", "id", "_meta", "name", "arguments", "jsonrpc"])
ANYTHING = st.recursive(
    st.none() | st.text(max_size=3) | st.integers(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=9,
)


@settings(max_examples=200)
@given(ANYTHING)
def test_no_message_raises(value: object) -> None:
    body: object = {"jsonrpc": "2.0", **value} if isinstance(value, dict) else value
    message: Message | Malformed = jsonrpc.parse(json.dumps(body).encode())
    if not isinstance(message, Malformed):
        modern.receive(head(mcp_protocol_version=versions.MODERN), message)
