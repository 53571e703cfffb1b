"""A group: one request on its way through the engine. Its samples or beams start, wait and are preempted together."""

from dataclasses import dataclass, field

from llmcore.request import Request
from llmcore.sequence import Sequence, State


@dataclass(slots=True)
class Bill:
    """What was served."""

    prefill_tokens: int = 0
    """Run of prompts, and of what was computed again."""
    decode_tokens: int = 0
    """Drawn: an end of text among them; in a beam search, one for each beam and step."""
    cached_tokens: int = 0
    """That the prefix cache spared."""
    block_seconds: float = 0.0


@dataclass(slots=True, kw_only=True, eq=False)
class Group:
    """Mutable: the scheduler and the engine move it, nobody else."""

    request: Request
    arrival: int
    """Unique; the order of arrival, kept through preemption."""
    arrived: float
    """Seconds, on the engine's clock."""
    sequences: list[Sequence]
    """All of them, by index: as many as there are samples, or beams."""
    most_blocks: int
    """It never holds more."""
    live: list[Sequence] = field(default_factory=list)
    """Those that have more to say: at first the one that computes the prompt, whose forks the others become."""
    unforked: list[Sequence] = field(default_factory=list)
    hypotheses: list[Sequence] = field(default_factory=list)
    """Of a beam search: what has ended, best first."""
    passed_over: int = 0
    """Steps in a row in which it had a prompt to compute and got nothing, or little, for others' sake."""
    kv: bytes | None = None
    """Of a restored request: keys and values to write when it starts; `sequences` count their blocks from 0 in it."""
    cause: str = ""
    """Why it waits, as last told."""
    strikes: int = 0
    """Steps in a row that it took part in and that the runner could not do."""
    preemptions: int = 0
    bill: Bill = field(default_factory=Bill)
    """So far; block-seconds as of the last decision that told of them."""
    restored_block_seconds: float = 0.0
    """On the bill of where it was saved."""
    told: Bill = field(default_factory=Bill)
    """The bill as of the last decision that told of it."""

    @property
    def tenant(self) -> str:
        return self.request.tenant

    @property
    def is_beam(self) -> bool:
        return self.request.beam_width > 1

    @property
    def is_searching(self) -> bool:
        """Whether its prompt has been expanded to beams, which from then on take each step together."""
        return self.is_beam and not self.unforked

    @property
    def width(self) -> int:
        """How many sequences it will run at once."""
        return len(self.live) + len(self.unforked)

    @property
    def is_swapped(self) -> bool:
        return any(sequence.state is State.SWAPPED for sequence in self.live)

    @property
    def uncomputed(self) -> int:
        """Tokens to run before it can say more."""
        return sum(sequence.uncomputed for sequence in self.live)

    @property
    def block_seconds(self) -> float:
        """Of all its sequences, here, as far as they are settled."""
        return sum(sequence.block_seconds for sequence in self.sequences) - self.restored_block_seconds
