"""A server that says anything at all, in its greeting and in its listings: it is ended, and disturbs nobody."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import UpstreamError
from gateway.options import ServerOptions
from gateway.ports import Intent, OutcomeKind
from gateway.upstreams import handshake, peer
from gateway.upstreams.discovery import Finder
from gateway.upstreams.peer import Peer
from gateway.upstreams.stdio import Connection
from gateway.upstreams.table import Table
from policies.action import Action, Kind, Subject
from policies.case import Case, Definition, Snapshot
from policies.describe import Survey, digests, survey
from policies.grant import Grant
from policies.jsonvalue import JSON, JSONObject
from policies.label import CLEAN
from policies.verdict import Code

HELLO: JSONObject = {"protocolVersion": "2025-06-18", "capabilities": {"tools": {"listChanged": True}}}
PLAIN: JSONObject = {"name": "plain", "inputSchema": {"type": "object"}}
CHANGED = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}


@dataclass
class Scripted:
    """A session whose server answers each method as the test says; a method that it does not know is an error."""

    answers: dict[str, Callable[[], Any]]
    killed: bool = False
    heard: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stdin, self.stdout, self.stderr = self, asyncio.StreamReader(), asyncio.StreamReader()

    def write(self, data: bytes, /) -> None:
        asked = json.loads(data)
        self.heard.append(asked["method"])
        if "id" not in asked:
            return
        said = {"error": {"code": -32601, "message": "no"}}
        if asked["method"] in self.answers:
            said = {"result": self.answers[asked["method"]]()}
        self.says({"jsonrpc": "2.0", "id": asked["id"], **said})

    def says(self, message: object) -> None:
        self.stdout.feed_data(json.dumps(message).encode() + b"\n")

    async def drain(self) -> None: ...

    def close(self) -> None: ...

    async def wait(self) -> int:
        return 0

    def kill(self) -> None:
        if not self.killed:
            self.killed = True
            self.stdout.feed_eof()
            self.stderr.feed_eof()


def scripted(listing: JSON = None, **answers: JSON) -> Scripted:
    said = {"initialize": HELLO, "tools/list": {"tools": [PLAIN] if listing is None else listing}, **answers}
    return Scripted({method: (lambda value=value: value) for method, value in said.items()})  # type: ignore[misc]


def opened(session: Scripted) -> Peer:
    options = ServerOptions(name="rogue", command=("rogue",))
    return Peer(options=options, task="t", connection=Connection(session=session, max_result_bytes=10**6), timeout_s=5)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
SCHEMA_WORDS = st.sampled_from(
    ["type", "properties", "$ref", "$defs", "$schema", "$id", "allOf", "items", "pattern", "patternProperties", "enum",
     "default", "required", "additionalProperties", "dependentSchemas", "dependencies", "not", "const", "x-mcp-header"]
)  # fmt: skip
schemas = st.recursive(
    anything,
    lambda inner: st.dictionaries(SCHEMA_WORDS, inner, max_size=4).map(lambda rule: {"type": "object", **rule}),
    max_leaves=8,
)
tools = st.fixed_dictionaries({"name": anything | st.just("pay"), "inputSchema": schemas}) | anything


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({}, optional={"protocolVersion": anything, "capabilities": anything}), anything, anything)
@pytest.mark.promise("hostile-words-end-their-server")
def test_whatever_a_server_says_it_is_opened_or_ended(greeting: JSONObject, discover: JSON, listing: JSON) -> None:
    async def play() -> None:
        said = {"server/discover": discover} if isinstance(discover, dict) else {}
        session = scripted(listing, initialize={**HELLO, **greeting}, **said)
        rogue = opened(session)
        try:
            await rogue.open(None)
        except UpstreamError:
            assert session.killed
        else:
            await rogue.close("done")

    asyncio.run(play())


@settings(max_examples=200, deadline=None)
@given(st.lists(tools, max_size=3))
def test_any_listing_can_be_surveyed(listed: list[JSON]) -> None:
    found = survey("rogue", listed)
    assert found.offered.keys() <= digests(listed).keys()
    assert all(digests(listed)[name] == one.digest for name, one in found.offered.items())


@pytest.mark.parametrize("version", [["2025-06-18"], {}, None, 20250618])
async def test_a_version_that_is_no_text_is_a_server_that_cannot_be_spoken_to(version: JSON) -> None:
    session = scripted(initialize={**HELLO, "protocolVersion": version})
    with pytest.raises(UpstreamError, match="not known"):
        await opened(session).open(None)
    assert session.killed


async def test_whatever_breaks_while_a_server_is_opened_its_process_is_ended() -> None:
    session = scripted()
    session.answers["tools/list"] = raising  # its pipe raises what no pipe raises
    with pytest.raises(UpstreamError, match="rogue"):
        await opened(session).open(None)
    assert session.killed


# ---- listings -----------------------------------------------------------------------------------------------------


async def test_a_listing_larger_than_any_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "MAX_LISTING_BYTES", 1_000)
    session = scripted([{**PLAIN, "description": "x" * 2_000}])
    with pytest.raises(UpstreamError, match="1000 bytes"):
        await opened(session).open(None)


async def test_a_server_that_changes_its_tools_without_end_is_ended() -> None:
    session = scripted()
    rogue = opened(session)
    await rogue.open(None)
    for _ in range(peer.MAX_RELISTS + 1):
        session.says(CHANGED)
        async with asyncio.timeout(5):
            while rogue.settled.is_set() and not rogue.connection.ended:  # noqa: ASYNC110 - the reader's next turn
                await asyncio.sleep(0)
            await rogue.settled.wait()
    assert "too many changes" in rogue.connection.ended
    assert session.heard.count("tools/list") == peer.MAX_RELISTS
    await rogue.close("done")


async def test_changes_that_are_announced_at_once_are_one_listing() -> None:
    session = scripted()
    rogue = opened(session)
    await rogue.open(None)
    session.stdout.feed_data(b"".join(json.dumps(CHANGED).encode() + b"\n" for _ in range(50)))
    async with asyncio.timeout(5):
        while rogue.settled.is_set():  # noqa: ASYNC110 - the reader's next turn
            await asyncio.sleep(0)
        await rogue.settled.wait()
    assert not rogue.connection.ended
    assert session.heard.count("tools/list") == 2
    await rogue.close("done")


# ---- the table ----------------------------------------------------------------------------------------------------


@dataclass
class Harbour:
    """A table whose processes are scripted, by server; what it reported and what it was told."""

    sessions: dict[str, Callable[[], Scripted]]
    reported: list[Survey] = field(default_factory=list)
    launched: int = 0

    def __post_init__(self) -> None:
        self.table = Table(
            servers={name: ServerOptions(name=name, command=(name,)) for name in self.sessions},
            launch=self._launch,
            record=self._record,
            report=self._report,
            pinned=lambda _: frozenset(),
            start_s=5,
        )

    async def _launch(self, server: ServerOptions, *, driver: str, task: str) -> Scripted:
        self.launched += 1
        return self.sessions[server.name]()

    async def _record(self, *_: object, **__: object) -> None: ...

    async def _report(self, found: Survey) -> None:
        self.reported.append(found)

    def intent(self, server: str, tool: JSONObject) -> Intent:
        subject = Subject(principal="ann", agent="a", task="t", holder="h", root="r", token="k")
        action = Action(id="act_1", kind=Kind.CALL_TOOL, subject=subject, server=server, name="plain", arguments={})
        seen = Snapshot(
            now=0,
            task="t",
            task_version=1,
            grant=Grant(rules=()),
            revoked=False,
            mark=CLEAN,
            proofs=Nothing(),
            definition=Definition(server=server, name="plain", digest=digests([tool])["plain"], body=tool),
        )
        return Intent(
            case=Case(action=action, seen=seen),
            frame=self.table.frame(action),
            deadline_s=5.0,
            max_result_bytes=1_000,
        )


class Nothing:
    def find(self, form: object, canonical: str) -> None:
        return None


def raising() -> Scripted:
    raise TypeError("nobody thought of this")


@pytest.mark.promise("hostile-words-end-their-server")
async def test_a_server_whose_discovery_breaks_leaves_the_others_discovered() -> None:
    harbour = Harbour({"broken": raising, "good": scripted, "worse": raising})
    finder = Finder(table=harbour.table)
    await finder.first()
    assert (set(finder.found), set(finder.failures)) == ({"good"}, {"broken", "worse"})
    await harbour.table.close()


@pytest.mark.promise("every-call-has-an-outcome")
async def test_a_server_that_was_good_at_discovery_and_breaks_at_the_start_of_a_task_leaves_an_outcome() -> None:
    harbour = Harbour({"late": scripted})
    await harbour.table.discover("late")
    bad = scripted(initialize={**HELLO, "protocolVersion": ["2025-06-18"]})
    for start in (lambda: bad, raising):
        harbour.sessions["late"] = start
        harbour.table.backoffs.clear()
        outcome = await harbour.table.execute(harbour.intent("late", PLAIN))
        assert (outcome.kind, outcome.code) == (OutcomeKind.NOT_SENT, Code.UPSTREAM_FAILED)
    assert bad.killed
    await harbour.table.close()


@pytest.mark.promise("every-call-has-an-outcome")
async def test_a_road_that_breaks_after_the_write_is_an_unknown_outcome_and_the_process_is_ended() -> None:
    harbour = Harbour({"late": scripted})
    await harbour.table.discover("late")
    session = scripted()
    session.answers["tools/call"] = raising  # its pipe raises what no pipe raises
    harbour.sessions["late"] = lambda: session
    outcome = await harbour.table.execute(harbour.intent("late", PLAIN))
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, Code.UPSTREAM_FAILED)
    await harbour.table.close()
    assert session.killed


@pytest.mark.promise("listings-are-the-operators")
async def test_what_a_tasks_process_lists_is_not_reported_but_makes_the_operator_look_again() -> None:
    harbour = Harbour({"rogue": scripted})
    finder = Finder(table=harbour.table)
    await finder.first()
    looking = asyncio.create_task(finder.keep_trying())
    other = {**PLAIN, "description": "what the task told me"}
    once = [scripted([other, {**PLAIN, "name": "note"}])]
    harbour.sessions["rogue"] = lambda: once.pop() if once else scripted()
    outcome = await harbour.table.execute(harbour.intent("rogue", PLAIN))
    assert (outcome.kind, outcome.code) == (OutcomeKind.NOT_SENT, Code.DEFINITION_CHANGED)
    async with asyncio.timeout(5):
        while len(harbour.reported) < 2:  # noqa: ASYNC110 - the operator's own look
            await asyncio.sleep(0)
    assert harbour.reported[0] == harbour.reported[1], "the operator's process was told nothing by any task"
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await harbour.table.close()


async def test_the_operator_looks_again_once_in_a_while_however_often_tasks_see_something_else() -> None:
    harbour = Harbour({"rogue": scripted})
    finder = Finder(table=harbour.table, look_again_s=600)
    await finder.first()
    looking = asyncio.create_task(finder.keep_trying())
    for _ in range(5):
        harbour.table.on_difference("rogue")
        async with asyncio.timeout(5):
            while len(harbour.reported) < 2:  # noqa: ASYNC110 - the operator's own look
                await asyncio.sleep(0)
        for _ in range(100):  # turns in which a process would be started
            await asyncio.sleep(0)
    assert harbour.launched == 2
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await harbour.table.close()
