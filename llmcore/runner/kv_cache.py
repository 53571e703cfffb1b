"""Where keys and values lie: blocks on the device, and blocks in host memory for who was swapped out."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from llmcore.errors import ModelError
from llmcore.plan import Shape

HOST: Final = torch.device("cpu")


class KvCache:
    """`(num_blocks, kv_heads, block_size, head_dim)` for each layer's keys and for its values.

    A block is copied, swapped, read and written in all layers at once. What a slot holds before it is written is
    undefined; nothing reads it.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        num_blocks: int,
        host_blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """
        Raises:
            ModelError: there is room for no block, or less memory than was promised.
        """
        if num_blocks < 1:
            raise ModelError(
                f"one block of {block_size} tokens takes {shape.block_bytes(block_size):,} bytes of keys and values, "
                "and there is room for none: raise the memory for the cache"
            )
        self.block_size, self.num_blocks, self.host_blocks = block_size, num_blocks, host_blocks

        def blocks(count: int, where: torch.device) -> Tensor:
            size = (shape.layers, 2, count, shape.kv_heads, block_size, shape.head_dim)
            pinned = where == HOST and device.type == "cuda" and count > 0  # so that swaps run at the bus's speed
            return torch.empty(size, dtype=dtype, device=where, pin_memory=pinned)

        try:
            self._device, self._host = blocks(num_blocks, device), blocks(host_blocks, HOST)
        except RuntimeError as error:  # torch has no narrower name for a host that is out of memory
            size = (num_blocks + host_blocks) * shape.block_bytes(block_size)
            raise ModelError(f"no memory for a cache of {size:,} bytes: lower the memory for the cache") from error
        self.layers = tuple((layer[0], layer[1]) for layer in self._device)
        """Keys and values of each layer."""

    def copy(self, pairs: Sequence[tuple[int, int]]) -> None:
        """(from, to) device blocks."""
        _move(self._device, self._device, pairs)

    def swap_out(self, pairs: Sequence[tuple[int, int]]) -> None:
        """(device block, host block)."""
        _move(self._device, self._host, pairs)

    def swap_in(self, pairs: Sequence[tuple[int, int]]) -> None:
        """(host block, device block)."""
        _move(self._host, self._device, pairs)

    def read(self, blocks: Sequence[int], filled: Sequence[int]) -> bytes:
        """Keys and values of all layers; as long as `len(blocks)` times `Shape.block_bytes`.

        Beyond a block's `filled` slots lies what its last owner left there: zeros are read.
        """
        found = self._device[:, :, list(blocks)].to(HOST).contiguous()
        for place, slots in enumerate(filled):
            found[:, :, place, :, slots:] = 0
        return found.view(torch.uint8).numpy().tobytes()

    def write(self, blocks: Sequence[int], data: bytes) -> None:
        """What `read` gave.

        Raises:
            ValueError: it is not as long as so many blocks are.
        """
        if not blocks:
            return
        target = self._device[:, :, list(blocks)]
        if len(data) != target.nbytes:
            raise ValueError(f"{len(data)} bytes for {len(blocks)} blocks of {target.nbytes // len(blocks)} bytes")
        source = torch.frombuffer(bytearray(data), dtype=target.dtype).view(target.shape)
        self._device[:, :, list(blocks)] = source.to(self._device.device)


def _move(source: Tensor, target: Tensor, pairs: Sequence[tuple[int, int]]) -> None:
    if pairs:
        here, there = (list(blocks) for blocks in zip(*pairs, strict=True))
        target[:, :, there] = source[:, :, here].to(target.device)
