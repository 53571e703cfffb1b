"""One-time links, and what a cookie and a key are good for."""

import pytest

from gateway.edges.operators import LINK_S, SESSION_S, ConsoleSessions


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.promise("one-time-link")
def test_a_link_opens_the_console_once() -> None:
    sessions = ConsoleSessions(clock=Clock())
    link = sessions.link()

    assert sessions.enter(link) is not None
    assert sessions.enter(link) is None
    assert sessions.enter("") is None


def test_a_link_grows_old() -> None:
    clock = Clock()
    sessions = ConsoleSessions(clock=clock)
    link = sessions.link()
    clock.now += LINK_S

    assert sessions.enter(link) is None


@pytest.mark.promise("cookie-only-looks")
def test_a_cookie_alone_only_looks() -> None:
    sessions = ConsoleSessions(clock=Clock())
    cookie, key = sessions.enter(sessions.link()) or ("", "")
    other, _ = sessions.enter(sessions.link()) or ("", "")

    def decides(cookie: str, key: str | None) -> bool:
        operator = sessions.operator(cookie, key)
        assert operator is not None
        return operator.decides

    assert decides(cookie, key)
    assert not decides(cookie, None)
    assert not decides(cookie, "")
    assert not decides(cookie, "\xe9")
    assert not decides(other, key)
    assert sessions.operator(None, key) is None
    assert sessions.operator("", key) is None


def test_a_session_ends() -> None:
    clock = Clock()
    sessions = ConsoleSessions(clock=clock)
    cookie, key = sessions.enter(sessions.link()) or ("", "")
    clock.now += SESSION_S

    assert sessions.operator(cookie, key) is None
    assert not sessions.is_open(cookie)
