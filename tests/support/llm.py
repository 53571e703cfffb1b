"""A gateway with the real embedded model, converted once for every test of this machine."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.query import Filter, Record, query
from gateway.bootstrap import Running, running
from gateway.control import Granted
from gateway.options import ExtractOptions, LlmOptions, Options, ServerOptions
from gateway.settings import SHIPPED
from support.live import OPERATOR
from support.pages import REPOSITORY

CACHE = REPOSITORY / ".cache" / "llm"


@dataclass(frozen=True, slots=True)
class Modelled:
    """A gateway that is up, its model loaded."""

    gateway: Running

    @property
    def v1(self) -> str:
        return f"{self.gateway.url}/v1"

    async def grant(
        self,
        *allow: str,
        tokens: int | None = 20_000,
        bits: int | None = None,
        calls: int | None = None,
        agent: str | None = None,
    ) -> Granted:
        return await self.gateway.control.grant(
            text="Do as the test says.",
            allow=allow or ("llm.generate",),
            tokens=tokens,
            bits=bits,
            calls=calls,
            agent=agent,
            by=OPERATOR,
        )

    def events(self, kind: str) -> list[Record]:
        """What was recorded of this kind, oldest first."""
        return query(self.gateway.memory.reader, Filter(kind=kind), limit=1_000)


@asynccontextmanager
async def modelled(
    state: Path,
    *servers: ServerOptions,
    extracts: Sequence[ExtractOptions] = (),
    hold_s: float = 5.0,
    **llm: Any,
) -> AsyncIterator[Modelled]:
    """A gateway with SmolLM2; `llm` are keys of `LlmOptions`."""
    chosen: Mapping[str, Any] = {
        "model": "smollm2",
        "isolation": "thread",  # torch is loaded once for all tests
        "kv_memory_mb": 256,
        "threads": 1,
        "cache": CACHE,
    } | llm
    options = Options(
        state=state,
        port=0,
        sandboxes=SHIPPED,
        servers={server.name: server for server in servers},
        hold_s=hold_s,
        llm=LlmOptions(**chosen),
        extracts={one.name: one for one in extracts},
    )
    async with running(options) as gateway:
        assert gateway.mounted is not None
        await gateway.mounted.model.settled.wait()
        assert gateway.mounted.model.status == "ready", gateway.mounted.model.status
        yield Modelled(gateway)
