"""What the proxy has to tell: connections, refusals, budgets that ran out. No event holds a secret."""

from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

LONGEST: Final = 120
"""Characters of hostile text that are repeated."""


class Unrecorded(Exception):
    """An event could not be written down; what it announces must not happen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A connection is about to be made. Nothing has been sent yet, not even the request for it."""

    connection: int
    """Which of this sandbox's: what closes it bears the same number."""
    host: str
    port: int
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """A connection is over, or could not be made."""

    connection: int
    host: str
    port: int
    address: str
    sent_bytes: int
    """By the sandbox."""
    received_bytes: int
    duration_s: float
    why: str
    """`ended`, or a sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A request that was not carried out."""

    target: str
    """What was asked for, quoted and cut: hostile text."""
    why: str
    count: int = 1
    """How many refusals this stands for: past the first ones they are counted, and only the last is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted:
    """A budget ran out. Told once."""

    what: Literal["bytes", "connections"]
    limit: int


Event: TypeAlias = Connected | Closed | Refused | Exhausted


class Record(Protocol):
    """Write one event down, durably."""

    async def __call__(self, event: Event) -> None:
        """Raises:
        Unrecorded: it was not written.
        """
        ...


def quoted(text: str) -> str:
    """Hostile text as printable ASCII, cut."""
    shown = ascii(text)[1:-1]
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "..."
