"""The model's parts, put together: what the composition root mounts beside the upstream servers."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.corridor import AgentCorridor
from gateway.errors import LlmRefused
from gateway.llm import extracts, offer
from gateway.llm.asking import TOKENS, cost
from gateway.llm.corridor import LlmCorridor
from gateway.llm.desk import LlmDesk
from gateway.llm.kept import Generations
from gateway.llm.model import Model
from gateway.llm.road import LlmRoad
from gateway.llm.sampling import ServerSampler
from gateway.options import MODEL_SERVER, ExtractOptions, LlmOptions, ServerOptions
from gateway.ports import Ledger
from gateway.stores.definitions import Definitions
from gateway.stores.memory import Confines, Memory
from llmcore.snapshot_store import SnapshotStore
from policies.case import Offer, Pin
from policies.describe import survey
from policies.jsonvalue import JSONObject

PACK = offer.pack()
CONFINES = Confines(demanded=frozenset(), offers=(Offer("in-process", frozenset()),), sealed=False)
"""Where a generation runs: with us. A policy that demands a sandbox for it is told that there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mounted:
    """Everything of the model that others hold."""

    model: Model
    road: LlmRoad
    desk: LlmDesk

    @staticmethod
    def of(
        options: LlmOptions,
        extracts: Mapping[str, ExtractOptions],
        *,
        ledger: Ledger,
        memory: Memory,
        key: bytes,
        state: Path,
    ) -> "Mounted":
        """The parts of a model that is not loaded yet; `key` seals what is kept and keeps domains apart."""
        model = Model(
            options=options,
            extracts=extracts,
            kept=Generations(store=SnapshotStore(folder=state / "generations", key=key)),
            ledger=ledger,
            key=key,
            clock=memory.clock,
            cache=options.cache / "models",
        )
        road = LlmRoad(of=model, memory=memory)
        return Mounted(model=model, road=road, desk=LlmDesk(of=model, road=road, reader=memory.reader))

    def limits(self) -> ServerOptions:
        """What the books must know of the server: how long a request may take, how large its answer may be."""
        return ServerOptions(name=MODEL_SERVER, command=(), deadline_s=self.model.options.deadline_s)

    def corridor(self, corridor: AgentCorridor) -> LlmCorridor:
        return LlmCorridor(corridor=corridor, road=self.road, of=self.model)

    def sampler(self, corridor: Callable[[], AgentCorridor]) -> ServerSampler:
        return ServerSampler(corridor_of=corridor, of=self.model)

    async def offer(self, definitions: Definitions, by: str) -> None:
        """Pin our own tools as they are in this version; what changed with it needs nobody's word."""
        tools = offer.tools(self.model.extracts)
        await definitions.observe(survey(MODEL_SERVER, tools, "", definitions.catalog.names(MODEL_SERVER)))
        rows = definitions.catalog.rows.values()
        if any(row.server == MODEL_SERVER and row.pin is not Pin.PINNED for row in rows):
            await definitions.accept(MODEL_SERVER, None, by)

    async def measure(self, server: str, tool: str, arguments: JSONObject) -> tuple[tuple[str, int], ...]:
        """What a call takes in tokens and bits; arguments that are not whole are another stage's to refuse."""
        name, text = arguments.get("as"), arguments.get("text")
        known = self.model.extracts.get(name) if isinstance(name, str) else None
        if server != MODEL_SERVER or tool != offer.EXTRACT or known is None or not isinstance(text, str):
            return ()
        try:
            asker = self.model.ready().asker
            asked = self.model.extraction(arguments)
            prompt = await asyncio.to_thread(asker.prompt, asked)
            tokens = cost(asker.bounded(asked, len(prompt)), len(prompt))
        except LlmRefused:
            return ()
        bits = extracts.bits(extracts.answer_of(known))
        return ((TOKENS, tokens), *(((extracts.BITS, bits),) if bits else ()))
