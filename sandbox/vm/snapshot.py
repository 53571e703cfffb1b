"""Snapshots of a guest that waits to be told what to run: from one a machine wakes in a fraction of a boot's time.

In the cache a snapshot is a folder with two files: `memory`, the machine's, and `state`, that of its devices. It is
written under another name first, and renamed when whole. Woken machines never see those files, but sealed copies in
memory, which all of them share: none can change what the next one wakes from.
"""

import asyncio
import fcntl
import logging
import os
import shutil
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sandbox.vm.sealed import copy_sparse, sealed

logger = logging.getLogger(__name__)

_LOOK_S: Final = 0.05
"""How often a lock is tried that another holds while it makes a snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    memory: int
    """A sealed file."""
    state: bytes = field(repr=False)


def cache_folder() -> Path:
    """Where snapshots are kept, of this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pratique" / "vm"


@dataclass(slots=True, weakref_slot=True, kw_only=True)
class Snapshots:
    """Those of one guest, each loaded once. Their files close when nobody holds it any more."""

    folder: Path
    guest: str
    """Names kernel, initramfs and emulator: a snapshot of any other is stale."""
    _loaded: dict[str, Snapshot] = field(default_factory=dict)

    def __post_init__(self) -> None:
        weakref.finalize(self, _close, self._loaded)

    async def get(self, kind: str, take: Callable[[], Awaitable[Snapshot]]) -> Snapshot:
        """The snapshot of one kind of machine: loaded, or found in the cache, or taken now and kept there.

        Raises:
            whatever `take` raises.
        """
        if found := self._loaded.get(kind):
            return found
        async with self._locked():
            found = self._loaded.get(kind) or await asyncio.to_thread(self._read, kind)
            if found is None:
                found = await take()
                await asyncio.to_thread(self._keep, kind, found)
            self._loaded[kind] = found
        return found

    def loaded(self) -> Sequence[Snapshot]:
        """Those that machines wake from now."""
        return tuple(self._loaded.values())

    def forget(self, kind: str) -> None:
        """Remove one from which nothing woke."""
        if forgotten := self._loaded.pop(kind, None):
            os.close(forgotten.memory)
        shutil.rmtree(self._place(kind), ignore_errors=True)

    def _place(self, kind: str) -> Path:
        return self.folder / f"{self.guest}-{kind}"

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        """Held while a snapshot is made: by one process, and by one start in it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _takes(lock):  # noqa: ASYNC110  # nobody tells when another process is done
                await asyncio.sleep(_LOOK_S)
            yield
        finally:
            os.close(lock)

    def _read(self, kind: str) -> Snapshot | None:
        place = self._place(kind)
        try:
            state = (place / "state").read_bytes()
            with (place / "memory").open("rb") as memory:
                if os.fstat(memory.fileno()).st_uid != os.geteuid():
                    return None
                return Snapshot(memory=sealed(lambda target: copy_sparse(memory.fileno(), target)), state=state)
        except OSError:
            return None

    def _keep(self, kind: str, snapshot: Snapshot) -> None:
        """Write it to the cache; one that cannot be kept is as good while this process lives."""
        new = self.folder / f"new-{kind}"
        try:
            self._sweep()
            new.mkdir()
            with (new / "memory").open("xb") as memory:
                copy_sparse(snapshot.memory, memory.fileno())
                os.fsync(memory.fileno())
            (new / "state").write_bytes(snapshot.state)
            new.rename(self._place(kind))
        except OSError as failed:
            logger.warning("a snapshot could not be kept", extra={"folder": str(self.folder), "why": failed.strerror})
            shutil.rmtree(new, ignore_errors=True)

    def _sweep(self) -> None:
        """Remove snapshots of other guests, and what a killed process was writing. The lock is held."""
        for left in self.folder.iterdir():
            if left.is_dir() and not left.name.startswith(f"{self.guest}-"):
                shutil.rmtree(left, ignore_errors=True)


def _close(loaded: Mapping[str, Snapshot]) -> None:
    for snapshot in loaded.values():
        os.close(snapshot.memory)


def _takes(lock: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
