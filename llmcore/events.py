"""What a step brought, sample by sample. Text, stop strings and streams are made of it elsewhere (`service.py`).

Every request that was taken comes to exactly `n` `Ended`, one for each index from 0 to n - 1; `Advanced` never follows
the `Ended` of its sequence. A restored request begins with what had been said already. A beam search says nothing
before its end, because until then any of it may still be dropped.
"""

from dataclasses import dataclass
from typing import TypeAlias

from llmcore.request import Finish
from llmcore.sequence import Logprob, Sequence


@dataclass(frozen=True, slots=True)
class Advanced:
    """More of one sample. The model's end-of-text token is not among its tokens."""

    sequence: Sequence
    tokens: tuple[int, ...]
    logprobs: tuple[Logprob, ...] = ()
    """One for each token, where the request wants them."""


@dataclass(frozen=True, slots=True)
class Ended:
    """`sequence.detail` says why one failed."""

    sequence: Sequence
    finish: Finish


Event: TypeAlias = Advanced | Ended
