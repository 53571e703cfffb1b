"""Why a connection is not made, or not carried on: sentences that hold nothing of what the sandbox said."""

from typing import Final

REASONS: Final = {
    400: "Bad Request",
    403: "Forbidden",
    408: "Request Timeout",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    502: "Bad Gateway",
    503: "Service Unavailable",
}


class Refusal(Exception):
    """A request is answered with no."""

    def __init__(self, why: str, *, status: int = 403, target: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.status = status
        self.target = target
        """What was asked for, if that is known: hostile text."""

    @property
    def answer(self) -> bytes:
        body = f"egress proxy: {self.why}\n".encode()
        head = (
            f"HTTP/1.1 {self.status} {REASONS[self.status]}\r\nContent-Type: text/plain\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body


class Cut(Exception):
    """A connection that was made cannot go on, and why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Broken(Cut):
    """What a connection leads to takes no more."""
