"""The last words of a server: its stderr is always read, so that it never blocks, and only its end is kept."""

from collections import deque

from gateway.upstreams.launch import Reader

KEPT_BYTES = 4096
_CHUNK = 1 << 14


class Tail:
    """The end of a stream."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._held = 0

    async def drain(self, stream: Reader) -> None:
        """Read to the end of the stream."""
        while chunk := await stream.read(_CHUNK):
            self._chunks.append(chunk[-KEPT_BYTES:])
            self._held += len(self._chunks[-1])
            while self._held - len(self._chunks[0]) >= KEPT_BYTES:
                self._held -= len(self._chunks.popleft())

    @property
    def text(self) -> str:
        """What is kept, as text for a person; control characters but newlines are shown as `?`."""
        text = b"".join(self._chunks)[-KEPT_BYTES:].decode("utf-8", "replace")
        return "".join(c if c.isprintable() or c == "\n" else "?" for c in text).strip()
