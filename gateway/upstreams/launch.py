"""What the upstream half needs of a process: its streams and its end; the composition root supplies it."""

from typing import Protocol

from gateway.options import ServerOptions
from policies.jsonvalue import JSONObject


class Writer(Protocol):
    """An `asyncio.StreamWriter`, or what reads like one."""

    def write(self, data: bytes, /) -> None: ...

    async def drain(self) -> None: ...

    def close(self) -> None: ...


class Reader(Protocol):
    """An `asyncio.StreamReader`, or what reads like one."""

    async def read(self, n: int, /) -> bytes:
        """Up to `n` bytes, as soon as there are any; empty at the end."""
        ...


class Session(Protocol):
    """One running server."""

    @property
    def stdin(self) -> Writer: ...

    @property
    def stdout(self) -> Reader: ...

    @property
    def stderr(self) -> Reader: ...

    async def wait(self) -> int:
        """Its exit status, once it has ended."""
        ...

    def kill(self) -> None:
        """End it and all that it started; `wait` tells when. Nothing happens when it has ended already."""
        ...


class Launch(Protocol):
    """Start a server for a task (none: the operator's own look) in a sandbox of this driver."""

    async def __call__(self, server: ServerOptions, *, driver: str, task: str) -> Session:
        """Raises:
        UpstreamError: it cannot be started; the sentence is for a person.
        """
        ...


class Record(Protocol):
    """Write one event to the audit log, durably."""

    async def __call__(self, kind: str, payload: JSONObject, *, server: str, task: str = "") -> None:
        """Raises:
        Unrecordable: it was not written; what it announces must not happen.
        """
        ...
