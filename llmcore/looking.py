"""The engine at one moment, for people: `Engine.look`."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from llmcore.block_table import BlockTables
from llmcore.group import Group
from llmcore.messages import BlockSeen, Seen, SequenceSeen, TenantSeen
from llmcore.ordering import Ordering
from llmcore.plan import Shape
from llmcore.scheduler import Scheduler

RATE_OVER_S = 5.0
"""The time over which output tokens per second are counted."""


@dataclass(slots=True)
class Served:
    """What one tenant was given, over all."""

    prefill_tokens: int = 0
    decode_tokens: int = 0
    block_seconds: float = 0.0
    """Of its requests that have ended."""


@dataclass(slots=True)
class Figures:
    """What the engine counts only to be seen."""

    steps: int = 0
    refused: int = 0
    tenants: dict[str, Served] = field(default_factory=dict)
    recent: deque[tuple[float, int]] = field(default_factory=deque)
    """(time, output tokens), of the last steps."""

    def count(self, tenant: str, prefill: int, decode: int, now: float) -> None:
        served = self.tenants.get(tenant)
        if served is None:
            served = self.tenants[tenant] = Served()
        served.prefill_tokens += prefill
        served.decode_tokens += decode
        if decode:
            self._count_recent(decode, now)

    def close(self, group: Group) -> None:
        self.tenants.setdefault(group.tenant, Served()).block_seconds += group.block_seconds

    def tokens_per_s(self, now: float) -> float:
        self._forget(now)
        return sum(tokens for _, tokens in self.recent) / RATE_OVER_S

    def _count_recent(self, decode: int, now: float) -> None:
        if self.recent and self.recent[-1][0] == now:
            self.recent[-1] = now, self.recent[-1][1] + decode
            return
        self._forget(now)
        self.recent.append((now, decode))

    def _forget(self, now: float) -> None:
        while self.recent and self.recent[0][0] <= now - RATE_OVER_S:
            self.recent.popleft()


def look(
    *,
    token: int,
    shape: Shape,
    now: float,
    groups: Collection[Group],
    scheduler: Scheduler,
    tables: BlockTables,
    ordering: Ordering,
    figures: Figures,
) -> Seen:
    """Block-seconds of the groups have been brought up to now."""
    host = scheduler.preemption.host
    return Seen(
        token=token,
        model=shape.name,
        policy=ordering.name,
        block_size=tables.block_size,
        blocks=_blocks(tables),
        sequences=tuple(seen for group in groups for seen in _sequences(group, now)),
        tenants=tuple(
            _tenant(tenant, groups, scheduler, ordering, figures)
            for tenant in sorted(figures.tenants.keys() | {group.tenant for group in groups})
        ),
        steps=figures.steps,
        preemptions=scheduler.preemptions,
        refused=figures.refused,
        prefix_hits=tables.hits,
        prefix_lookups=tables.lookups,
        tokens_per_s=figures.tokens_per_s(now),
        host_blocks=host.num_blocks,
        host_blocks_used=host.num_used,
    )


def _blocks(tables: BlockTables) -> tuple[BlockSeen, ...]:
    pool = tables.pool
    free = BlockSeen("", 0, False)
    return tuple(
        BlockSeen(tables.owners[block], references, not references) if references or pool.is_cached(block) else free
        for block, references in enumerate(pool.references)
    )


def _sequences(group: Group, now: float) -> list[SequenceSeen]:
    return [
        SequenceSeen(
            request=group.request.id,
            tenant=group.tenant,
            index=sequence.index,
            state=sequence.state,
            prompt_tokens=sequence.num_prompt,
            computed=sequence.computed,
            output_tokens=len(sequence.tokens) - sequence.num_prompt,
            blocks=len(sequence.blocks),
            waited_s=(now if sequence.admitted is None else sequence.admitted) - sequence.arrived,
            preemptions=sequence.preemptions,
        )
        for sequence in group.live + group.unforked
    ]


def _tenant(
    tenant: str, groups: Collection[Group], scheduler: Scheduler, ordering: Ordering, figures: Figures
) -> TenantSeen:
    served = figures.tenants.get(tenant, Served())
    theirs = [group for group in groups if group.tenant == tenant]
    waiting = sum(group in scheduler.waiting for group in theirs)
    return TenantSeen(
        tenant=tenant,
        prefill_tokens=served.prefill_tokens,
        decode_tokens=served.decode_tokens,
        block_seconds=served.block_seconds + sum(group.block_seconds for group in theirs),
        service=ordering.service(tenant),
        waiting=waiting,
        running=len(theirs) - waiting,
    )
