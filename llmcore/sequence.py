"""A sequence: one continuation of one prompt, and where its keys and values lie. The process of this small kernel."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from llmcore.request import Finish, Request


class State(StrEnum):
    WAITING = "waiting"
    """Admitted to the queue; holds no blocks, or only shared ones of its prefix."""
    PREFILL = "prefill"
    """Running, and more than its last token has no keys and values yet."""
    DECODE = "decode"
    SWAPPED = "swapped"
    """Preempted; its blocks lie in host memory."""
    FINISHED = "finished"


@dataclass(slots=True, kw_only=True, eq=False)
class Sequence:
    """Mutable: the scheduler and the engine move it, nobody else."""

    id: int
    """Unique in this engine; the order of arrival."""
    request: Request
    index: int
    """Which of the request's samples (or beams) it is."""
    tokens: list[int]
    """Prompt, then output."""
    computed: int = 0
    """How many of the tokens have their keys and values in the blocks below."""
    blocks: list[int] = field(default_factory=list)
    """The block table: block `i` holds tokens `[i * block_size, (i + 1) * block_size)`."""
    state: State = State.WAITING
    finish: Finish | None = None
    detail: str = ""
    """With `Finish.FAILED`: why."""
    logprobs: list["Logprob"] = field(default_factory=list)
    """One for each output token, where the request wants them."""
    score: float = 0.0
    """Sum of the output tokens' log-probabilities; beam search ranks by it."""
    grammar: Any = None
    """The matcher's state (`runner/grammar.py`); rebuilt from the output tokens wherever the sequence goes."""
    cached: int = 0
    """Prompt tokens that the prefix cache spared it, the first time."""
    preemptions: int = 0
    arrived: float = 0.0
    """Seconds, on the engine's clock."""
    admitted: float | None = None
    first_token: float | None = None
    block_seconds: float = 0.0
    """KV blocks held, times how long; a block shared by `k` sequences counts one `k`-th for each."""
    block_debt: float = 0.0
    """What the meters of its blocks read when `block_seconds` was last brought up to date."""

    @property
    def num_prompt(self) -> int:
        return len(self.request.prompt)

    @property
    def output(self) -> list[int]:
        return self.tokens[self.num_prompt :]

    @property
    def uncomputed(self) -> int:
        """Tokens that the next steps must run; 1 in decode."""
        return len(self.tokens) - self.computed


@dataclass(frozen=True, slots=True)
class Logprob:
    """One output token as the model saw it, before temperature and masks."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()
    """(token, log-probability), best first."""
