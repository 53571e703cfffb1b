"""S16, self-approval and the confused deputy: an agent decides nothing, whatever of ours it borrows.

Each attack is tried against the gateway as it is, where it is refused, and against the same gateway composed without
the one control that refuses it, where it lands.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.operators import Shop, approve, shop
from support.scene import until
from typing_extensions import override

from gateway.edges.asgi import ASGIApp
from gateway.edges.console.pages import console_app
from gateway.edges.front import by_path, not_found
from gateway.edges.listen import as_operator, bind_tcp, listen_tcp
from gateway.edges.operators import COOKIE, KEY_HEADER, ConsoleSessions, Operator
from gateway.edges.rest import Office, rest_app

API = "/api/v1"
EVIL = {"origin": "http://evil.example", "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop(tmp_path) as made:
        yield made


class CookieDecides(ConsoleSessions):
    """Sessions without the second half: whoever has the cookie decides."""

    @override
    def operator(self, cookie: str | None, key: str | None) -> Operator | None:
        found = super().operator(cookie, key)
        return Operator(found.by, decides=True) if found else None


@asynccontextmanager
async def without(
    store: Shop, compose: Callable[[Office, str], ASGIApp], sessions: ConsoleSessions | None = None
) -> AsyncIterator[tuple[str, Office]]:
    """The same gateway's desk behind an address of its own, composed by the test; its URL."""
    gateway = store.gateway
    bound = bind_tcp("127.0.0.1", 0)
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    office = Office(
        control=gateway.control,
        desk=gateway.desk,
        servers=gateway.servers,
        workspaces=gateway.workspaces,
        sessions=sessions or gateway.sessions,
        reader=gateway.memory.reader,
        console_url=url,
        is_agent_token=lambda _token: False,
    )
    listener = await listen_tcp(compose(office, url), bound)
    try:
        yield url, office
    finally:
        await listener.close()
        bound.close()


def front(office: Office, url: str) -> ASGIApp:
    return by_path(rest_app(office), console_app(office), origin=url, is_ready=lambda: True, model=not_found)


async def attack(store: Shop, url: str, ticket: str, *, headers: Any = None, cookies: Any = None) -> int:
    """Say yes to a ticket with whatever the attacker has; the status."""
    body = approve({"call_digest": _digest(store, ticket)})
    async with httpx.AsyncClient(base_url=url, trust_env=False, headers=headers, cookies=cookies) as attacker:
        answer = await attacker.post(f"{API}/approvals/{ticket}/decisions", json=body)
    return answer.status_code


def _digest(store: Shop, ticket: str) -> str:
    row = store.gateway.memory.reader.execute("SELECT call_digest FROM tickets WHERE id = ?", (ticket,)).fetchone()
    return str(row[0])


@pytest.mark.promise("agents-decide-nothing")
async def test_an_agent_cannot_approve_its_own_call_with_its_token(store: Shop) -> None:
    ticket = await store.asks()
    own = {"headers": {"authorization": f"Bearer {store.granted.token}"}}

    assert await attack(store, store.url, ticket, **own) == 403
    assert (store.gateway.desk.waiting(), store.paid) == ([ticket], [])

    async with without(store, lambda office, _url: as_operator(rest_app(office), "anybody")) as (url, _):
        assert await attack(store, url, ticket, **own) == 200
    assert (await store.held[0]).code == ""
    assert store.paid == [4250]


@pytest.mark.promise("agents-decide-nothing")
async def test_an_agents_token_opens_nothing_of_the_operators(store: Shop) -> None:
    routes = [f"{API}/openapi.json", *(f"{API}/{name}" for name in ("tasks", "servers", "approvals", "audit"))]
    routes += [f"{API}/approvals/events", f"{API}/tasks/{store.granted.task.id}", f"{API}/nothing"]
    routes += ["/console", "/console/", "/console/enter", "/console/static/console.js", "/console/nothing"]
    posts = ["tasks", "tasks/settle", "tokens/revoke", "servers/till/accept", "console-links"]
    cookie, key = store.session()
    stolen = {"cookie": f"{COOKIE}={cookie}", KEY_HEADER: key}
    for more in ({}, stolen):
        for scheme in ("Bearer", "bearer"):
            headers = {"authorization": f"{scheme} {store.granted.token}", **more}
            async with httpx.AsyncClient(base_url=store.url, headers=headers, trust_env=False) as agent:
                for path in routes:
                    assert (await agent.get(path)).status_code == 403, path
                for path in posts:
                    assert (await agent.post(f"{API}/{path}", json={})).status_code == 403, path
                assert (await agent.post("/console/enter", json={"link": "x"})).status_code == 403
    async with store.socket() as socket:
        token = {"authorization": f"Bearer {store.granted.token}"}
        assert (await socket.get(f"{API}/approvals", headers=token)).status_code == 403


@pytest.mark.promise("cookie-only-looks")
async def test_a_stolen_cookie_looks_and_does_not_decide(store: Shop) -> None:
    ticket = await store.asks()
    cookie, _ = store.session()
    stolen = {"cookies": {COOKIE: cookie}}

    assert await attack(store, store.url, ticket, **stolen) == 403
    async with httpx.AsyncClient(base_url=store.url, trust_env=False, **stolen) as thief:
        assert (await thief.get(f"{API}/approvals/{ticket}")).status_code == 200
        for path in ("tasks/settle", "tokens/revoke", "servers/till/accept", "console-links", "tasks"):
            body = {"text": "t", "allow": ["till.pay"], "what": store.granted.task.id, "action": "a", "outcome": "ok"}
            assert (await thief.post(f"{API}/{path}", json=body)).status_code in (403, 422), path
    assert (store.gateway.desk.waiting(), store.paid) == ([ticket], [])

    careless = CookieDecides(clock=store.gateway.sessions.clock)
    theirs, _ = careless.enter(careless.link()) or ("", "")
    async with without(store, front, careless) as (url, _):
        assert await attack(store, url, ticket, cookies={COOKIE: theirs}) == 200
    assert (await store.held[0]).code == ""
    assert store.paid == [4250]


@pytest.mark.promise("no-cross-site")
async def test_a_page_of_another_site_decides_nothing_even_with_the_persons_session(store: Shop) -> None:
    ticket = await store.asks()
    cookie, key = store.session()
    session = {"cookies": {COOKIE: cookie}, "headers": {**EVIL, KEY_HEADER: key}}
    neighbour = {"origin": "http://127.0.0.1:1", "sec-fetch-site": "same-site", KEY_HEADER: key}

    assert await attack(store, store.url, ticket, **session) == 403
    assert await attack(store, store.url, ticket, cookies={COOKIE: cookie}, headers=neighbour) == 403
    assert (store.gateway.desk.waiting(), store.paid) == ([ticket], [])

    async with without(store, lambda office, _url: rest_app(office)) as (url, _):
        assert await attack(store, url, ticket, **session) == 200
    assert (await store.held[0]).code == ""


@pytest.mark.promise("no-cross-site")
async def test_a_cross_site_form_is_no_decision_even_past_the_front_door(store: Shop) -> None:
    ticket = await store.asks()
    cookie, _ = store.session()
    form = f'{{"decision":"approve","call_digest":"{_digest(store, ticket)}","comment":"='
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        headers = {"content-type": kind, "cookie": f"{COOKIE}={cookie}"}
        for base, more in ((store.url, EVIL), (store.url, {})):
            async with httpx.AsyncClient(base_url=base, trust_env=False) as form_of:
                sent = await form_of.post(
                    f"{API}/approvals/{ticket}/decisions", content=form + '"}', headers=headers | more
                )
            assert sent.status_code in (403, 422)
    assert (store.gateway.desk.waiting(), store.paid) == ([ticket], [])


@pytest.mark.promise("no-rebinding")
async def test_a_name_that_was_rebound_to_us_reaches_nothing(store: Shop) -> None:
    ticket = await store.asks()
    cookie, key = store.session()
    rebound = {"cookies": {COOKIE: cookie}, "headers": {"host": "evil.example", KEY_HEADER: key}}

    assert await attack(store, store.url, ticket, **rebound) == 421
    assert store.paid == []

    async with without(store, lambda office, _url: rest_app(office)) as (url, _):
        assert await attack(store, url, ticket, **rebound) == 200
    assert (await store.held[0]).code == ""


@pytest.mark.promise("one-time-link")
async def test_of_many_who_use_a_link_at_once_one_gets_in(store: Shop) -> None:
    link = store.gateway.sessions.link()
    async with httpx.AsyncClient(base_url=store.url, trust_env=False) as browser:
        asked = [browser.post("/console/enter", json={"link": link}) for _ in range(10)]
        statuses = sorted(answer.status_code for answer in await asyncio.gather(*asked))

    assert statuses == [200] + [403] * 9


@pytest.mark.promise("feed-ends-with-session")
async def test_the_live_feed_needs_a_session_and_goes_with_the_reader(store: Shop) -> None:
    async with store.browser(key=False) as operator, operator.stream("GET", f"{API}/approvals/events") as feed:
        assert feed.status_code == 200
        assert await anext(feed.aiter_lines()) == "event: waiting"
    await until(lambda: not store.gateway.desk.listeners)
