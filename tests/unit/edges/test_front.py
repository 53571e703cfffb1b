"""The front door: which requests reach the console and the API at all."""

from collections.abc import MutableMapping
from typing import Any

import pytest

from gateway.edges.asgi import ASGIApp, Receive, Scope, Send
from gateway.edges.front import by_path
from gateway.edges.operators import SCOPE_KEY

OWN = "127.0.0.1:8808"


def app(name: bytes) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        assert SCOPE_KEY not in scope
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": name})

    return answer


FRONT = by_path(app(b"api"), app(b"console"), origin=f"http://{OWN}", is_ready=lambda: False, model=app(b"model"))


async def ask(method: str, path: str, *more: tuple[str, str], host: str = OWN) -> tuple[int, bytes]:
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in (("host", host), *more)]
    scope = {"type": "http", "method": method, "path": path, "headers": headers, SCOPE_KEY: "a forged operator"}
    await FRONT(scope, receive, send)
    return sent[0]["status"], sent[1]["body"]


def site(name: str, mode: str = "cors", dest: str = "empty") -> tuple[tuple[str, str], ...]:
    return ("sec-fetch-site", name), ("sec-fetch-mode", mode), ("sec-fetch-dest", dest)


async def test_our_own_pages_and_programs_without_a_page_pass() -> None:
    own = ("origin", f"http://{OWN}")
    assert await ask("GET", "/console") == (200, b"console")
    assert await ask("POST", "/api/v1/tasks") == (200, b"api")
    assert await ask("POST", "/api/v1/tasks", own, *site("same-origin")) == (200, b"api")
    assert await ask("GET", "/console", *site("none", "navigate", "document"), host="localhost:8808") == (
        200,
        b"console",
    )


async def test_the_model_has_a_door_of_its_own() -> None:
    for host in (OWN, "evil.example"):
        assert await ask("POST", "/v1/chat/completions", *site("cross-site"), host=host) == (200, b"model")
    assert (await ask("GET", "/v11"))[0] == 404


@pytest.mark.promise("no-rebinding")
@pytest.mark.parametrize(
    "host", ["evil.example:8808", "127.0.0.1:9999", "127.0.0.1", "", "127.0.0.1:8808.evil.example"]
)
async def test_our_address_under_another_name_serves_nothing(host: str) -> None:
    for path in ("/console", "/api/v1/approvals", "/console/static/console.js"):
        assert (await ask("GET", path, host=host))[0] == 421


@pytest.mark.promise("no-cross-site")
@pytest.mark.parametrize(
    "fields",
    [
        (("origin", "http://evil.example"),),
        (("origin", "null"),),
        (("origin", OWN),),
        (("origin", "https://127.0.0.1:8808"),),
        (("origin", "http://127.0.0.1:9999"), *site("same-site")),
        site("cross-site"),
        site("same-site"),
    ],
)
async def test_what_another_site_sends_reaches_nothing(fields: tuple[tuple[str, str], ...]) -> None:
    assert (await ask("POST", "/api/v1/approvals/apr_1/decisions", *fields))[0] == 403
    assert (await ask("POST", "/console/enter", *fields))[0] == 403
    assert (await ask("GET", "/api/v1/approvals/events", *fields))[0] == 403


async def test_a_followed_link_opens_a_page_of_the_console_and_nothing_more() -> None:
    followed = site("cross-site", "navigate", "document")
    assert (await ask("GET", "/console", *followed))[0] == 200
    assert (await ask("GET", "/api/v1/approvals", *followed))[0] == 403
    assert (await ask("POST", "/console/enter", *followed))[0] == 403
    assert (await ask("GET", "/console", *site("cross-site", "navigate", "iframe")))[0] == 403
    assert (await ask("GET", "/console/static/console.js", *site("same-site", "no-cors", "script")))[0] == 403


async def test_a_field_that_is_judged_may_not_be_sent_twice() -> None:
    for twice in ("host", "origin", "sec-fetch-site"):
        assert (await ask("POST", "/api/v1/tasks", (twice, OWN), (twice, OWN)))[0] == 400


async def test_every_refusal_is_a_problem() -> None:
    status, body = await ask("GET", "/nothing")
    assert (status, b'"code": "not_found"' in body) == (404, True)
    assert b'"code": "wrong_host"' in (await ask("GET", "/console", host="x"))[1]


async def test_signs_of_life_need_no_host() -> None:
    assert await ask("GET", "/healthz", host="probe") == (200, b"ok\n")
    assert await ask("GET", "/readyz", host="probe") == (503, b"not ready\n")
