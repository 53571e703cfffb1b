"""The seal of a snapshot: whose it is, under what name, and that not a bit of it has changed.

    mark (4) | version (1) | owner (2 + n) | name (2 + n) | length of the body (8) | body | HMAC-SHA256 (32)

The code (RFC 2104) covers everything before it, after a string that keeps it apart from every other use of the key.
Lengths are big-endian. Owner and name stand in clear: a seal tells who may read, it does not hide what is said.
"""

import hmac
import struct
from hashlib import sha256
from typing import Final

from llmcore.errors import SnapshotError

SEAL_VERSION: Final = 1
_MARK: Final = b"PqLS"
_APART: Final = b"pratique llmcore snapshot seal\x00"
_CODE_BYTES: Final = 32
_FIRST: Final = struct.Struct(">4sB")
_SHORT: Final = struct.Struct(">H")
_LONG: Final = struct.Struct(">Q")
LONGEST_HEAD: Final = _FIRST.size + _SHORT.size + 0xFFFF
"""Bytes in which the owner's name ends."""


def seal(key: bytes, body: bytes, owner: str, name: str = "") -> bytes:
    """The body for this owner alone, and under this name alone where it has one.

    Raises:
        ValueError: owner or name is longer than 65,535 bytes.
    """
    parts = [_FIRST.pack(_MARK, SEAL_VERSION), _text(owner), _text(name), _LONG.pack(len(body)), body]
    return b"".join([*parts, _code(key, *parts)])


def unseal(key: bytes, sealed: bytes, owner: str, name: str = "") -> bytes:
    """The body that `seal` was given.

    Raises:
        SnapshotError: it is cut, altered, of another key, owner, name or version.
    """
    view = memoryview(sealed)
    sealed_owner, at = _read_text(view, _version_checked(view))
    sealed_name, at = _read_text(view, at)
    if len(view) < at + _LONG.size:
        raise SnapshotError("the snapshot is cut: it ends before its body")
    (length,) = _LONG.unpack_from(view, at)
    at += _LONG.size
    if len(view) != at + length + _CODE_BYTES:
        raise SnapshotError(
            f"the snapshot is cut or altered: it has {len(view)} bytes, not {at + length + _CODE_BYTES}"
        )
    if not hmac.compare_digest(_code(key, view[: at + length]), view[at + length :]):
        raise SnapshotError("the snapshot was altered, or another gateway's key sealed it")
    if not hmac.compare_digest(sealed_owner, owner.encode()):
        raise SnapshotError("the snapshot belongs to another owner")
    if not hmac.compare_digest(sealed_name, name.encode()):
        raise SnapshotError("the snapshot was kept under another name")
    return bytes(view[at : at + length])


def owner_of(head: bytes) -> str:
    """Whom the first bytes of a sealed snapshot name; nothing proves it before `unseal`.

    Raises:
        SnapshotError: they are no sealed snapshot's.
    """
    owner, _ = _read_text(memoryview(head), _version_checked(memoryview(head)))
    try:
        return owner.decode()
    except UnicodeDecodeError:
        raise SnapshotError("this is no snapshot of a generation") from None


def _version_checked(view: memoryview) -> int:
    """Where the owner begins."""
    if len(view) < _FIRST.size:
        raise SnapshotError("the snapshot is cut: it ends within its first bytes")
    mark, version = _FIRST.unpack_from(view)
    if mark != _MARK:
        raise SnapshotError("this is no snapshot of a generation")
    if version != SEAL_VERSION:
        raise SnapshotError(
            f"the snapshot is sealed in version {version}, and this program reads version {SEAL_VERSION}"
        )
    return _FIRST.size


def _code(key: bytes, *parts: bytes | memoryview) -> bytes:
    code = hmac.new(key, _APART, sha256)
    for part in parts:
        code.update(part)
    return code.digest()


def _text(text: str) -> bytes:
    encoded = text.encode()
    if len(encoded) > 0xFFFF:
        raise ValueError(f"a snapshot's owner and name may have 65535 bytes, not {len(encoded)}")
    return _SHORT.pack(len(encoded)) + encoded


def _read_text(view: memoryview, at: int) -> tuple[bytes, int]:
    """The text that begins there, and where it ends."""
    if len(view) < at + _SHORT.size:
        raise SnapshotError("the snapshot is cut: it ends before its body")
    (length,) = _SHORT.unpack_from(view, at)
    start = at + _SHORT.size
    if len(view) < start + length:
        raise SnapshotError("the snapshot is cut: it ends before its body")
    return bytes(view[start : start + length]), start + length
