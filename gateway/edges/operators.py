"""Who may operate: a peer of `control.sock`, or a browser that opened the console by its one-time link.

A cookie only views: it is sent to every port of the host. Deciding takes the second half as well, a key that the
browser keeps in its origin's own storage (an origin has a port) and sends as a header.
"""

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

COOKIE = "pratique_console"
KEY_HEADER = "x-pratique-key"
LINK_S = 600.0
"""How long a one-time link can be used."""
SESSION_S = 12 * 3600.0
SCOPE_KEY = "pratique.operator"
"""Where the control socket's server puts who is at the other end; taken from no request."""


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody who may look and, where `decides`, act."""

    by: str
    """For the log, such as `control:uid=1000` or `console:1f3a`."""
    decides: bool


@dataclass(frozen=True, slots=True)
class _Session:
    name: str
    key: str = field(repr=False)
    expires: float


@dataclass(slots=True)
class ConsoleSessions:
    """One-time links and the browser sessions they opened; in memory, so a restart asks for a new link."""

    clock: Callable[[], float]
    _links: dict[str, float] = field(default_factory=dict)
    _sessions: dict[str, _Session] = field(default_factory=dict)

    def link(self) -> str:
        """A fresh secret for one use; it travels in the link's fragment, which browsers do not send."""
        now = self.clock()
        self._links = {link: expires for link, expires in self._links.items() if expires > now}
        secret = secrets.token_urlsafe(32)
        self._links[secret] = now + LINK_S
        return secret

    def enter(self, link: str) -> tuple[str, str] | None:
        """Use a link up: (cookie, key) of the session it opens, or None where it was used, unknown or too old."""
        now = self.clock()
        if self._links.pop(link, 0.0) <= now:
            return None
        self._sessions = {cookie: one for cookie, one in self._sessions.items() if one.expires > now}
        cookie, key = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._sessions[cookie] = _Session(secrets.token_hex(2), key, now + SESSION_S)
        return cookie, key

    def is_open(self, cookie: str | None) -> bool:
        """Whether this cookie's session still stands."""
        return self.operator(cookie, None) is not None

    def operator(self, cookie: str | None, key: str | None) -> Operator | None:
        """Who presents this cookie, and whether the key that came with it lets them decide."""
        session = self._sessions.get(cookie or "")
        if session is None or session.expires <= self.clock():
            return None
        decides = key is not None and hmac.compare_digest(session.key.encode(), key.encode())
        return Operator(f"console:{session.name}", decides)
