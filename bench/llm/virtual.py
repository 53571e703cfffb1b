"""A machine that is not there: a clock that moves when told, and a runner that moves it by what a step would cost.

Its memory is real, if small: a slot holds one number, made from the number in the slot before it and from its own
token, and the next token is made from the last slot. So a sequence whose block table is wrong, whose blocks were given
to somebody else, or that was swapped or restored badly says something else than it would alone.
"""

from array import array
from collections.abc import Callable
from collections.abc import Sequence as Many

from bench.llm.cost import CostModel, Load
from llmcore.plan import Chunk, Pick, Plan, Shape
from llmcore.sequence import Sequence

_MULTIPLIER = 6364136223846793005
"""Of Knuth's MMIX generator; the low bits of a state are poor, so tokens are taken from the high ones."""
_MASK = 2**64 - 1


class VirtualClock:
    """Seconds since the beginning of the trace."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class VirtualRunner:
    """Implements `llmcore.plan.Runner`. The defaults are SmolLM2-135M's shape in fp32, with a longer window."""

    def __init__(
        self,
        cost: CostModel,
        clock: VirtualClock,
        *,
        num_blocks: int,
        host_blocks: int = 0,
        block_size: int = 16,
        vocabulary: int = 49152,
        window: int = 32768,
        watch: Callable[[Plan], None] = lambda _: None,
    ) -> None:
        """`watch` hears of each step once its time has passed."""
        self._cost = cost
        self._clock = clock
        self._size = block_size
        self._memory = array("Q", bytes(8 * block_size * num_blocks))
        self._host = array("Q", bytes(8 * block_size * host_blocks))
        self._watch = watch
        self._shape = Shape(
            name="virtual", digest="virtual", vocabulary=vocabulary, window=window,
            layers=30, kv_heads=3, head_dim=64, kv_bytes=4,
        )  # fmt: skip

    @property
    def shape(self) -> Shape:
        return self._shape

    def run(self, plan: Plan) -> list[Pick]:
        for device, host in plan.swap_out:
            self._host[self._span(host)] = self._memory[self._span(device)]
        for host, device in plan.swap_in:
            self._memory[self._span(device)] = self._host[self._span(host)]
        for source, target in plan.copies:
            self._memory[self._span(target)] = self._memory[self._span(source)]
        states = [self._compute(chunk) for chunk in plan.chunks]
        self._clock.advance(self._cost.seconds(Load.of(plan)))
        self._watch(plan)
        return [
            Pick((state >> 33) % self._shape.vocabulary)
            for chunk, state in zip(plan.chunks, states, strict=True)
            if chunk.samples
        ]

    def read_blocks(self, blocks: Many[int], filled: Many[int]) -> bytes:
        del filled  # there is nobody to hide anything from
        return b"".join(self._memory[self._span(block)].tobytes() for block in blocks)

    def write_blocks(self, blocks: Many[int], data: bytes) -> None:
        step = 8 * self._size
        for place, block in enumerate(blocks):
            self._memory[self._span(block)] = array("Q", data[place * step : (place + 1) * step])

    def _compute(self, chunk: Chunk) -> int:
        """Fill the chunk's slots; answers what is in the last."""
        sequence, memory, size = chunk.sequence, self._memory, self._size
        state = memory[self._slot(sequence, chunk.start - 1)] if chunk.start else 1
        for position in range(chunk.start, chunk.start + chunk.count):
            state = (state * _MULTIPLIER + sequence.tokens[position] + 1) & _MASK
            memory[sequence.blocks[position // size] * size + position % size] = state
        return state

    def _slot(self, sequence: Sequence, position: int) -> int:
        return sequence.blocks[position // self._size] * self._size + position % self._size

    def _span(self, block: int) -> slice:
        return slice(block * self._size, (block + 1) * self._size)
