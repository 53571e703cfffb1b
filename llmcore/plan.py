"""What one step does, as the scheduler tells the runner, and what the runner answers. Plain values, no tensors."""

from collections.abc import Sequence as Many
from dataclasses import dataclass, field
from typing import Protocol

from llmcore.sequence import Logprob, Sequence


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens `[start, start + count)` of a sequence are run; their keys and values go to its block table."""

    sequence: Sequence
    start: int
    count: int

    @property
    def samples(self) -> bool:
        """Whether it reaches the sequence's last token, so that the next one is drawn."""
        return self.start + self.count == len(self.sequence.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One step. The runner does it in this order: swap out, swap in, copy, run."""

    chunks: Many[Chunk] = ()
    swap_out: Many[tuple[int, int]] = ()
    """(device block, host block)."""
    swap_in: Many[tuple[int, int]] = ()
    """(host block, device block)."""
    copies: Many[tuple[int, int]] = ()
    """(from, to) device blocks: copy on write."""

    @property
    def num_tokens(self) -> int:
        return sum(chunk.count for chunk in self.chunks)

    @property
    def is_empty(self) -> bool:
        return not (self.chunks or self.swap_out or self.swap_in or self.copies)


@dataclass(frozen=True, slots=True)
class Pick:
    """The next token of a sequence."""

    token: int
    logprob: Logprob | None = None
    """Where the request wants them; for a beam, `top` holds the candidates (twice the width)."""
    failed: str = ""
    """Why there is none: logits that are no numbers, a grammar that allows nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the engine must know of a model."""

    name: str
    digest: str
    """Of weights and configuration: a snapshot is of one model."""
    vocabulary: int
    window: int
    """Tokens of prompt and output together."""
    layers: int
    kv_heads: int
    head_dim: int
    kv_bytes: int
    """Of one number in the cache."""
    eos: frozenset[int] = field(default_factory=frozenset)

    def block_bytes(self, block_size: int) -> int:
        """Keys and values of one block, all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * block_size * self.kv_bytes


class Runner(Protocol):
    """Executes plans. `runner/model_runner.py` with torch; tests and the virtual clock have one without."""

    @property
    def shape(self) -> Shape: ...

    def run(self, plan: Plan) -> Many[Pick]:
        """One pick for each chunk that samples, in their order."""
        ...

    def read_blocks(self, blocks: Many[int], filled: Many[int]) -> bytes:
        """The keys and values of device blocks, for a snapshot: of each its first `filled` slots, and nothing of what
        somebody else left behind them."""
        ...

    def write_blocks(self, blocks: Many[int], data: bytes) -> None:
        """What `read_blocks` gave, into other blocks."""
        ...
