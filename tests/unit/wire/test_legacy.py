"""The legacy machine as transcripts, and the law that N clients never meet in it."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.edge import subject

from gateway.wire.asks import Ask, Call, Cancel, List, Unmediated
from gateway.wire.http import Door, Head, Reply
from gateway.wire.jsonrpc import Notification, Request, RequestId, Response
from gateway.wire.legacy import IDLE_S, LATEST, MAX_SESSIONS, Legacy, Opened, Session, cancelled, owner_of
from gateway.wire.versions import HANDSHAKE

DOOR = Door(frozenset({"localhost"}), "http://localhost")


def head(path: str = "/mcp") -> Head:
    found = DOOR.read("POST", path.encode(), [(b"host", b"localhost"), (b"content-type", b"application/json")])
    assert isinstance(found, Head)
    return found


def initialize(version: Any = LATEST) -> Request:
    return Request(0, "initialize", {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "c"}})


def opened(wire: Legacy, owner: str = "alice", session_id: str = "ses_1", now: float = 0.0) -> Session:
    outcome = wire.initialize(initialize(), owner=owner, session_id=session_id, now=now)
    assert isinstance(outcome, Opened)
    wire.resume(outcome.session)
    return outcome.session


def call(request_id: RequestId = 7, name: str = "bank__pay") -> Request:
    return Request(request_id, "tools/call", {"name": name, "arguments": {}})


def error(asked: Ask) -> int:
    assert isinstance(asked, Reply)
    assert asked.status == 200
    return int(json.loads(asked.body)["error"]["code"])


def test_a_conversation() -> None:
    wire = Legacy()
    session = opened(wire)

    assert wire.receive(session, head(), Notification("notifications/initialized", {})) == Reply(202)
    ping = wire.receive(session, head(), Request(1, "ping", {}))
    assert isinstance(ping, Reply)
    assert json.loads(ping.body) == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert wire.receive(session, head(), Request(2, "tools/list", {})) == List(2)
    assert wire.receive(session, head(), call(7)) == Call(7, "bank", "pay", {})
    assert wire.receive(session, head(), Notification("notifications/cancelled", {"requestId": 7})) == Cancel(7)
    wire.settled(session, 7)
    assert wire.receive(session, head(), Notification("notifications/cancelled", {"requestId": 7})) == Reply(202)


@pytest.mark.parametrize("version", HANDSHAKE)
def test_a_version_that_a_handshake_reaches_is_taken(version: str) -> None:
    outcome = Legacy().initialize(initialize(version), owner="a", session_id="s", now=0.0)
    assert isinstance(outcome, Opened)
    assert json.loads(outcome.reply.body)["result"]["protocolVersion"] == version


@pytest.mark.parametrize("version", ["2026-07-28", "1999-01-01", ""])
def test_for_any_other_the_newest_is_offered(version: str) -> None:
    outcome = Legacy().initialize(initialize(version), owner="a", session_id="s", now=0.0)
    assert isinstance(outcome, Opened)
    result = json.loads(outcome.reply.body)["result"]
    assert result["protocolVersion"] == LATEST
    assert result["capabilities"] == {"tools": {}}
    assert dict(outcome.reply.fields)[b"mcp-session-id"] == b"s"


def test_a_handshake_without_a_version_and_a_second_one_are_refused() -> None:
    wire = Legacy()
    refused = wire.initialize(initialize(None), owner="a", session_id="s", now=0.0)
    assert isinstance(refused, Reply)
    assert error(refused) == -32602
    assert error(wire.receive(opened(wire), head(), initialize())) == -32600


@pytest.mark.promise("sessions-never-meet")
@pytest.mark.parametrize(
    "other",
    [
        owner_of(subject("bob"), "/mcp"),
        owner_of(subject("alice", agent="agt_2"), "/mcp"),
        owner_of(subject("alice", task="task_2"), "/mcp"),
        owner_of(subject("alice", root="tok_2"), "/mcp"),
        owner_of(subject("alice"), "/mcp/bank"),
    ],
)
def test_a_session_is_its_owners_on_its_own_route(other: str) -> None:
    wire = Legacy()
    owner = owner_of(subject("alice"), "/mcp")
    session = opened(wire, owner)

    assert wire.find("ses_1", owner, 1.0) is session
    assert wire.find("ses_1", other, 1.0) is None


def test_an_unused_session_is_gone_and_a_used_one_stays() -> None:
    wire = Legacy()
    opened(wire)

    assert wire.find("ses_1", "alice", IDLE_S) is not None
    assert wire.find("ses_1", "alice", 2 * IDLE_S) is not None
    assert wire.find("ses_1", "alice", 3 * IDLE_S + 1) is None
    assert wire.expired(3 * IDLE_S + 1) == ("ses_1",)


def test_an_ended_session_is_gone_and_tells_what_it_had_in_flight() -> None:
    wire = Legacy()
    wire.receive(opened(wire), head(), call("x"))

    assert wire.end("ses_1") == ("x",)
    assert wire.find("ses_1", "alice", 0.0) is None
    assert wire.end("ses_1") == ()


def test_one_owner_cannot_pile_up_sessions() -> None:
    wire = Legacy()
    opened(wire, "bob", "bobs")
    for number in range(MAX_SESSIONS):
        opened(wire, "alice", f"s{number}", now=float(number))

    outcome = wire.initialize(initialize(), owner="alice", session_id="more", now=999.0)
    assert isinstance(outcome, Opened)
    assert outcome.displaced == ("s0",)


@pytest.mark.promise("ids-typed")
def test_an_id_in_flight_is_refused_and_a_string_is_not_a_number() -> None:
    wire = Legacy()
    session = opened(wire)

    assert isinstance(wire.receive(session, head(), call(1)), Call)
    assert error(wire.receive(session, head(), call(1))) == -32600
    assert isinstance(wire.receive(session, head(), call("1")), Call)
    for target in (True, 1.0, None, [1]):
        note = Notification("notifications/cancelled", {"requestId": target})
        assert wire.receive(session, head(), note) == Reply(202)
    wire.settled(session, 1)
    assert isinstance(wire.receive(session, head(), call(1)), Call)


@pytest.mark.promise("not-yet-mediated")
@pytest.mark.parametrize("method", ["resources/list", "prompts/list", "logging/setLevel", "resources/subscribe", "x/y"])
def test_any_other_method_is_recorded_then_refused_by_name(method: str) -> None:
    wire = Legacy()
    asked = wire.receive(opened(wire), head(), Request(7, method, {}))
    assert isinstance(asked, Unmediated)
    assert asked.refusal.code == -32601
    assert method in asked.refusal.message


def test_an_answer_to_a_request_that_was_never_sent_is_dropped() -> None:
    wire = Legacy()
    assert wire.receive(opened(wire), head(), Response(7, {})) == Reply(202)


def test_a_cancelled_request_is_still_answered() -> None:
    assert json.loads(cancelled("x"))["error"]["code"] == -32800


@dataclass
class Client:
    """What one of N clients may believe."""

    owner: str
    path: str
    session: str = ""
    in_flight: set[RequestId] = field(default_factory=set)


CLIENTS = st.integers(0, 3)
IDS = st.sampled_from([1, 2, "1", "2"])
STEPS = st.tuples(CLIENTS, st.sampled_from(["open", "call", "cancel", "settle", "end", "steal"]), IDS, CLIENTS)


@pytest.mark.promise("sessions-never-meet")
@settings(max_examples=200)
@given(st.lists(STEPS, max_size=40))
def test_sessions_ids_and_routes_of_n_clients_never_meet(steps: list[tuple[int, str, RequestId, int]]) -> None:
    """Two principals on two routes, in any order, with each other's session ids: each sees its own calls alone."""
    wire = Legacy()
    clients = [
        Client(owner_of(subject(name), path), path) for name in ("alice", "bob") for path in ("/mcp", "/mcp/bank")
    ]
    for number, (who, what, request_id, other) in enumerate(steps):
        me = clients[who]
        if what == "open":
            me.session, me.in_flight = opened(wire, me.owner, f"ses_{number}").id, set()
            continue
        if what == "steal" and other != who and clients[other].session:
            assert wire.find(clients[other].session, me.owner, 0.0) is None
            continue
        session = wire.find(me.session, me.owner, 0.0)
        assert (session is not None) == bool(me.session)
        if session is None:
            continue
        match what:
            case "call":
                asked = wire.receive(session, head(me.path), call(request_id))
                assert isinstance(asked, Call) == (request_id not in me.in_flight)
                if isinstance(asked, Call):
                    expected = ("bank", "bank__pay") if me.path == "/mcp/bank" else ("bank", "pay")
                    assert (asked.server, asked.tool) == expected
                me.in_flight.add(request_id)
            case "cancel":
                note = Notification("notifications/cancelled", {"requestId": request_id})
                expected_ask = Cancel(request_id) if request_id in me.in_flight else Reply(202)
                assert wire.receive(session, head(me.path), note) == expected_ask
            case "settle":
                wire.settled(session, request_id)
                me.in_flight.discard(request_id)
            case "end":
                assert set(wire.end(session.id)) == me.in_flight
                me.session, me.in_flight = "", set()
