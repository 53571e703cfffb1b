"""A request between two steps as bytes: what it needs to go on in another process, token for token.

The body alone; `seal.py` makes it its owner's, `snapshot_store.py` keeps it.
"""

from collections.abc import Sequence as Many
from typing import Final

import msgspec
from msgspec import Struct

from llmcore.errors import SnapshotError
from llmcore.plan import Shape
from llmcore.request import Request
from llmcore.saved import Saved, SavedSequence

SNAPSHOT_VERSION: Final = 1


class Snapshot(Struct, frozen=True, kw_only=True):
    """A saved request, and of which model it is."""

    version: int = SNAPSHOT_VERSION
    model: str
    """`Shape.digest`."""
    block_size: int
    block_bytes: int
    """Of the KV cache that `kv` was read from."""
    saved: Saved

    @property
    def request(self) -> Request:
        """With the label and the owner it was made under."""
        return self.saved.request

    @property
    def sequences(self) -> Many[SavedSequence]:
        return self.saved.sequences

    @property
    def kv(self) -> bytes | None:
        """None: keys and values are computed again."""
        return self.saved.kv

    @property
    def output_tokens(self) -> int:
        """Said so far, by all samples or beams."""
        return sum(len(sequence.output) for sequence in self.sequences)


def snapshot_of(saved: Saved, shape: Shape, block_size: int, *, most_kv_bytes: int) -> Snapshot:
    """With its keys and values, if they are no larger than that."""
    if saved.kv is not None and len(saved.kv) > most_kv_bytes:
        saved = msgspec.structs.replace(saved, kv=None)
    return Snapshot(model=shape.digest, block_size=block_size, block_bytes=shape.block_bytes(block_size), saved=saved)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    return msgspec.msgpack.encode(snapshot)


def decode_snapshot(body: bytes) -> Snapshot:
    """
    Raises:
        SnapshotError: it is no snapshot, or another version's.
    """
    try:
        version = _as_any_version.decode(body).version
        if version != SNAPSHOT_VERSION:
            raise SnapshotError(
                f"the snapshot is of version {version}, and this program reads version {SNAPSHOT_VERSION}"
            )
        return _as_snapshot.decode(body)
    except msgspec.MsgspecError as error:
        raise SnapshotError(f"this is no snapshot of a generation: {error}") from error


def fitting(snapshot: Snapshot, request: Request, shape: Shape, block_size: int) -> Saved:
    """What an engine of this shape goes on with, as this request. Keys and values of other blocks are left behind.

    Raises:
        SnapshotError: it is of another model, or the request asks for something else than was asked then.
    """
    if snapshot.model != shape.digest:
        raise SnapshotError(f"the snapshot is of another model than {shape.name}, or of other weights")
    if _under(request, snapshot.request) != request:
        raise SnapshotError(
            "a snapshot goes on as it was asked for: prompt, length, samples and sampling stay the same"
        )
    if (snapshot.block_size, snapshot.block_bytes) != (block_size, shape.block_bytes(block_size)):
        return msgspec.structs.replace(snapshot.saved, kv=None)
    return snapshot.saved


def _under(now: Request, then: Request) -> Request:
    """The old request, for whom it is asked now."""
    return msgspec.structs.replace(
        then,
        id=now.id,
        tenant=now.tenant,
        domain=now.domain,
        priority=now.priority,
        owner=now.owner,
        label=now.label,
    )


class _AnyVersion(Struct):
    version: int


_as_any_version: Final = msgspec.msgpack.Decoder(_AnyVersion)
_as_snapshot: Final = msgspec.msgpack.Decoder(Snapshot)
