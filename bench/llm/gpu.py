"""`python -m bench.llm.gpu`, or `make check-gpu`: the kernels' correctness on a GPU, and what an 8B shape makes of it.

Limits are measured where it runs: a decode step against its bytes over the rate of a large copy, a prefill against its
operations over the rate of a large matrix product. Weights are random, in bfloat16, as are those of transformers'
continuous batching. Without a GPU it says so and ends well.
"""

import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, LlamaConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from bench.llm.ours import answer, engine
from bench.llm.workload import request, text
from llmcore.runner.model_runner import ModelRunner
from llmcore.runner.models.shapes import LLAMA_8B

ROOT = Path(__file__).parents[2]
KERNELS = "tests/unit/llmcore/runner/test_attention_paths.py"
REPEATS = 5
SEQUENCES, CONTEXT, NEW = 32, 1024, 64
PREFILL = 4096
BLOCKS = SEQUENCES * (CONTEXT + NEW) // 16 + SEQUENCES


def main() -> None:
    if not torch.cuda.is_available():
        print("check-gpu: there is no GPU here; the kernels were checked by Triton's interpreter in `make test`")
        return
    subprocess.run([sys.executable, "-m", "pytest", "-q", "-k", "cuda", KERNELS], cwd=ROOT, check=True)
    said = "\n".join(_table())
    print(said)
    (ROOT / "bench" / "LLM-GPU.md").write_text(said + "\n", encoding="utf-8")


def _table() -> Iterator[str]:
    yield "# The model's speed on a GPU\n"
    yield f"`make check-gpu`, {datetime.now(UTC):%Y-%m-%d}, {torch.cuda.get_device_name()}, torch {torch.__version__}."
    yield f"An 8B shape, random weights, bfloat16; medians of {REPEATS}.\n"
    runner = ModelRunner.random(LLAMA_8B, num_blocks=BLOCKS, device="cuda", dtype="bfloat16", attention="auto")
    decode, prefill, rate = _decode_share(runner), _prefill_share(runner), _ours(runner)
    del runner
    _emptied()
    peer = _transformers()
    yield "| | measured | target |\n|---|---|---|"
    yield f"| decode, {SEQUENCES} sequences of {CONTEXT:,}: of the copy rate | {decode:.0%} | 60 % |"
    yield f"| prefill of {PREFILL:,}: of the matmul rate | {prefill:.0%} | 50 % |"
    yield f"| output tokens/s, sharing off | {rate:,.0f} | |"
    yield f"| transformers continuous batching, the same requests | {peer:,.0f} | {rate / peer:.2f}x |"


def _decode_share(runner: ModelRunner) -> float:
    """Of the copy rate: weights and the keys and values that were seen, over a step's time."""
    turned = engine(runner, prefix_cache=False, max_running=SEQUENCES, max_step_tokens=PREFILL)
    for number in range(SEQUENCES):
        assert turned.submit(request(f"d{number}", text(number, CONTEXT), NEW)) is None
    while any(sequence.state != "decode" for sequence in turned.look(0).sequences):
        turned.step()
    times = [_timed(turned.step) for _ in range(16)]
    kv = runner.shape.block_bytes(1) * sum(sequence.computed for sequence in turned.look(0).sequences)
    for number in range(SEQUENCES):
        turned.cancel(f"d{number}")
    return (_weights(runner) * 2 + kv) / statistics.median(times[4:]) / _copy_rate()


def _prefill_share(runner: ModelRunner) -> float:
    """Of the matmul rate: two operations a weight and token, and those of causal attention."""
    config, times = LLAMA_8B, []
    for number in range(REPEATS + 1):
        turned = engine(runner, prefix_cache=False, max_step_tokens=PREFILL)
        assert turned.submit(request("p", text(100 + number, PREFILL), 1)) is None
        times.append(_timed(turned.step))
    head = config.vocabulary * config.hidden
    attention = 2 * config.layers * config.heads * config.head_dim * PREFILL * PREFILL
    operations = 2 * (_weights(runner) - head) * PREFILL + 2 * head + attention
    return operations / statistics.median(times[1:]) / _matmul_rate()


def _ours(runner: ModelRunner) -> float:
    asked = [request(f"t{number}", prompt, NEW) for number, prompt in enumerate(_prompts())]

    def run() -> None:
        turned = engine(runner, prefix_cache=False, max_running=SEQUENCES, max_step_tokens=PREFILL)
        answer(turned, asked)

    times = [_timed(run) for _ in range(REPEATS + 1)]
    return SEQUENCES * NEW / statistics.median(times[1:])


def _transformers() -> float:
    shape = LLAMA_8B
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=shape.window,
        tie_word_embeddings=shape.tied,
    )
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa").eval()

    def run() -> None:
        model.generate_batch(
            _prompts(),
            generation_config=GenerationConfig(max_new_tokens=NEW, do_sample=False, eos_token_id=-1, pad_token_id=0),
            continuous_batching_config=ContinuousBatchingConfig(allow_block_sharing=False),
        )

    times = [_timed(run) for _ in range(REPEATS + 1)]
    return SEQUENCES * NEW / statistics.median(times[1:])


def _prompts() -> list[list[int]]:
    return [text(200 + number, CONTEXT) for number in range(SEQUENCES)]


def _weights(runner: ModelRunner) -> int:
    """That a token is multiplied with: all but the embedding."""
    model = runner.model
    return sum(weight.numel() for weight in model.parameters()) - model.embedding.weight.numel()


def _copy_rate() -> float:
    """Bytes a second, read and written."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(_timed(lambda: target.copy_(source)) for _ in range(10))


def _matmul_rate() -> float:
    """Operations a second."""
    side = 8192
    a = torch.randn(side, side, dtype=torch.bfloat16, device="cuda")
    return 2 * side**3 / min(_timed(lambda: a @ a) for _ in range(10))


def _timed(run: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def _emptied() -> None:
    gc.collect()
    torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
