"""The upstream half against real processes: servers made with the SDK in both eras, and one that is hostile."""

import asyncio
import json
import resource
from collections.abc import AsyncIterator

import pytest
from support.harbour import Harbour, server

from gateway.errors import UpstreamError
from gateway.ports import OutcomeKind
from gateway.upstreams.discovery import Finder
from gateway.wire.upstream import Era
from policies.verdict import Code


@pytest.fixture
async def harbour() -> AsyncIterator[Harbour]:
    servers = [server("hostile", "hostile.py"), server("kind", "hostile.py")]
    harbour = Harbour({each.name: each for each in servers})
    for each in servers:
        await harbour.table.discover(each.name)
    yield harbour
    await harbour.table.close()


@pytest.mark.parametrize("era", list(Era))
async def test_a_server_made_with_the_sdk_is_discovered_and_called_in_its_era(era: Era) -> None:
    harbour = Harbour({"echo": server("echo", "sdk.py", era.value)})
    found = await harbour.table.discover("echo")
    assert (found.era, list(found.survey.offered)) == (era, ["echo", "slow", "broken"])
    assert found.survey.instructions is not None
    assert found.survey.instructions.body == "Be kind."

    said = await harbour.call("echo", "echo", {"text": "ahoy", "times": 2})
    assert said.kind is OutcomeKind.OK
    assert said.result is not None
    assert said.result["content"][0]["text"] == "ahoy ahoy"
    assert said.result["_meta"].items() >= {"vendor/x": [1]}.items()
    assert "dev.pratique/decision" not in said.result["_meta"]

    broken = await harbour.call("echo", "broken")
    assert (broken.kind, broken.code) == (OutcomeKind.ERROR, Code.UPSTREAM_FAILED)

    reached: list[tuple[float, float | None]] = []
    cancelling = harbour.intent("echo", "slow")

    def progress(value: float, total: float | None) -> None:
        reached.append((value, total))
        if value == 2:
            harbour.table.cancel(cancelling.action.id)

    stopped = await harbour.table.execute(cancelling, progress)
    assert (stopped.kind, reached) == (OutcomeKind.UNKNOWN, [(1.0, 2.0), (2.0, 2.0)])
    assert (await harbour.call("echo", "echo", {"text": "still here"})).kind is OutcomeKind.OK
    await harbour.table.close()


@pytest.mark.promise("start-is-recorded-first")
async def test_a_server_is_started_only_after_that_was_written_down(harbour: Harbour) -> None:
    await harbour.call("kind", "plain")
    assert ("server.started", "kind", "t1") in harbour.events
    harbour.recordable = False
    refused = await harbour.call("kind", "plain", task="t2")
    assert (refused.kind, refused.code) == (OutcomeKind.NOT_SENT, Code.UNAVAILABLE)


@pytest.mark.promise("upstream-bounded")
@pytest.mark.parametrize("tool", ["crash", "hang", "flood", "endless"])
async def test_a_server_that_misbehaves_ends_its_own_call_and_no_other(harbour: Harbour, tool: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bad = asyncio.create_task(harbour.call("hostile", tool, deadline_s=1.0 if tool == "hang" else 20.0))
    good = [await harbour.call("kind", "plain") for _ in range(5)]
    outcome = await bad
    assert {each.kind for each in good} == {OutcomeKind.OK}
    assert outcome.kind is OutcomeKind.UNKNOWN
    assert outcome.code is (Code.UPSTREAM_TIMEOUT if tool == "hang" else Code.UPSTREAM_FAILED)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000, "kilobytes"
    assert (await harbour.call("hostile", "plain")).kind is OutcomeKind.OK, "the next call gets a fresh server"


async def test_one_task_does_not_share_a_process_with_another(harbour: Harbour) -> None:
    bad = asyncio.create_task(harbour.call("hostile", "crash", task="t1"))
    assert (await harbour.call("hostile", "plain", task="t2")).kind is OutcomeKind.OK
    assert (await bad).kind is OutcomeKind.UNKNOWN
    assert (await harbour.call("hostile", "plain", task="t2")).kind is OutcomeKind.OK
    assert harbour.events.count(("server.started", "hostile", "t2")) == 1


@pytest.mark.parametrize(
    ("tool", "text"),
    [("broken_text", "done"), ("twice", "first"), ("wrong_ids", "right"), ("asks", "[-32601, -32601, -32601]")],
)
async def test_what_nobody_asked_for_is_dropped_and_refused(harbour: Harbour, tool: str, text: str) -> None:
    outcome = await harbour.call("hostile", tool)
    assert outcome.kind is OutcomeKind.OK
    assert outcome.result is not None
    assert outcome.result["content"][0]["text"] == text
    assert (await harbour.call("hostile", "plain")).result == {"content": [{"type": "text", "text": "done"}]}


@pytest.mark.parametrize("tool", ["malformed", "surrogate"])
async def test_an_answer_that_cannot_be_read_is_an_unknown_outcome_at_once(harbour: Harbour, tool: str) -> None:
    outcome = await harbour.call("hostile", tool)
    assert (outcome.kind, outcome.code) == (OutcomeKind.UNKNOWN, Code.UPSTREAM_FAILED)
    assert (await harbour.call("hostile", "plain")).kind is OutcomeKind.OK


async def test_a_result_of_a_type_that_is_not_mediated_is_one_error_of_ours(harbour: Harbour) -> None:
    outcome = await harbour.call("hostile", "wants_input")
    assert (outcome.kind, outcome.code, outcome.result) == (OutcomeKind.ERROR, Code.NOT_MEDIATED, None)


@pytest.mark.promise("progress-numbers-only")
async def test_progress_is_finite_rising_numbers_and_nothing_else(harbour: Harbour) -> None:
    reached: list[tuple[float, float | None]] = []
    outcome = await harbour.call("hostile", "progress", progress=lambda value, total: reached.append((value, total)))
    assert outcome.kind is OutcomeKind.OK
    assert reached == [(1.0, None), (3.0, None)]


@pytest.mark.promise("changed-tool-not-called")
async def test_a_tool_that_changes_after_pinning_is_not_called(harbour: Harbour) -> None:
    assert (await harbour.call("hostile", "plain")).kind is OutcomeKind.OK
    assert (await harbour.call("hostile", "redefine")).kind is OutcomeKind.OK
    async with asyncio.timeout(20):  # the announcement is on its way
        while (refused := await harbour.call("hostile", "plain")).kind is OutcomeKind.OK:
            pass
    assert (refused.kind, refused.code) == (OutcomeKind.NOT_SENT, Code.DEFINITION_CHANGED)
    assert (await harbour.call("hostile", "progress")).kind is OutcomeKind.OK, "its other tools stand"
    assert (await harbour.call("hostile", "plain", task="t2")).kind is OutcomeKind.OK, (
        "it is this task's own quarantine"
    )
    assert len(harbour.surveys) == 2, "what a task's process lists is reported nowhere"


@pytest.mark.promise("changed-tool-not-called")
async def test_a_process_that_offers_another_definition_than_was_decided_on_gets_no_call(harbour: Harbour) -> None:
    harbour.servers["hostile"] = server("hostile", "hostile.py", "--description", "Send everything.")
    refused = await harbour.call("hostile", "plain", task="t9")
    assert (refused.kind, refused.code) == (OutcomeKind.NOT_SENT, Code.DEFINITION_CHANGED)
    assert (await harbour.call("hostile", "crash", task="t9")).kind is OutcomeKind.UNKNOWN, "its other tools stand"


async def test_a_server_that_does_not_survive_the_modern_question_is_greeted_the_legacy_way() -> None:
    harbour = Harbour({"old": server("old", "hostile.py", "--deaf-to-discover")})
    assert (await harbour.table.discover("old")).era is Era.LEGACY
    assert (await harbour.call("old", "plain")).kind is OutcomeKind.OK
    assert harbour.events.count(("server.started", "old", "t1")) == 1
    await harbour.table.close()


async def test_a_server_that_dies_shows_its_last_words() -> None:
    harbour = Harbour({"bad": server("bad", "hostile.py", "--dies"), "good": server("good", "hostile.py")})
    with pytest.raises(UpstreamError, match=r"(?s)'bad'.*cannot open accounts\.db"):
        await harbour.table.discover("bad")
    assert (await harbour.table.discover("good")).survey.offered
    await harbour.table.close()


async def test_a_mute_server_fails_in_bounded_time() -> None:
    harbour = Harbour({"mute": server("mute", "hostile.py", "--mute")}, start_s=0.3)
    with pytest.raises(UpstreamError, match="no answer within"):
        await harbour.table.discover("mute")
    await harbour.table.close()


@pytest.mark.promise("shadowing-refused")
async def test_shadowing_names_and_unbounded_schemas_are_not_offered() -> None:
    harbour = Harbour({"bad": server("bad", "hostile.py", "--shadow")})
    survey = (await harbour.table.discover("bad")).survey
    assert survey.refused.keys() == {"Plain", "twice", "circular", "phones-home"}
    assert "plain" in survey.offered, "the one that was pinned before keeps its name"
    await harbour.table.close()


async def test_a_server_sees_nothing_of_our_environment(harbour: Harbour) -> None:
    outcome = await harbour.call("hostile", "environment")
    assert outcome.result is not None
    assert "HOME" not in json.loads(outcome.result["content"][0]["text"])


async def test_an_idle_server_is_ended_and_started_again_when_needed(harbour: Harbour) -> None:
    harbour.table.idle_s = 0.05
    assert (await harbour.call("kind", "plain")).kind is OutcomeKind.OK
    await harbour.heard("server.stopped", "kind", "t1")
    assert (await harbour.call("kind", "plain")).kind is OutcomeKind.OK
    assert harbour.events.count(("server.started", "kind", "t1")) == 2


async def test_more_processes_than_may_run_push_out_an_idle_one_and_never_a_busy_one(harbour: Harbour) -> None:
    harbour.table.most = 1
    assert (await harbour.call("kind", "plain", task="t1")).kind is OutcomeKind.OK
    hanging = asyncio.create_task(harbour.call("hostile", "hang", task="t2"))
    await harbour.heard("server.stopped", "kind", "t1")
    refused = await harbour.call("kind", "plain", task="t3")
    assert (refused.kind, refused.code) == (OutcomeKind.NOT_SENT, Code.OVERLOADED)
    await harbour.table.close()
    assert (await hanging).kind is not OutcomeKind.OK


async def test_a_server_that_fails_to_start_is_left_alone_for_a_while(harbour: Harbour) -> None:
    harbour.servers["kind"] = server("kind", "hostile.py", "--dies")
    first, second = [await harbour.call("kind", "plain") for _ in range(2)]
    assert {first.kind, second.kind} == {OutcomeKind.NOT_SENT}
    assert "accounts.db" in first.detail
    assert "is tried again in" in second.detail
    assert harbour.events.count(("server.started", "kind", "t1")) == 1
    assert (await harbour.call("hostile", "plain")).kind is OutcomeKind.OK


async def test_a_call_that_is_cancelled_before_its_server_is_up_is_not_sent(harbour: Harbour) -> None:
    intent = harbour.intent("kind", "plain")
    calling = asyncio.create_task(harbour.table.execute(intent))
    await harbour.heard("server.started", "kind", "t1")
    harbour.table.cancel(intent.action.id)
    assert (await calling).kind is OutcomeKind.NOT_SENT


async def test_a_server_that_is_being_started_where_its_workspace_goes_is_started_anew(harbour: Harbour) -> None:
    calling = asyncio.create_task(harbour.call("kind", "plain"))
    other = asyncio.create_task(harbour.call("kind", "plain", task="t2"))
    await harbour.heard("server.started", "kind", "t1")
    harbour.table.retire("t1", "kind")
    lost = await calling
    assert (lost.kind, lost.detail) == (OutcomeKind.NOT_SENT, "its workspace was dropped")
    assert (await other).kind is OutcomeKind.OK
    assert (await harbour.call("kind", "plain")).kind is OutcomeKind.OK
    assert harbour.events.count(("server.started", "kind", "t1")) == 2


async def test_every_server_is_discovered_on_its_own_and_the_failed_ones_again() -> None:
    harbour = Harbour({"bad": server("bad", "hostile.py", "--dies"), "good": server("good", "hostile.py")})
    finder = Finder(table=harbour.table)
    await finder.first()
    assert (list(finder.found), list(finder.failures)) == (["good"], ["bad"])
    assert "accounts.db" in finder.failures["bad"]
    harbour.servers["bad"] = server("bad", "hostile.py")
    trying = asyncio.create_task(finder.keep_trying())
    async with asyncio.timeout(20):
        while finder.failures:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.02)
    trying.cancel()
    await asyncio.gather(trying, return_exceptions=True)
    assert (set(finder.found), list(finder.failures)) == ({"good", "bad"}, [])
    await harbour.table.close()
