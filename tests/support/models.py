"""Real and random models for tests: the shipped one converted once a machine, tiny ones made in a moment."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers

from llmcore.plan import Chunk, Plan
from llmcore.request import Request, Sampling
from llmcore.runner.loading.gguf import converted
from llmcore.runner.loading.locate import locate
from llmcore.runner.model_runner import ModelRunner
from llmcore.sequence import Sequence

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "llm"
"""Not in the tests' temporary folder: converting SmolLM2 takes half a minute."""

torch.set_num_threads(1)


@cache
def smollm2_folder() -> Path:
    """SmolLM2-135M-Instruct in Hugging Face's format: weights, configuration, tokenizer, chat template."""
    return converted(locate("smollm2"), CACHE, lambda what, done: None)


@cache
def smollm2(num_blocks: int = 600, block_size: int = 16) -> ModelRunner:
    """Shared by the tests of a process: each must take and leave the cache's blocks as if they were dirty."""
    return ModelRunner.load("smollm2", cache_folder=CACHE, num_blocks=num_blocks, block_size=block_size, device="cpu")


def tiny_checkpoint(folder: Path, family: str, *, dtype: torch.dtype = torch.float32, **overrides: Any) -> Any:
    """A random transformers model of `family` (`llama`, `qwen2`, `qwen3`), saved into `folder`; the model itself."""
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(7)
    settings = {
        "vocab_size": 128,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    if family == "qwen2":
        del settings["head_dim"]  # its configuration knows no other than hidden size over heads
    config = transformers.AutoConfig.for_model(family, **(settings | overrides))
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="eager").eval()
    for name, parameter in model.named_parameters():  # biases and norms of a fresh model say nothing
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=0.0 if name.endswith("bias") else 1.0, std=0.3)
    model.save_pretrained(folder)
    return model


def alone(
    prompt: Iterable[int], *, blocks: Iterable[int], max_tokens: int = 1, index: int = 0, **sampling: Any
) -> Sequence:
    """A sequence that nobody schedules, with its blocks."""
    tokens = list(prompt)
    request = Request(
        id="alone", tenant="t", domain="d", prompt=tuple(tokens), max_tokens=max_tokens, sampling=Sampling(**sampling)
    )
    return Sequence(id=0, request=request, index=index, tokens=tokens, blocks=list(blocks))


def continued(runner: ModelRunner, sequence: Sequence) -> list[int]:
    """Its output, one step a token and nothing beside it: what everything cleverer is compared with."""
    while len(sequence.output) < sequence.request.max_tokens:
        chunk = Chunk(sequence, sequence.computed, sequence.uncomputed)
        (pick,) = runner.run(Plan(chunks=[chunk]))
        sequence.computed += chunk.count
        sequence.tokens.append(pick.token)
    return sequence.output
