"""What passes between whoever embeds the engine and the engine: the same messages over a queue and over a pipe.

One `Submit` is answered by `Refused`, or by any number of `Delta`s and one `Done`. Everything else answers at once.
"""

from typing import TypeAlias

from msgspec import Struct

from llmcore.request import Finish, Refused, Request

# ---- to the engine --------------------------------------------------------------------------------------------------


class Submit(Struct, frozen=True, tag=True):
    request: Request


class Cancel(Struct, frozen=True, tag=True):
    """Stop it; its blocks are free within a step. Answered by its `Done`."""

    id: str


class Suspend(Struct, frozen=True, tag=True):
    """Stop it and keep it as a snapshot with its keys and values. Answered by `Suspended`, then its `Done`."""

    id: str


class Restore(Struct, frozen=True, tag=True):
    """Go on from a snapshot under a new id, as a `Submit` does; `Delta`s begin with what had been said already."""

    id: str
    snapshot: bytes
    """As `Suspended` or a checkpoint gave it, its seal checked and removed (`snapshot.py`)."""
    request: Request
    """As it goes on: the caller has joined labels and checked the owner."""


class Look(Struct, frozen=True, tag=True):
    """Answered by `Seen`."""

    token: int


class Stop(Struct, frozen=True, tag=True):
    pass


ToEngine: TypeAlias = Submit | Cancel | Suspend | Restore | Look | Stop


# ---- from the engine ------------------------------------------------------------------------------------------------


class TokenText(Struct, frozen=True):
    """One output token for a reader."""

    token: int
    text: str
    logprob: float | None = None
    top: tuple[tuple[str, float], ...] = ()


class Delta(Struct, frozen=True, tag=True):
    """More of one sample: `text` is whole characters only, and never past a stop string that may still match."""

    id: str
    index: int
    text: str
    tokens: tuple[TokenText, ...] = ()


class Choice(Struct, frozen=True):
    """One finished sample."""

    index: int
    text: str
    finish: Finish
    tokens: tuple[TokenText, ...] = ()
    detail: str = ""


class Usage(Struct, frozen=True, kw_only=True):
    """What a request took; its decisions in the log sum up to it."""

    prompt_tokens: int
    cached_tokens: int = 0
    completion_tokens: int = 0
    """Of all samples."""
    block_seconds: float = 0.0
    waited_s: float = 0.0
    preemptions: int = 0


class Done(Struct, frozen=True, tag=True):
    """Every sample has ended."""

    id: str
    choices: tuple[Choice, ...]
    usage: Usage


class NotTaken(Struct, frozen=True, tag=True):
    refused: Refused


class Suspended(Struct, frozen=True, tag=True):
    id: str
    snapshot: bytes


class Checkpoint(Struct, frozen=True, tag=True):
    """Where a running request stands, without its keys and values: enough to go on after a crash."""

    id: str
    snapshot: bytes


class Decision(Struct, frozen=True):
    """One thing the scheduler did with a request, and why."""

    time: float
    """Unix seconds."""
    kind: str
    """`admitted`, `started`, `preempted`, `resumed`, `refused`, `finished`, `cancelled`, `suspended`, `waited`."""
    request: str
    tenant: str
    reason: str = ""
    prefill_tokens: int = 0
    decode_tokens: int = 0
    cached_tokens: int = 0
    block_seconds: float = 0.0


class Decided(Struct, frozen=True, tag=True):
    """A batch of decisions, about one a second; complete: sums over them equal the tokens served."""

    decisions: tuple[Decision, ...]


class BlockSeen(Struct, frozen=True):
    """One block of the KV map."""

    tenant: str
    """Empty: free."""
    references: int
    is_cached: bool
    """It holds a reusable prefix and nobody uses it: free as soon as room is needed."""


class SequenceSeen(Struct, frozen=True):
    request: str
    tenant: str
    index: int
    state: str
    prompt_tokens: int
    computed: int
    output_tokens: int
    blocks: int
    waited_s: float
    preemptions: int


class TenantSeen(Struct, frozen=True):
    tenant: str
    prefill_tokens: int
    decode_tokens: int
    block_seconds: float
    service: float
    """What the fairness policy counts, weights applied."""
    waiting: int
    running: int


class Seen(Struct, frozen=True, tag=True):
    """The engine at one moment, for people."""

    token: int
    model: str
    policy: str
    block_size: int
    blocks: tuple[BlockSeen, ...]
    sequences: tuple[SequenceSeen, ...]
    tenants: tuple[TenantSeen, ...]
    steps: int
    preemptions: int
    refused: int
    prefix_hits: int
    prefix_lookups: int
    """Both in tokens."""
    tokens_per_s: float
    """Output, over the last seconds."""
    host_blocks: int
    host_blocks_used: int


class Broken(Struct, frozen=True, tag=True):
    """The engine cannot go on; everything it ran ends failed."""

    reason: str


FromEngine: TypeAlias = Delta | Done | NotTaken | Suspended | Checkpoint | Decided | Seen | Broken
