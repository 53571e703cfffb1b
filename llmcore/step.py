"""One step while it is being put together: who runs what, and what is moved for it."""

from dataclasses import dataclass, field

from llmcore.engine_config import EngineConfig
from llmcore.group import Group
from llmcore.plan import Chunk, Plan
from llmcore.prefix_cache import Key
from llmcore.sequence import Sequence


@dataclass(slots=True)
class Step:
    """A plan in the making."""

    config: EngineConfig
    budget: float = field(init=False)
    """What is left of it, in tokens that have nothing before them."""
    kept: float = 0.0
    """Of the budget: not for prompts that will not end in this step, where another does."""
    chunks: list[Chunk] = field(default_factory=list)
    swap_out: list[tuple[int, int]] = field(default_factory=list)
    swap_in: list[tuple[int, int]] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)
    writes: list[tuple[list[int], bytes]] = field(default_factory=list)
    """Blocks, and the keys and values that restored groups bring for them; before the plan is run."""
    prompts: int = 0
    """Chunks of prompts among them."""
    ends_prompt: bool = False
    """Whether a prompt ends in it: somebody's first token comes of it."""
    computing: set[Key] = field(default_factory=set)
    """Of blocks that chunks of this step will fill, or go on filling."""
    returned: list[Group] = field(default_factory=list)
    """Whose keys and values come back to the device, and can be found by others only after this step."""
    forked: set[Sequence] = field(default_factory=set)
    """Begin on their parents' blocks, which can be found only after this step."""
    touched: set[Group] = field(default_factory=set)
    """Whose keys and values are written, moved or copied."""

    def __post_init__(self) -> None:
        self.budget = float(self.config.max_step_tokens)

    def bring_back(self, group: Group) -> None:
        self.returned.append(group)
        self.touched.add(group)

    def run(self, group: Group, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self.budget -= chunk.count * self.config.price(chunk.start)
        self.touched.add(group)

    @property
    def plan(self) -> Plan:
        return Plan(chunks=self.chunks, swap_out=self.swap_out, swap_in=self.swap_in, copies=self.copies)
