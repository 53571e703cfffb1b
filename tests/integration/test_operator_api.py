"""The operators' API over both of its roads: a console session on loopback, and the control socket."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.operators import Shop, approve, shop
from support.scene import until

API = "/api/v1"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop(tmp_path) as made:
        yield made


async def test_a_yes_over_the_control_socket_lets_exactly_the_held_call_through(store: Shop) -> None:
    ticket = await store.asks()
    async with store.socket() as operator:
        seen = (await operator.get(f"{API}/approvals/{ticket}")).json()
        answer = await operator.post(
            f"{API}/approvals/{ticket}/decisions", json=approve(seen, comment="fine"), headers={"if-match": '"1"'}
        )
        held = await store.held[0]
        after = (await operator.get(f"{API}/approvals/{ticket}")).json()
        story = (await operator.get(f"{API}/audit/why/{ticket}")).json()["events"]

    assert answer.status_code == 200
    assert (held.code, held.result is not None, store.paid) == ("", True, [4250])
    assert (after["state"], after["comment"], after["by"].startswith("control:uid=")) == ("consumed", "fine", True)
    assert [event["kind"] for event in story] == [
        "approval.requested",
        "approval.decided",
        "effect.intent",
        "effect.outcome",
    ]


@pytest.mark.promise("stale-decision-refused")
async def test_a_decision_on_what_has_moved_is_a_conflict(store: Shop) -> None:
    ticket = await store.asks()
    where = f"{API}/approvals/{ticket}/decisions"
    async with store.browser() as operator:
        seen = (await operator.get(f"{API}/approvals/{ticket}")).json()
        for version in ('"2"', "1", '"x"', 'W/"1"', '"1", "2"', '""'):
            stale = await operator.post(where, json=approve(seen), headers={"if-match": version})
            assert (stale.status_code, stale.json()["code"]) == (409, "conflict"), version
        assert (await operator.post(where, json=approve(seen, version=2))).status_code == 409
        other = {**approve(seen), "call_digest": "0" * 64}
        assert (await operator.post(where, json=other)).status_code == 409
        both = await operator.post(where, json=approve(seen, version=1), headers={"if-match": '"2"'})
        assert both.status_code == 409
        denied = await operator.post(where, json={**approve(seen), "decision": "deny"}, headers={"if-match": '"1"'})
        assert denied.json()["state"] == "denied"
        assert (await operator.post(where, json=approve(seen))).status_code == 409

    assert ((await store.held[0]).code, store.paid) == ("denied_by_person", [])


async def test_edited_arguments_are_refused_clearly(store: Shop) -> None:
    ticket = await store.asks()
    async with store.browser() as operator:
        seen = (await operator.get(f"{API}/approvals/{ticket}")).json()
        edit = await operator.post(
            f"{API}/approvals/{ticket}/decisions", json={"decision": "edit", "call_digest": seen["call_digest"]}
        )

    assert (edit.status_code, "cannot be edited" in edit.json()["detail"]) == (422, True)


@pytest.mark.promise("problems-everywhere")
async def test_every_refusal_is_a_problem_with_a_code(store: Shop) -> None:
    ok = {"text": "t", "allow": ["till.read"]}
    asks: list[tuple[int, str, str, dict[str, Any]]] = [
        (404, "GET", "/nothing", {}),
        (404, "GET", "/tasks/task_0", {}),
        (404, "GET", "/audit/evt_0", {}),
        (404, "GET", "/audit/why/act_0", {}),
        (404, "GET", "/approvals/apr_0", {}),
        (404, "GET", "/servers/none/diff", {}),
        (405, "DELETE", "/tasks", {}),
        (422, "GET", "/approvals?state=maybe", {}),
        (422, "GET", "/audit?limit=501", {}),
        (422, "GET", "/audit?since=yesterday", {}),
        (422, "POST", "/tasks", {"content": b"{", "headers": {"content-type": "application/json"}}),
        (422, "POST", "/tasks", {"content": b"{}", "headers": {"content-type": "text/plain"}}),
        (422, "POST", "/tasks", {"json": {**ok, "calls": "5"}}),
        (422, "POST", "/tasks", {"json": {**ok, "calls": 0}}),
        (422, "POST", "/tasks", {"json": {**ok, "calls": 2**60}}),
        (422, "POST", "/tasks", {"json": {**ok, "spend": {"eur": 1}}}),
        (422, "POST", "/tasks", {"json": {**ok, "spend": {"EUR": True}}}),
        (422, "POST", "/tasks", {"json": {**ok, "agent": "a b"}}),
        (422, "POST", "/tasks", {"json": {**ok, "more": 1}}),
        (422, "POST", "/tasks", {"json": {**ok, "allow": ["till.pay("]}}),
        (413, "POST", "/tasks", {"json": {**ok, "text": "x" * 300_000}}),
        (400, "POST", "/tasks", {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}),
    ]
    async with store.browser() as page, store.socket() as socket:
        for operator in (page, socket):
            for status, method, path, more in asks:
                answer = await operator.request(method, API + path, **more)
                assert answer.status_code == status, (method, path, answer.text)
                assert answer.headers["content-type"] == "application/problem+json"
                assert {"type", "title", "status", "code", "detail"} == set(answer.json())
                assert answer.headers["cache-control"] == "no-store"


async def test_nobody_is_nobody(store: Shop) -> None:
    async with store.browser() as operator:
        operator.cookies.clear()
        for path in ("/tasks", "/approvals", "/approvals/events", "/audit", "/servers"):
            answer = await operator.get(API + path)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_lists_are_paged_by_key(store: Shop) -> None:
    tickets = [await store.asks(cents) for cents in (100, 200, 300)]
    async with store.socket() as operator:
        for name, key in (("approvals", "id"), ("audit", "index"), ("tasks", "id")):
            rows = "events" if name == "audit" else name
            whole = (await operator.get(f"{API}/{name}", params={"limit": 500})).json()
            seen, after = [], None
            while True:
                more = {} if after is None else {"after": after}
                page = (await operator.get(f"{API}/{name}", params={"limit": 2, **more})).json()
                seen += page[rows]
                if (after := page["next"]) is None:
                    break
            assert [row[key] for row in seen] == [row[key] for row in whole[rows]]
        listed = (await operator.get(f"{API}/approvals", params={"state": "pending"})).json()["approvals"]
    assert [ticket["id"] for ticket in listed] == tickets


async def test_the_log_is_asked_by_what_people_remember(store: Shop) -> None:
    ticket = await store.asks()
    async with store.socket() as operator:

        async def kinds(**wanted: str) -> set[str]:
            page = (await operator.get(f"{API}/audit", params=wanted)).json()
            return {event["kind"] for event in page["events"]}

        seen = (await operator.get(f"{API}/approvals/{ticket}")).json()
        created = seen["created"]
        assert await kinds(tool="till.pay", verdict="ask") == {"approval.requested"}
        assert await kinds(ticket=ticket) == {"approval.requested"}
        assert await kinds(agent="shopper", kind="task.created") == {"task.created"}
        assert await kinds(task=store.granted.task.id, until=created) == {"task.created", "token.minted", "listed"} - {
            "listed"
        }
        assert await kinds(since="2999-01-01T00:00:00Z") == set()
        event = (await operator.get(f"{API}/audit", params={"ticket": ticket})).json()["events"][0]
        assert (await operator.get(f"{API}/audit/{event['id']}")).json() == event
        assert (await operator.get(f"{API}/audit/{event['index']}")).json() == event
    assert created.endswith("Z")


async def test_a_broken_last_event_id_is_met_with_all_that_waits(store: Shop) -> None:
    ticket = await store.asks()
    async with (
        store.browser() as operator,
        operator.stream("GET", f"{API}/approvals/events", headers={"last-event-id": "apr_0:x;'--" * 50}) as feed,
    ):
        lines = feed.aiter_lines()
        assert [await anext(lines), await anext(lines)] == ["event: waiting", f'data: {{"waiting": ["{ticket}"]}}']
    await until(lambda: not store.gateway.desk.listeners)
