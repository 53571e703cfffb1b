"""The runner with torch: a plan's chunks become one packed forward, and its logits become picks."""

from collections.abc import Sequence as Many
from pathlib import Path

import torch
from torch import Tensor
from typing_extensions import override

from llmcore.plan import Chunk, Pick, Plan, Runner, Shape
from llmcore.runner import loading
from llmcore.runner.attention import Attention
from llmcore.runner.kv_cache import KvCache
from llmcore.runner.linears import arrange
from llmcore.runner.models import Decoder, ModelConfig
from llmcore.runner.models.shapes import random_decoder
from llmcore.runner.packing import Packed, pack
from llmcore.runner.probing import Progress, choose_attention, choose_device, choose_dtype
from llmcore.runner.sampler import pick


def unseen(what: str, done: float) -> None:
    """Progress that nobody watches."""


class ModelRunner(Runner):
    """One model on one device. Not safe for threads: an engine turns it."""

    def __init__(
        self, model: Decoder, shape: Shape, attention: Attention, cache: KvCache, *, folder: Path | None = None
    ) -> None:
        self.model = model
        self.cache = cache
        self.folder = folder
        """Where the tokenizer's files and the chat template lie; None: random weights have none."""
        self._shape = shape
        self._attention = attention
        self._device = model.embedding.weight.device

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        cache_folder: Path,
        num_blocks: int | None = None,
        kv_memory_bytes: int = 0,
        host_blocks: int | None = None,
        host_memory_bytes: int = 0,
        block_size: int = 16,
        device: str = "auto",
        dtype: str = "auto",
        attention: str = "auto",
        quantize: str | None = None,
        progress: Progress = unseen,
    ) -> "ModelRunner":
        """A checkpoint: a Hugging Face folder, a GGUF file, or a shipped name (`loading`).

        Args:
            cache_folder: for converted checkpoints and compiled kernels.
            num_blocks: of the KV cache; None: as many as go into `kv_memory_bytes`.
            host_blocks: for who is swapped out; None: as many as go into `host_memory_bytes`.
            attention: `auto`, or a path by its name; `reference`: torch's linear layers too, for comparisons.
            quantize: `int8` (weights, on a CPU), or None.

        Raises:
            ModelError: it cannot be found, read, or run here.
        """
        where = choose_device(device)
        kind = choose_dtype(dtype, where)
        found = loading.load(source, device=where, dtype=kind, cache_folder=cache_folder, progress=progress)
        if attention != "reference" or quantize is not None:
            arrange(found.model, quantize, device=where, dtype=kind, cache_folder=cache_folder, progress=progress)
        shape = _shape(found.model.config, found.digest, kind)
        block_bytes = shape.block_bytes(block_size)
        cache = KvCache(
            shape,
            num_blocks=kv_memory_bytes // block_bytes if num_blocks is None else num_blocks,
            host_blocks=host_memory_bytes // block_bytes if host_blocks is None else host_blocks,
            block_size=block_size,
            dtype=kind,
            device=where,
        )
        path = choose_attention(attention, where, kind, cache_folder, progress)
        return cls(found.model, shape, path, cache, folder=found.folder)

    @classmethod
    def random(
        cls,
        config: ModelConfig,
        *,
        num_blocks: int,
        host_blocks: int = 0,
        seed: int = 0,
        block_size: int = 16,
        device: str = "cpu",
        dtype: str = "float32",
        attention: str = "reference",
        quantize: str | None = None,
        cache_folder: Path = Path(".cache/llm"),
    ) -> "ModelRunner":
        """Of a shape, untrained: for tests and benches."""
        where = choose_device(device)
        kind = choose_dtype(dtype, where)
        model = random_decoder(config, seed=seed, dtype=kind, device=where)
        if attention != "reference" or quantize is not None:
            arrange(model, quantize, device=where, dtype=kind, cache_folder=cache_folder, progress=unseen)
        shape = _shape(config, f"random-{seed}-{dtype}", kind)
        cache = KvCache(
            shape, num_blocks=num_blocks, host_blocks=host_blocks, block_size=block_size, dtype=kind, device=where
        )
        return cls(model, shape, choose_attention(attention, where, kind, cache_folder, unseen), cache)

    @property
    @override
    def shape(self) -> Shape:
        return self._shape

    @property
    def num_blocks(self) -> int:
        return self.cache.num_blocks

    @property
    def host_blocks(self) -> int:
        return self.cache.host_blocks

    @property
    def block_size(self) -> int:
        return self.cache.block_size

    @property
    def attention(self) -> str:
        """The path's name."""
        return self._attention.name

    @override
    @torch.inference_mode()
    def run(self, plan: Plan) -> list[Pick]:
        self.cache.swap_out(plan.swap_out)
        self.cache.swap_in(plan.swap_in)
        self.cache.copy(plan.copies)
        if not plan.chunks:
            return []
        order = sorted(range(len(plan.chunks)), key=lambda place: plan.chunks[place].count > 1)  # stable: decodes first
        packed = pack([plan.chunks[place] for place in order], self.block_size, self._device)
        end_of = dict(zip(order, packed.ends, strict=True))
        sampling = [place for place, chunk in enumerate(plan.chunks) if chunk.samples]
        logits = self._forward(packed, [end_of[place] for place in sampling])
        return pick(logits, [plan.chunks[place].sequence for place in sampling])

    @torch.inference_mode()
    def logits(self, chunk: Chunk) -> Tensor:
        """Of every token of a chunk, `(count, vocabulary)`: for perplexity and comparisons."""
        return self._forward(pack([chunk], self.block_size, self._device), range(chunk.count))

    @override
    @torch.inference_mode()
    def read_blocks(self, blocks: Many[int], filled: Many[int]) -> bytes:
        return self.cache.read(blocks, filled)

    @override
    @torch.inference_mode()
    def write_blocks(self, blocks: Many[int], data: bytes) -> None:
        self.cache.write(blocks, data)

    def _forward(self, packed: Packed, rows: Many[int]) -> Tensor:
        wanted = torch.tensor(rows, dtype=torch.int64, device=self._device)
        attend = self._attention.prepare(packed.attention)
        logits: Tensor = self.model(packed.tokens, packed.positions, attend, self.cache.layers, wanted)
        return logits


def _shape(config: ModelConfig, digest: str, dtype: torch.dtype) -> Shape:
    return Shape(
        name=config.name,
        digest=digest,
        vocabulary=config.vocabulary,
        window=config.window,
        layers=config.layers,
        kv_heads=config.kv_heads,
        head_dim=config.head_dim,
        kv_bytes=dtype.itemsize,
        eos=config.eos,
    )
