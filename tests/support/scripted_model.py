"""A model as operators see it, scripted: three tenants in its memory, and what was asked of it."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from gateway.errors import OperatorError
from llmcore.messages import BlockSeen, Seen, SequenceSeen, TenantSeen
from policies.jsonvalue import JSONObject

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><style>*{display:none}</style>{{7*7}}\u202e\x1b[2J"
"""A tenant's name as an agent might choose it."""

FREE = BlockSeen(tenant="", references=0, is_cached=False)


def block(tenant: str, references: int = 1) -> BlockSeen:
    return BlockSeen(tenant=tenant, references=references, is_cached=False)


def cached(tenant: str) -> BlockSeen:
    return BlockSeen(tenant=tenant, references=0, is_cached=True)


def sequence(tenant: str, state: str, *, request: str = "", blocks: int = 0, **more: Any) -> SequenceSeen:
    numbers = {"index": 0, "prompt_tokens": 40, "computed": 16, "output_tokens": 3, "waited_s": 0.25, "preemptions": 0}
    return SequenceSeen(request=request or f"act_{tenant}", tenant=tenant, state=state, blocks=blocks, **numbers | more)


def tenant(name: str, service: float, *, waiting: int = 0, running: int = 1) -> TenantSeen:
    return TenantSeen(
        tenant=name,
        prefill_tokens=1_000,
        decode_tokens=50,
        block_seconds=12.5,
        service=service,
        waiting=waiting,
        running=running,
    )


def seen(
    blocks: tuple[BlockSeen, ...] = (
        *(block("ann"), block("ann", 3), block("bob"), block("bob"), block("cy"), cached("cy"), FREE, FREE),
    ),
    sequences: tuple[SequenceSeen, ...] = (
        sequence("ann", "decode", blocks=2),
        sequence("bob", "prefill", blocks=2, preemptions=1),
        sequence("cy", "waiting"),
    ),
    tenants: tuple[TenantSeen, ...] = (tenant("ann", 400.0), tenant("bob", 100.0), tenant("cy", 0.0, waiting=1)),
    **more: Any,
) -> JSONObject:
    """What `ModelDesk.seen` answers, made from the engine's own message."""
    made = Seen(
        token=0,
        model="smollm2",
        policy="vtc",
        block_size=16,
        blocks=blocks,
        sequences=sequences,
        tenants=tenants,
        steps=1_234,
        preemptions=7,
        refused=2,
        prefix_hits=30,
        prefix_lookups=40,
        tokens_per_s=21.5,
        host_blocks=32,
        host_blocks_used=4,
    )
    document: JSONObject = msgspec.json.decode(msgspec.json.encode(msgspec.structs.replace(made, **more)))
    return document | {"isolation": "thread", "window": 8_192}


MODEL: JSONObject = {
    "name": "smollm2",
    "source": "/models/<b>smollm2</b>",
    "architecture": "LlamaForCausalLM",
    "status": "ready",
    "window": 8_192,
    "kv_blocks": 8,
    "dtype": "float32",
    "weights": "int8",
}
GENERATION: JSONObject = {
    "id": "act_kept",
    "task": "task_1",
    "agent": "ann",
    "state": "suspended",
    "tokens": 17,
    "created": 1_800_000_000.25,
}


@dataclass
class ScriptedModel:
    """Implements `gateway.ports.ModelDesk`."""

    shown: JSONObject | None = field(default_factory=seen)
    """None: it is still loading."""
    words: dict[str, str] = field(default_factory=dict)
    """By ticket."""
    done: list[tuple[str, str, str]] = field(default_factory=list)
    """(what, generation, by)"""

    async def seen(self) -> JSONObject:
        if self.shown is None:
            raise OperatorError("the model smollm2 is loading: 40%", status=503)
        return self.shown

    def models(self) -> list[JSONObject]:
        return [MODEL if self.shown else MODEL | {"status": "loading 40%", "kv_blocks": None, "architecture": None}]

    async def generations(self) -> list[JSONObject]:
        return [GENERATION]

    async def suspend(self, generation: str, by: str) -> None:
        self._does("suspend", generation, by)

    async def forget(self, generation: str, by: str) -> None:
        self._does("forget", generation, by)

    def summary(self, ticket: str) -> str | None:
        return self.words.get(ticket)

    def _does(self, what: str, generation: str, by: str) -> None:
        if generation != GENERATION["id"]:
            raise OperatorError(f"no generation {generation}", status=404)
        self.done.append((what, generation, by))
