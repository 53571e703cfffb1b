"""A running sandbox: its streams, and the certainty that nothing outlives it."""

import asyncio
import os
import signal
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from sandbox.bubblewrap.cgroup import Group
from sandbox.bubblewrap.watch import watch

_HEAR_S = 0.002


@dataclass(slots=True, kw_only=True)
class BubblewrapSession:
    """bubblewrap's process outside, and the first process inside, whose death is the death of all the others."""

    process: asyncio.subprocess.Process
    init: int
    """A descriptor of the first process inside (pidfd): it cannot come to mean another process."""
    after: ExitStack
    """What is undone when every process is gone."""
    attending: asyncio.Task[None] | None = None
    """Whoever carries its connections outward, if it may have any; done soon after the forwarder is dead."""
    _ending: asyncio.Task[int] = field(init=False)

    def __post_init__(self) -> None:
        self._ending = asyncio.create_task(self._end(), name="sandbox end")

    @property
    def stdin(self) -> asyncio.StreamWriter:
        assert self.process.stdin is not None
        return self.process.stdin

    @property
    def stdout(self) -> asyncio.StreamReader:
        assert self.process.stdout is not None
        return self.process.stdout

    @property
    def stderr(self) -> asyncio.StreamReader:
        assert self.process.stderr is not None
        return self.process.stderr

    @property
    def pid(self) -> int:
        return self.process.pid

    async def wait(self) -> int:
        return await asyncio.shield(self._ending)

    def kill(self) -> None:
        """The kernel ends a process namespace with its first process, children that hide included."""
        if not self._ending.done():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.init, signal.SIGKILL)

    async def limit_memory(self, first: int, group: Group | None, memory_bytes: int) -> None:
        """By a control group if there is one, else by watching. Before the program is let go.

        Raises:
            OSError: the group takes no process.
        """
        if group is not None:
            await asyncio.to_thread(group.add, first)  # the kernel may take 10 ms over it
        else:
            watching = asyncio.create_task(watch(first, memory_bytes, self.kill), name="sandbox memory")
            self.after.callback(watching.cancel)

    async def _end(self) -> int:
        status = await _status(self.process)
        self.kill()  # bubblewrap leaves with the program; what the program left behind goes now
        await _gone(self.init)
        with suppress(ChildProcessError):  # ours to reap only where we are the system's first process; it is dead
            os.waitid(os.P_PIDFD, self.init, os.WEXITED | os.WNOHANG)  # noqa: ASYNC222
        os.close(self.init)
        self.after.close()
        return status if status >= 0 else 128 - status


async def _status(process: asyncio.subprocess.Process) -> int:
    """As soon as it has ended: asyncio's own `wait` waits besides until all that it said was read, if ever it is."""
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(process.pid)
        try:
            await _gone(pidfd)
        finally:
            os.close(pidfd)
    while process.returncode is None:  # noqa: ASYNC110  # asyncio is about to hear of it from a thread
        await asyncio.sleep(_HEAR_S)
    return process.returncode


async def _gone(pidfd: int) -> None:
    """Wait until the process is dead: a namespace's first process dies only after all the others."""
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pidfd, gone.set)
    try:
        await gone.wait()
    finally:
        loop.remove_reader(pidfd)
