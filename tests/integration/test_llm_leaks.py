"""A gateway with a model that has been closed leaves nothing of it: no thread, no process, no descriptor, no file."""

import os
import sys
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.scene import until
from support.tiny_llm import ENDLESS, harboured, tiny_model


@dataclass(frozen=True, slots=True)
class Remains:
    """What this process has of its own."""

    threads: Counter[str]
    """By name; the event loop's own are not among them: a pool that lives as long as it, and waits for children."""
    children: frozenset[int]
    descriptors: int

    def __sub__(self, before: "Remains") -> list[str]:
        """What has come since, as sentences."""
        return [
            *(f"thread {name}" for name in self.threads - before.threads),
            *(f"process {pid}" for pid in self.children - before.children),
            *([f"{self.descriptors - before.descriptors} descriptors"] * (self.descriptors > before.descriptors)),
        ]


def remains() -> Remains:
    threads = Counter(thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio"))
    children: set[int] = set()
    for place in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile has none
            children.update(map(int, place.read_text().split()))
    return Remains(threads, frozenset(children), len(os.listdir("/proc/self/fd")))


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_a_gateway_that_was_closed_leaves_nothing_of_its_model(tmp_path: Path, isolation: str) -> None:
    folder = tiny_model(tmp_path / "models" / "tiny")
    await lived_through(tmp_path / "first", folder, "thread")  # what libraries keep for good is there by now
    before, interval_s = remains(), sys.getswitchinterval()
    suspended = await lived_through(tmp_path / "state", folder, isolation)
    await until(lambda: not remains() - before, within_s=5)  # threads that have been told to end are about to
    assert sys.getswitchinterval() == interval_s
    kept = [path.name for path in (tmp_path / "state" / "generations").rglob("*") if path.is_file()]
    assert kept == [f"{suspended}.snapshot"], "and of its generations what was suspended, for its owner"


async def lived_through(state: Path, folder: Path, isolation: str) -> str:
    """Every end that a generation may have; the id of the one that was suspended."""
    async with harboured(state, folder, kv_memory_mb=64, isolation=isolation) as port:
        assert await port.says()
        assert (await port.refused("Xebec")).code == "upstream_failed"
        gone, suspended = await port.begun("Gone", ENDLESS), await port.begun("Suspended", ENDLESS)
        await gone.stream.close()
        await port.act(suspended.id, "suspend")
        assert (await suspended.ended()).code == "suspended"
        await port.until(lambda sequences: not sequences)
        return suspended.id
