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
    max_step_tokens: int = 56
    """What a step may run: all who decode have a token each, prompts share the rest. It bounds a step's time, which is
    what whoever comes meanwhile waits for: a token counts as one only where nothing stands before it (`price`)."""
    attention_tokens: int = 1536
    """After so many tokens, computing one costs twice what the first costs. Of SmolLM2 on a CPU, where all steps of a
    long prompt then take as long. `bench/llm/cost.json` says 2,184, of pairs alone: each chunk also reads all that
    stands before it, and the chunks of a small step are small. Of larger models it is more."""
    chunked: bool = True
    """Whether a long prompt is computed over several steps. If not, each goes whole, if it must beyond the budget."""
    prefix_cache: bool = True
    max_waiting: int = 1024
    """Requests in the queue."""
    max_waiting_blocks: int | None = None
    """KV blocks that the queue may come to need; None: 256 times what there is."""
    preemption: PreemptionMode = "auto"
    """`auto`: whichever costs less. `swap`: recompute where host memory is full."""
    swap_block_s: float = 0.00064
    """What moving a block costs, one way. This and the next as measured: `bench/llm/cost.json`."""
    recompute_token_s: float = 0.0022
    """What computing a token again costs where nothing stands before it."""

    def __post_init__(self) -> None:
        if self.block_size < 1 or self.num_blocks < 1 or self.max_running < 1:
            raise ValueError("an engine needs at least one KV block, one token in it, and one running sequence")
        if self.attention_tokens < 1:
            raise ValueError(f"attention_tokens is {self.attention_tokens}, and must be at least 1")
        if self.max_step_tokens < self.max_running:
            raise ValueError(
                f"a step of {self.max_step_tokens} tokens cannot run {self.max_running} sequences, one token each"
            )

    def price(self, context: float) -> float:
        """What computing a token costs, in tokens that have nothing before them."""
        return 1.0 + context / self.attention_tokens

    @property
    def waiting_blocks(self) -> int:
        return 256 * self.num_blocks if self.max_waiting_blocks is None else self.max_waiting_blocks
