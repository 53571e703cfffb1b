"""How large an engine is, and how it weighs what it can do when memory runs out."""

from typing import Literal, TypeAlias

from msgspec import Struct

PreemptionMode: TypeAlias = Literal["auto", "recompute", "swap"]


class EngineConfig(Struct, frozen=True, kw_only=True):
    """Fixed for the life of an engine.

    Raises:
        ValueError: a step could not run what may be running.
    """

    num_blocks: int
    """KV blocks on the device."""
    host_blocks: int = 0
    """KV blocks in host memory, for who is swapped out."""
    block_size: int = 16
    """Tokens in a block."""
    max_running: int = 32
    """Sequences at once: a request counts one for each sample or beam."""
    max_step_tokens: int = 256
    """Tokens in a step: all who decode have one each, prompts share the rest."""
    chunked: bool = True
    """Whether a long prompt is computed over several steps. If not, each goes whole, if it must beyond the budget."""
    prefix_cache: bool = True
    max_waiting: int = 1024
    """Requests in the queue."""
    max_waiting_blocks: int | None = None
    """KV blocks that the queue may come to need; None: 256 times what there is."""
    preemption: PreemptionMode = "auto"
    """`auto`: whichever costs less. `swap`: recompute where host memory is full."""
    swap_block_s: float = 0.0005
    """What moving a block costs, one way."""
    recompute_token_s: float = 0.001
    """What computing a token again costs."""

    def __post_init__(self) -> None:
        if self.block_size < 1 or self.num_blocks < 1 or self.max_running < 1:
            raise ValueError("an engine needs at least one KV block, one token in it, and one running sequence")
        if self.max_step_tokens < self.max_running:
            raise ValueError(
                f"a step of {self.max_step_tokens} tokens cannot run {self.max_running} sequences, one token each"
            )

    @property
    def waiting_blocks(self) -> int:
        return 256 * self.num_blocks if self.max_waiting_blocks is None else self.max_waiting_blocks
