"""Reading the log: filters, pages, and everything about one action."""

from collections.abc import Callable

import pytest

from audit.event import Event
from audit.query import Filter, latest, query, show, why


@pytest.fixture
def day(book, make_event: Callable[..., Event]):
    """A call that asked, was approved, was retried as another action, and ran; and what has nothing to do with it."""
    pay = {"task": "task_a", "agent": "agt_a", "server": "bank", "tool": "pay"}
    book.write(
        make_event(0, "task.created", task="task_a", action="", verdict=""),
        make_event(1, "decision", action="act_1", verdict="ask", **pay),
        make_event(2, "approval.requested", action="act_1", ticket="apr_1", **pay),
        make_event(3, "decision", action="act_x", verdict="deny", task="task_b", server="mail", tool="send"),
        make_event(4, "approval.decided", action="", ticket="apr_1", verdict="permit", task="task_a"),
        make_event(5, "effect.intent", action="act_2", ticket="apr_1", verdict="permit", **pay),
        make_event(6, "effect.outcome", action="act_2", verdict="ok", **pay),
        make_event(7, "server.started", task="", agent="", action="", server="bank"),
        now=1.0,
    )
    return book.connection


def indices(records) -> list[int]:
    return [record.index for record in records]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), [0, 1, 2, 3, 4, 5, 6, 7]),
        (Filter(task="task_b"), [3]),
        (Filter(agent="agt_a"), [1, 2, 5, 6]),
        (Filter(tool="bank.pay"), [1, 2, 5, 6]),
        (Filter(tool="bank.*"), [1, 2, 5, 6, 7]),
        (Filter(tool="bank"), [1, 2, 5, 6, 7]),
        (Filter(tool="mail.pay"), []),
        (Filter(kind="decision"), [1, 3]),
        (Filter(verdict="permit"), [4, 5]),
        (Filter(action="act_2"), [5, 6]),
        (Filter(ticket="apr_1"), [2, 4, 5]),
        (Filter(since=1_700_000_006.25), [6, 7]),
        (Filter(until=1_700_000_001.25), [0]),
        (Filter(task="task_a", kind="decision", verdict="ask"), [1]),
    ],
)
def test_everything_that_is_given_must_hold(day, wanted: Filter, found: list[int]) -> None:
    assert indices(query(day, wanted)) == found


def test_pages_follow_each_other_without_a_gap(day) -> None:
    seen, after = [], -1
    while page := query(day, Filter(), after=after, limit=3):
        assert len(page) <= 3
        seen += indices(page)
        after = page[-1].index
    assert seen == list(range(8))


def test_the_latest_come_newest_first(day) -> None:
    assert indices(latest(day, Filter(tool="bank.pay"), limit=3)) == [6, 5, 2]
    assert indices(latest(day, Filter())) == [7, 6, 5, 4, 3, 2, 1, 0]


def test_a_page_has_at_least_one_record_and_never_everything(day) -> None:
    assert indices(query(day, Filter(), limit=-5)) == [0]
    assert len(query(day, Filter(), limit=10**9)) == 8


@pytest.mark.parametrize("which", ["act_1", "act_2", "apr_1"])
def test_why_tells_an_action_with_the_ticket_it_went_through(day, which: str) -> None:
    story = {"act_1": [1, 2, 4, 5], "act_2": [2, 4, 5, 6], "apr_1": [1, 2, 4, 5, 6]}
    assert indices(why(day, which)) == story[which]


def test_why_is_asked_by_any_event_too(day, make_event: Callable[..., Event]) -> None:
    assert indices(why(day, make_event(6).id)) == [2, 4, 5, 6]  # of an action
    assert indices(why(day, make_event(4).id)) == [1, 2, 4, 5, 6]  # of a ticket
    assert indices(why(day, make_event(7).id)) == [7]  # of neither
    assert why(day, "act_nowhere") == []


def test_one_event_is_shown_by_its_id_or_its_leaf(day, make_event: Callable[..., Event]) -> None:
    record = show(day, make_event(5).id)
    assert record is not None
    assert (record.index, record.kind, record.payload) == (5, "effect.intent", {"n": 5})
    assert (record.server, record.tool, record.ticket, record.time) == ("bank", "pay", "apr_1", 1_700_000_005.25)
    assert len(record.hash) == 64
    assert show(day, 5) == show(day, "5") == record
    assert show(day, 99) is None
    assert show(day, "evt_nowhere") is None


def test_an_erased_event_shows_no_payload(day) -> None:
    day.execute("UPDATE payloads SET nonce = NULL, body = NULL WHERE idx = 5")
    record = show(day, 5)
    assert record is not None
    assert record.payload is None
