"""Lines out of a byte stream, bounded: an endless line costs no more than the bound, each byte is looked at once."""

from collections.abc import Iterator


class LineTooLong(Exception):
    """The stream holds a line longer than the bound; nothing after its start can be read."""


class Lines:
    """Cuts chunks into lines at `\\n`, which is not part of them. Lines that hold nothing are left out."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that `chunk` completes.

        Raises:
            LineTooLong: the line that is being read has passed the bound.
        """
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._hold(end)
            line = b"".join(self._parts) if len(self._parts) > 1 else end
            self._parts, self._held = [], 0
            if line and not line.isspace():
                yield line
        if rest:
            self._hold(rest)

    def _hold(self, part: bytes) -> None:
        self._held += len(part)
        if self._held > self._limit:
            raise LineTooLong
        self._parts.append(part)
