"""How long a step takes: a linear model of what is in it, fitted to the real runner (`fit.py`) and committed."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from llmcore.plan import Chunk, Plan
from llmcore.sequence import State

COMMITTED = Path(__file__).with_name("cost.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a step's time depends on."""

    prefill_tokens: int = 0
    decode_sequences: int = 0
    kv_tokens: int = 0
    """Read by those who decode: the sum of their contexts."""
    prefill_pairs: int = 0
    """(query, key) pairs of the prompts: each token with all that stand before it, itself included."""
    moved_blocks: int = 0
    """Swapped or copied."""

    @classmethod
    def of(cls, plan: Plan) -> "Load":
        prompts = [chunk for chunk in plan.chunks if not _decodes(chunk)]
        decodes = [chunk for chunk in plan.chunks if _decodes(chunk)]
        return cls(
            prefill_tokens=sum(chunk.count for chunk in prompts),
            decode_sequences=len(decodes),
            kv_tokens=sum(chunk.start + 1 for chunk in decodes),
            prefill_pairs=sum(chunk.count * chunk.start + chunk.count * (chunk.count + 1) // 2 for chunk in prompts),
            moved_blocks=len(plan.swap_in) + len(plan.swap_out) + len(plan.copies),
        )

    def features(self) -> tuple[int, ...]:
        """In the order of `CostModel`'s fields. A step that only moves blocks runs no model, and has no fixed cost."""
        runs = int(bool(self.prefill_tokens or self.decode_sequences))
        return runs, self.prefill_tokens, self.decode_sequences, self.kv_tokens, self.prefill_pairs, self.moved_blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """Seconds for each of what is in a step."""

    step_s: float
    prefill_token_s: float
    decode_sequence_s: float
    kv_token_s: float
    prefill_pair_s: float
    moved_block_s: float

    def seconds(self, load: Load) -> float:
        prices: list[float] = [getattr(self, field.name) for field in fields(self)]
        return sum(price * amount for price, amount in zip(prices, load.features(), strict=True))

    def as_json(self) -> dict[str, float]:
        return asdict(self)


def committed() -> CostModel:
    """The one of the last fit."""
    return CostModel(**json.loads(COMMITTED.read_text())["seconds"])


def _decodes(chunk: Chunk) -> bool:
    return chunk.sequence.state is State.DECODE
