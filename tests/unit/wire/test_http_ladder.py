"""The ladder before the body: exact paths, hosts, verbs, media types; and ids of bodies that are not parsed."""

import json

import pytest

from gateway.wire.http import Door, Head, Reply, find_id, too_large

DOOR = Door(frozenset({"127.0.0.1", "localhost", "[::1]"}), "http://127.0.0.1:8808")
FIELDS = {b"host": b"127.0.0.1:8808", b"content-type": b"application/json", b"accept": b"application/json"}


def read(verb: str = "POST", path: bytes = b"/mcp", **fields: bytes | None) -> Head | Reply:
    merged = {**FIELDS, **{name.replace("_", "-").encode(): value for name, value in fields.items()}}
    return DOOR.read(verb, path, [(name, value) for name, value in merged.items() if value is not None])


def status(outcome: Head | Reply) -> int:
    return outcome.status if isinstance(outcome, Reply) else 0


def test_a_fitting_request_has_a_head() -> None:
    head = read(path=b"/mcp/bank", authorization=b"bearer abc")

    assert isinstance(head, Head)
    assert (head.route, head.server, head.credential) == ("/mcp/bank", "bank", "abc")


@pytest.mark.promise("exact-routes")
@pytest.mark.parametrize(
    "path",
    [
        b"/mcp/",
        b"/mcp/%62ank",
        b"/MCP",
        b"/mcp/Bank",
        b"/mcp/bank/",
        b"/mcp//bank",
        b"/mcp/bank/x",
        b"/%6dcp",
        b"/mcp/.",
    ],
)
def test_only_exact_raw_paths_are_routes(path: bytes) -> None:
    assert status(read(path=path)) == 404


@pytest.mark.promise("host-and-origin")
@pytest.mark.parametrize(
    "host", [None, b"evil.example", b"127.0.0.1.evil.example", b"localhost@evil", b"", b"127.0.0.1:8808:1"]
)
def test_a_request_for_another_host_is_misdirected(host: bytes | None) -> None:
    assert status(read(host=host)) == 421


@pytest.mark.promise("host-and-origin")
@pytest.mark.parametrize(
    "origin", [b"https://evil.example", b"null", b"file://", b"http://127.0.0.1.evil.example", b""]
)
def test_a_page_from_elsewhere_is_refused(origin: bytes) -> None:
    assert status(read(origin=origin)) == 403


def test_a_page_of_this_machine_and_any_port_of_it_pass() -> None:
    assert isinstance(read(origin=b"http://localhost:6274", host=b"[::1]:9"), Head)


def test_other_verbs_are_told_what_is_allowed() -> None:
    for verb in ("GET", "PUT", "OPTIONS"):
        reply = read(verb)
        assert isinstance(reply, Reply)
        assert (reply.status, dict(reply.fields)[b"allow"]) == (405, b"POST, DELETE")
    assert isinstance(read("DELETE", content_type=None), Head)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"content_type": b"text/plain"}, 415),
        ({"content_type": None}, 415),
        ({"content_type": b"application/json; charset=utf-8"}, 0),
        ({"accept": b"text/html"}, 406),
        ({"accept": None}, 0),
        ({"accept": b"*/*"}, 0),
        ({"accept": b"text/event-stream;q=1 , Application/JSON;q=0.5"}, 0),
    ],
)
def test_media_types(fields: dict[str, bytes | None], expected: int) -> None:
    assert status(read(**fields)) == expected


@pytest.mark.parametrize("name", [b"host", b"authorization", b"origin", b"mcp-session-id", b"content-type"])
def test_a_header_that_decides_is_said_once(name: bytes) -> None:
    fields = [*FIELDS.items(), (name, b"localhost"), (name, b"localhost")]
    assert status(DOOR.read("POST", b"/mcp", fields)) == 400


def test_every_refusal_is_a_json_rpc_error() -> None:
    for reply in (read(path=b"/mcp/"), read(host=b"x"), read("GET"), read(content_type=b"x")):
        assert isinstance(reply, Reply)
        body = json.loads(reply.body)
        assert body["jsonrpc"] == "2.0"
        assert body["error"]["message"]


@pytest.mark.parametrize("value", [b"Basic abc", b"Bearer", b"Bearer ", b"abc"])
def test_only_a_bearer_token_is_a_credential(value: bytes) -> None:
    head = read(authorization=value)
    assert isinstance(head, Head)
    assert head.credential is None


@pytest.mark.promise("unauthorised-metadata")
def test_no_token_is_a_401_with_metadata_that_says_unauthorized() -> None:
    reply = DOOR.challenge("/mcp/bank", "the token has expired", 7)

    assert reply.status == 401
    challenge = dict(reply.fields)[b"www-authenticate"].decode()
    assert 'resource_metadata="http://127.0.0.1:8808/.well-known/oauth-protected-resource/mcp/bank"' in challenge
    body = json.loads(reply.body)
    assert body["id"] == 7
    assert body["error"]["message"] == "Unauthorized: the token has expired"


def test_the_metadata_names_the_resource_of_a_route_and_of_no_other_path() -> None:
    reply = DOOR.metadata("/.well-known/oauth-protected-resource/mcp/bank")
    assert reply is not None
    assert json.loads(reply.body)["resource"] == "http://127.0.0.1:8808/mcp/bank"
    assert DOOR.metadata("/.well-known/oauth-protected-resource") is not None
    assert DOOR.metadata("/.well-known/oauth-protected-resource/api") is None
    assert DOOR.metadata("/elsewhere") is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{...', 7),
        (b'{"jsonrpc":"2.0","method":"tools/call","id":"a","params":{...', "a"),
        (b'{ "id" : -3, ...', -3),
        (b'{"method":"tools/call","params":{"x":1},"jsonrpc":"2.0","id":9}', 9),
        (b'{"method":"tools/call","params":{"id":9}}', None),
        (b'{"jsonrpc":"2.0","params":{"id":9},"method":"x"}', None),
        (b'{"jsonrpc":"2.0","id":true,"method":"x"}', None),
        (b'{"jsonrpc":"2.0","id":1.5,"method":"x"}', None),
    ],
)
def test_the_id_of_a_body_too_large_is_found_where_clients_put_it(body: bytes, expected: object) -> None:
    assert find_id(body, body) == expected


def test_a_body_too_large_does_not_end_the_client() -> None:
    start = b'{"jsonrpc":"2.0","id":7,"method":"tools/call"'
    reply = too_large(start, b"...")

    assert (reply.status, json.loads(reply.body)["id"]) == (200, 7)
    assert too_large(b"??", b"??").status == 413
