"""Whom TLS asks for, read from first messages that OpenSSL wrote, whole, in pieces and bent."""

import ssl
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sandbox.egress.hello import BadHello, server_name


def hello(host: str | None) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


HELLO = hello("api.example.com")
NAME = b"\x00\x00" + struct.pack("!HHBH", 20, 18, 0, 15) + b"api.example.com"
"""The extension, as OpenSSL writes it."""


def with_extension(found: bytes, put: bytes) -> bytes:
    """The same message with other bytes in place of its name, every length put right."""
    message = HELLO[5:]
    assert message.count(NAME) == 1
    body = message[4:].replace(NAME, found + put)
    at = 2 + 32
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2])
    at += 1 + body[at]
    body = body[:at] + struct.pack("!H", len(body) - at - 2) + body[at + 2 :]
    return record(b"\x01" + len(body).to_bytes(3) + body)


def record(data: bytes) -> bytes:
    return b"\x16\x03\x01" + struct.pack("!H", len(data)) + data


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack("!HH", kind, len(data)) + data


def test_the_name_is_read_and_more_is_asked_for_until_it_is_there() -> None:
    assert server_name(HELLO) == "api.example.com"
    assert server_name(HELLO + b"what comes after it") == "api.example.com"
    assert all(server_name(HELLO[:count]) is None for count in range(len(HELLO)))


def test_a_message_in_many_records_is_put_together() -> None:
    message = HELLO[5:]
    pieces = b"".join(record(message[place : place + 7]) for place in range(0, len(message), 7))
    assert server_name(pieces) == "api.example.com"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (hello(None), "TLS that names no server"),
        (b"GET / HTTP/1.1\r\n\r\n", "no TLS"),
        (b"SSH-2.0-x\r\n", "no TLS"),
        (record(b"\x02\x00\x00\x00"), "no TLS"),
        (b"\x16\x03\x01\x00\x00", "no TLS"),
        (b"\x16\x02\x00\x00\x05hello", "no TLS"),
        (b"\x80\x2e\x01\x03\x01", "no TLS"),
        (record(b"\x01\xff\xff\xff" + bytes(16000)) * 3, "a first message that does not end"),
        (b"".join(record(bytes([one])) for one in b"\1\0\1\0" + bytes(97)), "a first message in too many pieces"),
        (record(b"\x01\x00\x00\x05hello"), "a malformed first message of TLS"),
        (with_extension(NAME, NAME), "an extension twice"),
        (with_extension(NAME, extension(0xFE0D, b"\0" * 20)), "TLS with an encrypted name"),
        (
            with_extension(b"", extension(0, b"\0\x0c" + 2 * b"\0\0\x03a.b")),
            "TLS with more than one name",
        ),
        (with_extension(b"", extension(0, b"\0\x06\x01\0\x03a.b")), "TLS with more than one name"),
        (with_extension(b"", extension(0, b"\0\x06\0\0\x03a.bmore")), "TLS with more than one name"),
    ],
)
def test_a_message_without_one_plain_name_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(BadHello, match=why):
        server_name(data)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(HELLO) - 1), st.binary(max_size=4), st.integers(0, 4))
def test_bent_messages_are_read_refused_or_waited_for(place: int, put: bytes, cut: int) -> None:
    try:
        found = server_name(HELLO[:place] + put + HELLO[place + cut :])
    except BadHello:
        return
    assert found is None or len(found) < len(HELLO)
