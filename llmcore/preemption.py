"""How a running group makes room: its blocks move to host memory, or are dropped and computed again later.

By cost. Swapping moves every block out and back; recomputing runs every computed token again, where the prefix cache
does not spare it (that is not counted on: whoever needs the room will take those blocks first). What is moved is all
of the group, each shared block once.
"""

from collections.abc import Callable
from itertools import chain

from llmcore.block_pool import BlockPool
from llmcore.block_table import BlockTables
from llmcore.engine_config import EngineConfig
from llmcore.group import Group
from llmcore.sequence import Sequence, State


class Preemption:
    """The host's blocks, and who is swapped out to them."""

    def __init__(self, config: EngineConfig, tables: BlockTables, clock: Callable[[], float]) -> None:
        self.host = BlockPool(config.host_blocks, clock=clock)
        self._config = config
        self._tables = tables

    def evict(self, group: Group) -> list[tuple[int, int]]:
        """Give all its device blocks back; answers which are copied out first, (device, host)."""
        if not self._swaps(group):
            self.drop(group)
            return []
        moved: dict[int, int] = {}
        for sequence in group.live:
            table = []
            for block in sequence.blocks:
                if block in moved:
                    self.host.share(moved[block])
                else:
                    moved[block] = self.host.allocate()
                table.append(moved[block])
            self._tables.release(sequence)
            sequence.blocks = table
            sequence.state = State.SWAPPED
        return list(moved.items())

    def bring_back(self, group: Group) -> list[tuple[int, int]]:
        """Room for what was swapped out; answers what is copied in, (host, device)."""
        tables = [block for sequence in group.live for block in sequence.blocks]
        fresh = self._tables.rebuild(group.live)
        for block in tables:
            self.host.release(block)
        for sequence in group.live:
            sequence.state = State.DECODE if sequence.uncomputed == 1 and sequence.output else State.PREFILL
        return list(fresh.items())

    def drop(self, group: Group) -> None:
        """Forget its keys and values, wherever they are; its tokens stay, and are a prompt from now on."""
        for sequence in group.live:
            self.release(group, sequence)
            sequence.computed = 0
            sequence.state = State.WAITING
        group.kv = None

    def release(self, group: Group, sequence: Sequence) -> None:
        """Give its blocks back, on the device or in host memory."""
        if sequence.state is State.SWAPPED:
            for block in sequence.blocks:
                self.host.release(block)
            sequence.blocks.clear()
        elif group.kv is not None:
            sequence.blocks.clear()  # they number the blocks of `kv`
        else:
            self._tables.release(sequence)

    def _swaps(self, group: Group) -> bool:
        blocks = len(set(chain.from_iterable(sequence.blocks for sequence in group.live)))
        if self._config.preemption == "recompute" or not 0 < blocks <= self.host.available:
            return False
        if self._config.preemption == "swap":
            return True
        price = self._config.price
        tokens = sum(sequence.computed * price(sequence.computed / 2) for sequence in group.live)
        return 2 * blocks * self._config.swap_block_s <= tokens * self._config.recompute_token_s
