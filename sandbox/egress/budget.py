"""What one sandbox may send, receive and open; counted where the bytes leave the machine."""

from dataclasses import dataclass

from sandbox.egress.reach import Reached
from sandbox.egress.refusal import Cut, Refusal

OVER = "its budget is used up"


@dataclass(slots=True, kw_only=True, eq=False)
class Budget:
    """Of one sandbox, over all its connections."""

    most_bytes: int
    most_connections: int
    bytes: int = 0
    connections: int = 0
    is_over: bool = False
    """Whether something was refused for want of bytes."""

    def open(self) -> int:
        """The number of a connection that may be made.

        Raises:
            Refusal: it may not.
        """
        if self.is_over or self.bytes >= self.most_bytes or self.connections >= self.most_connections:
            raise Refusal(OVER)
        self.connections += 1
        return self.connections

    def take(self, count: int) -> None:
        """Raises:
        Cut: so many bytes are too many. None of them may pass, nor any later ones.
        """
        self.is_over = self.is_over or self.bytes + count > self.most_bytes
        if self.is_over:
            raise Cut(OVER)
        self.bytes += count


@dataclass(slots=True, kw_only=True, eq=False)
class Metered:
    """A connection to somewhere, counted."""

    under: Reached
    budget: Budget
    sent_bytes: int = 0
    received_bytes: int = 0

    async def read(self) -> bytes:
        data = await self.under.read()
        self.budget.take(len(data))
        self.received_bytes += len(data)
        return data

    async def write(self, data: bytes) -> None:
        self.budget.take(len(data))
        self.sent_bytes += len(data)
        await self.under.write(data)

    async def end(self) -> None:
        await self.under.end()
