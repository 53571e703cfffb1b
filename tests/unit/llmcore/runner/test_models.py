"""Our decoder against transformers' on the same weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.models import CACHE, alone, continued, smollm2, smollm2_folder, tiny_checkpoint

from llmcore.plan import Chunk
from llmcore.runner.model_runner import ModelRunner

STRETCHED = {"rope_theta": 10_000.0, "original_max_position_embeddings": 64}


def _theirs(model: Any, tokens: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([tokens])).logits[0]
    return logits


@pytest.mark.parametrize(
    ("family", "overrides"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True, "num_key_value_heads": 6}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 500.0}}),
        (
            "llama",
            {
                "rope_parameters": STRETCHED
                | {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
            },
        ),
        ("llama", {"rope_parameters": STRETCHED | {"rope_type": "yarn", "factor": 4.0}}),
        ("mistral", {}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("qwen3", {"attention_bias": True, "tie_word_embeddings": True}),
    ],
)
def test_logits_equal_those_of_transformers(family: str, overrides: dict[str, Any], tmp_path: Path) -> None:
    theirs = tiny_checkpoint(tmp_path, family, **overrides)
    ours = ModelRunner.load(tmp_path, cache_folder=CACHE, num_blocks=40, device="cpu")
    tokens = torch.randint(2, 128, (150,)).tolist()

    logits = ours.logits(Chunk(alone(tokens, blocks=range(30, 0, -1)), 0, 150))

    assert (logits - _theirs(theirs, tokens)).abs().max() < 1e-3


def test_a_checkpoint_in_several_files_is_one_model(tmp_path: Path) -> None:
    theirs = tiny_checkpoint(tmp_path, "llama")
    theirs.save_pretrained(tmp_path / "parts", max_shard_size="40KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1

    ours = ModelRunner.load(tmp_path / "parts", cache_folder=CACHE, num_blocks=4, device="cpu")

    logits = ours.logits(Chunk(alone([5, 6, 7], blocks=[2]), 0, 3))
    assert (logits - _theirs(theirs, [5, 6, 7])).abs().max() < 1e-3


def test_a_narrow_sliding_window_bounds_the_model_s(tmp_path: Path) -> None:
    tiny_checkpoint(tmp_path, "mistral", sliding_window=64)

    assert ModelRunner.load(tmp_path, cache_folder=CACHE, num_blocks=4, device="cpu").shape.window == 64


def test_greedy_output_of_a_tiny_fp64_model_is_that_of_transformers(tmp_path: Path) -> None:
    theirs = tiny_checkpoint(tmp_path, "llama", dtype=torch.float64, eos_token_id=None)
    ours = ModelRunner.load(tmp_path, cache_folder=CACHE, num_blocks=40, device="cpu", dtype="float64")
    prompt = torch.randint(2, 128, (40,)).tolist()

    with torch.inference_mode():
        expected = theirs.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, 40), max_new_tokens=60, do_sample=False
        )

    sequence = alone(prompt, max_tokens=60, blocks=range(20), temperature=0.0)
    assert continued(ours, sequence) == expected[0, 40:].tolist()


PROMPTS = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "List three colours.",
    "Translate to German: good morning.",
    "Why do leaves fall in autumn?",
)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_smollm2_s_logits_and_greedy_output_are_those_of_transformers(
    prompt: str, theirs: Any, record_property: Callable[[str, object], None]
) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(smollm2_folder())
    asked = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], add_generation_prompt=True)[
        "input_ids"
    ]
    with torch.inference_mode():
        expected = theirs.generate(
            torch.tensor([asked]), attention_mask=torch.ones(1, len(asked)), max_new_tokens=12, do_sample=False
        )[0].tolist()
    logits = _theirs(theirs, expected)

    runner = smollm2()
    sequence = alone(asked, max_tokens=len(expected) - len(asked), blocks=range(9, 20), temperature=0.0)
    ours = runner.logits(Chunk(alone(expected, blocks=range(9)), 0, len(expected)))
    assert (ours - logits).abs().max() < 1e-3

    best, second = logits[len(asked) - 1 : -1].topk(2).values.unbind(-1)
    record_property("smallest gap between the two best logits", float((best - second).min()))
    assert continued(runner, sequence) == expected[len(asked) :], f"gaps: {(best - second).tolist()}"


@pytest.fixture(scope="module")
def theirs() -> Any:
    transformers.utils.logging.disable_progress_bar()
    return transformers.AutoModelForCausalLM.from_pretrained(smollm2_folder(), dtype=torch.float32)
