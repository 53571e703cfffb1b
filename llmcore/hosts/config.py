"""All that a host must be told to bring up its engine; it crosses a pipe, so it is values alone."""

from msgspec import Struct
from msgspec.structs import replace

from llmcore.engine_config import PreemptionMode
from llmcore.quotas import Quota


class HostConfig(Struct, frozen=True, kw_only=True):
    """A model, its memory, and how its time is shared."""

    model: str
    """`smollm2`, a folder in Hugging Face format, or a .gguf file."""
    cache: str
    """The folder of converted models and compiled kernels."""
    kv_memory_mb: int = 512
    """For keys and values on the device, all sequences together."""
    host_memory_mb: int = 512
    """For the blocks of sequences that were swapped out."""
    block_size: int = 16
    """Tokens."""
    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:1`."""
    precision: str = "auto"
    """`auto`, `float32`, `bfloat16`, `float16`, `float64`, or `int8` weights."""
    threads: int = 1
    """Of the model's arithmetic on a CPU."""
    scheduling: str = "vtc"
    """`fifo`, `round-robin`, `priority` or `vtc`."""
    shares: dict[str, float] = {}
    """Tenant to its weight under `vtc`; 1 for whoever is not named."""
    quota: Quota = Quota()
    """Every tenant's."""
    tenant_memory: float = 0.75
    """Share of the KV blocks that one tenant's running requests may come to hold, so that there is room for whoever
    comes: who runs makes none. 1: all of them."""
    max_running: int = 32
    """Sequences at once."""
    max_waiting: int = 500
    """Requests; more are refused."""
    max_step_tokens: int = 56
    """What one step may run: how long a short request waits behind a long prompt. Fewer cost the long one time."""
    chunked: bool = True
    """Whether long prompts are computed in pieces."""
    prefix_cache: bool = True
    preemption: PreemptionMode = "auto"
    checkpoint_tokens: int = 32
    """A running request is written down each so many of its output tokens; 0: never."""
    snapshot_kv_mb: int = 64
    """A suspended request's keys and values are kept up to this size, and computed again beyond it."""

    def quota_of(self, num_blocks: int) -> Quota:
        """Every tenant's, with its share of so many blocks.

        Raises:
            ValueError: `tenant_memory` is no share.
        """
        share, most = self.tenant_memory, self.quota.max_blocks
        if not 0.0 < share <= 1.0:
            raise ValueError(f"tenant_memory is {share}, and must be more than 0 and at most 1")
        if share == 1.0:
            return self.quota
        blocks = max(1, int(share * num_blocks))
        return replace(self.quota, max_blocks=blocks if most is None else min(most, blocks))
