"""Heads of requests: what is read in one way only, and what is sent on."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.egress.head import Exchange, Tunnel, parse_head, to_origin, to_proxy
from sandbox.egress.refusal import Refusal


def asked(text: str) -> Tunnel | Exchange:
    return to_proxy(parse_head(text.replace("\n", "\r\n").encode("latin-1")))


def exchange(text: str) -> Exchange:
    found = asked(text)
    assert isinstance(found, Exchange)
    return found


def test_a_tunnel_is_read() -> None:
    assert asked("CONNECT api.example.com:443 HTTP/1.1\nHost: api.example.com:443\n\n") == Tunnel(
        authority="api.example.com:443"
    )
    assert asked("CONNECT api.example.com:443 HTTP/1.0\n\n") == Tunnel(authority="api.example.com:443")


def test_what_is_sent_on_is_built_anew() -> None:
    found = exchange(
        "POST http://api.example.com/a?b HTTP/1.1\nHOST: api.example.com\nAccept:  text/html \nContent-Length: 3\n"
        "Connection: close, X-Hop\nX-Hop: 1\nKeep-Alive: 5\nTE: trailers\nProxy-Authorization: Basic eA==\n\n"
    )
    assert found.authority == "api.example.com"
    assert found.length == 3
    assert found.forwarded() == (
        b"POST /a?b HTTP/1.1\r\nhost: api.example.com\r\naccept: text/html\r\ncontent-length: 3\r\n"
        b"connection: close\r\n\r\n"
    )


def test_a_header_of_the_proxys_replaces_what_came_under_its_name_however_that_was_written() -> None:
    found = exchange(
        "GET http://api.example.com/ HTTP/1.1\nHost: api.example.com\nAUTHORIZATION: mine\nauthorization: mine\n"
        "Connection: authorization\n\n"
    )
    assert found.forwarded(("Authorization", "Bearer s3cret")) == (
        b"GET / HTTP/1.1\r\nhost: api.example.com\r\nAuthorization: Bearer s3cret\r\nconnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GET\n\n",
        "get http://a/ HTTP/1.1\nHost: a\n\n",
        "GET  http://a/ HTTP/1.1\nHost: a\n\n",
        "GET http://a/ HTTP/2.0\nHost: a\n\n",
        "GET http://a/ HTTP/1.1 \nHost: a\n\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET https://a/ HTTP/1.1\nHost: a\n\n",
        "GET ftp://a/ HTTP/1.1\nHost: a\n\n",
        "GET HTTP://a/ HTTP/1.1\nHost: a\n\n",
        "GET http://a/#x HTTP/1.1\nHost: a\n\n",
        "GET http://a/\x80 HTTP/1.1\nHost: a\n\n",
        "GET http://a/ HTTP/1.1\n\n",
        "GET http://a/ HTTP/1.1\nHost: a\nHost: a\n\n",
        "GET http://a/ HTTP/1.1\nHost: a\n: x\n\n",
        "GET http://a/ HTTP/1.1\nHost: a\nno colon\n\n",
        "GET http://a/ HTTP/1.1\n Host: a\n\n",
        "GET http://a/ HTTP/1.1\nHost: a\nX: \x01\n\n",
        "GET http://a/ HTTP/1.1\nHost: a\nX: \x7f\n\n",
        "POST http://a/ HTTP/1.1\nHost: a\nContent-Length: +3\n\n",
        "POST http://a/ HTTP/1.1\nHost: a\nContent-Length: 3, 3\n\n",
        "POST http://a/ HTTP/1.1\nHost: a\nContent-Length: \n\n",
        "POST http://a/ HTTP/1.1\nHost: a\nContent-Length: 3\nContent-Length: 3\n\n",
        "POST http://a/ HTTP/1.1\nHost: a\nTransfer-Encoding: gzip, chunked\n\n",
        "POST http://a/ HTTP/1.0\nHost: a\nTransfer-Encoding: chunked\n\n",
        "CONNECT a:1 HTTP/1.1\nContent-Length: 1\n\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(Refusal):
        asked(text)


@pytest.mark.parametrize(
    "text",
    [
        "GET http://api.example.com/ HTTP/1.1\nHost: api.example.com\n\n",
        "CONNECT / HTTP/1.1\nHost: api.example.com\n\n",
        "TRACE / HTTP/1.1\nHost: api.example.com\n\n",
        "GET / HTTP/1.1\nHost: evil.example.com\n\n",
        "GET / HTTP/1.1\n\n",
    ],
)
def test_inside_of_tls_only_a_path_of_the_same_host_is_asked_for(text: str) -> None:
    head = parse_head(text.replace("\n", "\r\n").encode())
    with pytest.raises(Refusal):
        to_origin(head, "api.example.com", 443)


_pieces = st.sampled_from(
    [
        *(
            "GET ",
            "POST ",
            "CONNECT ",
            "http://a",
            "a:1",
            "/",
            "/x y",
            " HTTP/1.1",
            " HTTP/1.0",
            "\r\n",
            "\n",
            "\r",
            "\0",
        ),
        *("Host: a", "Host:a:80", "Host : a", "Content-Length: 3", "Content-Length: 03", "Transfer-Encoding: chunked"),
        *(
            "Transfer-Encoding: identity",
            "Connection: host",
            "Connection: content-length",
            "X: y",
            " folded",
            "\t",
            "é",
        ),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_pieces, max_size=12), st.booleans())
def test_whatever_is_taken_is_sent_on_as_one_request_that_others_read_alike(pieces: list[str], regular: bool) -> None:
    start = "POST http://a/ HTTP/1.1\r\nHost: a\r\n" if regular else ""
    data = (start + "".join(f"{piece}\r\n" if regular else piece for piece in pieces)).encode("latin-1") + b"\r\n\r\n"
    try:
        found = to_proxy(parse_head(data[: data.index(b"\r\n\r\n") + 4]))
    except Refusal:
        return
    if isinstance(found, Tunnel):
        return
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(found.forwarded())
    request = reader.next_event()
    assert isinstance(request, h11.Request)
    assert [value for name, value in request.headers if name == b"host"] == [found.authority.encode()]
    framing = [(name, value) for name, value in request.headers if name in (b"content-length", b"transfer-encoding")]
    expected = b"chunked" if found.length is None else str(found.length).encode()
    assert [value for _, value in framing] == ([] if found.length == 0 and not framing else [expected])
