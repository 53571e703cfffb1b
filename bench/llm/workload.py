"""Eight requests whose prompts begin alike: 256 of 360 tokens (71 %) are one tenant's instructions, 32 tokens come out.

The prefix is cold when an engine is new, and warm when it has just answered eight other requests that begin with it: no
engine has seen the other tokens before. Greedy, end of text ignored, so that all engines do the same work.
"""

import random
from typing import Final

from llmcore.request import Request, Sampling

REQUESTS: Final = 8
SHARED: Final = 256
OWN: Final = 104
NEW: Final = 32
TOKENS: Final = REQUESTS * NEW
"""What comes out."""
NUM_BLOCKS: Final = 400
"""KV blocks of 16: room for all of it twice."""
STEP_TOKENS: Final = 512
"""Of every engine that has a budget for a step."""

_WORDS: Final = (1000, 40_000)
"""Token ids of common pieces of words; none is special."""


def instructions() -> list[int]:
    return _drawn(1, SHARED)


def prompts(others: bool = False) -> list[list[int]]:
    """The eight that are measured; or eight `others`, to warm a cache."""
    return [instructions() + _drawn(100 * others + 10 + number, OWN) for number in range(REQUESTS)]


def requests(others: bool = False) -> list[Request]:
    return [request(f"{int(others)}-{number}", prompt, NEW) for number, prompt in enumerate(prompts(others))]


def request(id: str, prompt: list[int], new: int) -> Request:
    sampling = Sampling(temperature=0.0, ignore_eos=True)
    return Request(id=id, tenant="t", domain="d", prompt=tuple(prompt), max_tokens=new, sampling=sampling)


def text(seed: int, count: int) -> list[int]:
    """A prompt that shares nothing with another seed's."""
    return _drawn(1000 + seed, count)


def _drawn(seed: int, count: int) -> list[int]:
    return random.Random(seed).choices(range(*_WORDS), k=count)
