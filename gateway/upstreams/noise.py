"""What a server says that nobody asked for: dropped, counted, and bounded."""

from dataclasses import dataclass

MAX_MESSAGES = 10_000
MAX_BYTES = 8_000_000
"""Between two answers."""


@dataclass(slots=True)
class Noise:
    """The counts are for the log and for people; the bound starts again with each answer that somebody waited for."""

    late: int = 0
    """Answers to nothing in flight: second ones, late ones, ids that were never ours."""
    malformed: int = 0
    refused: int = 0
    """Requests that the server made of us."""
    ignored: int = 0
    _messages: int = 0
    _bytes: int = 0

    def heard(self, size: int) -> bool:
        """Count one message; whether the server may go on."""
        self._messages += 1
        self._bytes += size
        return self._messages <= MAX_MESSAGES and self._bytes <= MAX_BYTES

    def answered(self) -> None:
        self._messages = self._bytes = 0
