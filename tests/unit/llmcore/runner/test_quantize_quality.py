"""What int8 weights cost: perplexity of a text that ships with us."""

import pytest
from support.models import CACHE, smollm2, smollm2_folder

from bench.llm.quality import perplexity, tokens
from llmcore.errors import ModelError
from llmcore.runner.model_runner import ModelRunner

DEAREST = 1.03
"""Of fp32's perplexity: the bound that `docs/llmcore.md` states."""


def test_int8_weights_cost_at_most_three_percent_of_perplexity() -> None:
    try:
        rounded = ModelRunner.load("smollm2", cache_folder=CACHE, num_blocks=40, device="cpu", quantize="int8")
    except ModelError as error:
        pytest.skip(str(error))
    text = tokens(smollm2_folder(), 1024)
    exact = perplexity(smollm2(), text)
    assert 1 < exact < 100  # it can read at all
    assert perplexity(rounded, text) < DEAREST * exact
