"""Which drivers there are, from the cheapest start to the dearest, and what each was found to hold on this machine."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sandbox.bubblewrap import Bubblewrap
from sandbox.docker import Docker
from sandbox.driver import GUARANTEES, KERNEL, Capabilities, Driver, Tried
from sandbox.errors import SandboxError
from sandbox.vm import VM

FINDERS: Final[Mapping[str, Callable[[], Driver]]] = {
    "bubblewrap": Bubblewrap.find,
    "runc": lambda: Docker.find("runc"),
    "gvisor": lambda: Docker.find("gvisor"),
    "vm": VM.find,
}
"""By name, cheapest first."""


async def tried(names: Iterable[str] = FINDERS) -> tuple[Tried, ...]:
    """Try these drivers, all at once, in the order of `FINDERS`. Never raises."""
    wanted = set(names)
    return tuple(await asyncio.gather(*(_try(name) for name in FINDERS if name in wanted)))


async def _try(name: str) -> Tried:
    try:
        driver = await asyncio.to_thread(FINDERS[name])
    except SandboxError as absent:
        why_not = dict.fromkeys((*GUARANTEES, KERNEL), str(absent))
        return Tried(name=name, driver=None, capabilities=Capabilities(verified=frozenset(), why_not=why_not))
    return Tried(name=name, driver=driver, capabilities=await driver.probe())
