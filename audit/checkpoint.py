"""A signed tree head (https://c2sp.org/tlog-checkpoint): origin, size and root, as a signed note."""

import base64
import binascii
from dataclasses import dataclass

from audit.errors import NoteError
from audit.keys import Signer, Verifier, open_note
from audit.merkle import HASH_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a log vouches for: its first `size` leaves have this root."""

    origin: str
    size: int
    root: bytes

    def sign(self, signer: Signer) -> str:
        return signer.sign(f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n")


def open_checkpoint(note: bytes, trusted: tuple[Verifier, ...]) -> Checkpoint:
    """The checkpoint in a note that one of these keys signed. Extension lines are passed over.

    Raises:
        NoteError: the note is malformed, not signed by them, or no checkpoint.
    """
    lines = open_note(note, trusted).split("\n")
    if len(lines) < 4 or not lines[0] or "" in lines[:-1]:
        raise NoteError("the note is not a checkpoint")
    origin, size, root = lines[:3]
    try:
        digest = base64.b64decode(root, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError("the checkpoint's root is not base64") from error
    if not size.isascii() or not size.isdecimal() or str(int(size)) != size or len(digest) != HASH_SIZE:
        raise NoteError("the checkpoint's size or root is malformed")
    return Checkpoint(origin=origin, size=int(size), root=digest)
