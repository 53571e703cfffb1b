"""The instance's own secrets, each a file for this user's eyes only, made once: who it is, and what it signs with."""

import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from audit.errors import AuditError
from audit.keys import Signer, open_key
from gateway.errors import StoreError
from gateway.ids import new_id
from policies.capability import Authority, new_private_key

FOLDER = "keys"
_SHORTEST = 32
"""Bytes that any of them has at least."""
TOKENS, INSTANCE, AUDIT, EQUALITY = "tokens.key", "instance", "audit.key", "equality.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Keyring:
    """What `keys/` holds."""

    instance: str
    """The audience of every token of this gateway."""
    authority: Authority
    origin: str
    """The log's name (C2SP tlog-checkpoint)."""
    signer: Signer
    equality: bytes = field(repr=False)
    """The key of digests by which equal calls find each other; it never enters a leaf."""


def open_keyring(state: Path, *, fresh: bool) -> Keyring:
    """Read the secrets of a state folder; those of a `fresh` one are made.

    Raises:
        StoreError: a file is missing, damaged, readable by others, or cannot be written.
    """
    folder = state / FOLDER
    missing = [name for name in (INSTANCE, TOKENS, AUDIT, EQUALITY) if not (folder / name).exists()]
    if missing and not fresh:
        raise StoreError(
            f"{folder} lacks {', '.join(missing)}, and the database was used with it: restore the folder from a copy,"
            f" or remove all of {state} to start over"
        )
    try:
        return _opened(folder)
    except OSError as error:
        raise StoreError(f"{folder} cannot be used: {error.strerror}") from error


def _opened(folder: Path) -> Keyring:
    folder.mkdir(mode=0o700, exist_ok=True)
    instance = _secret(folder / INSTANCE, lambda: new_id("gw").encode()).decode()
    origin = f"pratique.local/{instance}"
    try:
        return Keyring(
            instance=instance,
            authority=Authority(_secret(folder / TOKENS, new_private_key), instance),
            origin=origin,
            signer=open_key(folder / AUDIT, origin),
            equality=_secret(folder / EQUALITY, lambda: secrets.token_bytes(32)),
        )
    except (AuditError, ValueError) as error:
        raise StoreError(f"a key in {folder} cannot be used: {error}") from error


def _secret(path: Path, make: Callable[[], bytes]) -> bytes:
    """What is kept at `path`; a crash while it is made leaves nothing there."""
    if not path.exists():
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(make())
            file.flush()
            os.fsync(file.fileno())
        fresh.rename(path)
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise StoreError(f"{path} must be a file of this user's, readable by nobody else: chmod 600, or restore a copy")
    secret = path.read_bytes()
    if len(secret) < _SHORTEST:
        raise StoreError(f"{path} is damaged: restore a copy")
    return secret
