"""Headers that the proxy sets, in TLS that it ends."""

import datetime
import ssl

import pytest
from cryptography import x509
from support.egress import API, EVIL, PUBLIC, Inside, Log, Town, inside, proxy_of, town

from sandbox.egress.events import Refused
from sandbox.egress.proxy import Header, Proxy
from sandbox.egress.refusal import Cut
from sandbox.egress.rules import Rule
from sandbox.egress.tls import Authority, TlsStream

SECRET = "s3cret-0123456789"
TO = Rule(API, 443)
OWN = Authority.for_hosts([API])


def guarded(place: Town, log: Log) -> Proxy:
    header = Header(name="Authorization", value=f"Bearer {SECRET}")
    return proxy_of(place, log, TO, Rule(API, 80), headers={TO: header}, authority=OWN)


async def speak(sandbox: Inside, host: str = API, believes: ssl.SSLContext | None = None) -> TlsStream:
    wire = sandbox.open()
    wire.send(f"CONNECT {TO} HTTP/1.1\r\n\r\n".encode())
    assert (await wire.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    return await TlsStream.client(wire, believes or ssl.create_default_context(cadata=OWN.certificate), host)


async def asked(sandbox: Inside, request: str) -> bytes:
    stream, said = await speak(sandbox), b""
    await stream.write(request.replace("\n", "\r\n").encode())
    while data := await stream.read():
        said += data
    return said


@pytest.mark.promise("egress-secrets")
async def test_the_server_is_sent_the_secret_and_the_sandbox_and_the_log_never_see_it() -> None:
    log = Log()
    async with town() as place:
        proxy = guarded(place, log)
        async with inside(proxy) as sandbox:
            said = await asked(sandbox, f"GET /me HTTP/1.1\nHost: {API}\nAuthorization: Bearer mine\n\n")
        heard = place.heard_at(PUBLIC)
    assert said.endswith(b"\r\n\r\nok")
    assert heard == (
        f"GET /me HTTP/1.1\r\nhost: {API}\r\nAuthorization: Bearer {SECRET}\r\nconnection: close\r\n\r\n".encode()
    )
    assert SECRET not in repr(log.events) + repr(proxy) + said.decode()


@pytest.mark.promise("egress-secrets")
async def test_a_request_for_another_host_in_the_same_tls_is_sent_nothing() -> None:
    log = Log()
    async with town() as place, inside(guarded(place, log)) as sandbox:
        said = await asked(sandbox, f"GET / HTTP/1.1\nHost: {EVIL}\n\n")
        assert said.startswith(b"HTTP/1.1 421 ")
        with pytest.raises(Cut):
            await speak(sandbox, EVIL)
        assert place.connected == []
    assert [event.why for event in log.events if isinstance(event, Refused)] == [
        "a Host other than the target",
        "TLS to another name",
    ]


@pytest.mark.promise("egress-secrets")
async def test_no_host_is_asked_to_send_the_request_back() -> None:
    log = Log()
    async with town() as place, inside(guarded(place, log)) as sandbox:
        said = await asked(sandbox, f"TRACE / HTTP/1.1\nHost: {API}\n\n")
        assert said.startswith(b"HTTP/1.1 400 ")
        assert place.connected == []
    assert [event.why for event in log.events if isinstance(event, Refused)] == ["TRACE would tell what the proxy adds"]


@pytest.mark.promise("egress-secrets")
async def test_a_secret_never_goes_in_clear_nor_to_whoever_cannot_prove_his_name() -> None:
    async with town() as place, inside(guarded(place, Log())) as sandbox:
        plain = f"GET http://{API}:443/ HTTP/1.1\r\nHost: {API}:443\r\n\r\n"
        assert (await sandbox.ask(plain.encode())).startswith(b"HTTP/1.1 403 ")
        assert place.connected == []
        place.authority = Authority.for_hosts([API])
        impostor = guarded(place, Log())  # believes an authority that did not sign what the server shows
    async with inside(impostor) as sandbox:
        place.names[API] = [[PUBLIC]]
        said = await asked(sandbox, f"GET / HTTP/1.1\nHost: {API}\n\n") if place.ports else b""
    assert SECRET.encode() not in place.all_heard
    assert b"200 OK" not in said


async def test_plain_http_to_the_same_host_carries_no_secret() -> None:
    async with town() as place, inside(guarded(place, Log())) as sandbox:
        assert (await sandbox.ask(f"GET http://{API}/ HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())).endswith(b"ok")
        assert SECRET.encode() not in place.all_heard


async def test_a_client_that_does_not_believe_the_proxy_is_cut_and_nothing_is_sent() -> None:
    async with town() as place, inside(guarded(place, Log())) as sandbox:
        with pytest.raises(Cut, match="certificate is not believed"):
            await speak(sandbox, believes=ssl.create_default_context())
        assert place.connected == []


async def test_the_authority_holds_for_its_hosts_only_and_is_made_anew_each_time() -> None:
    certificate = x509.load_pem_x509_certificate(OWN.certificate.encode())
    limits = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    assert limits.value.permitted_subtrees == [x509.DNSName(API)]
    assert certificate.not_valid_after_utc > datetime.datetime.now(datetime.UTC)
    assert Authority.for_hosts([API]).certificate != OWN.certificate
    with pytest.raises(KeyError):
        OWN.context(EVIL)


async def test_megabytes_pass_through_both_ends_of_tls() -> None:
    body = bytes(range(256)) * 8192
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    async with town(answer=answer) as place, inside(guarded(place, Log())) as sandbox:
        assert await asked(sandbox, f"GET / HTTP/1.1\nHost: {API}\n\n") == answer
