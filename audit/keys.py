"""Ed25519 keys and signed notes (https://c2sp.org/signed-note): the checkpoint's signature, in everybody's format.

A verifier key is the text `name+id+base64(0x01 || public key)`; a key file holds the same form with the seed, as Go's
`sumdb/note` writes them.
"""

import base64
import binascii
import os
import tempfile
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from audit.errors import KeyFileError, NoteError

ED25519 = b"\x01"
"""The signature type's byte in the registry of signed-note."""
MAX_NOTE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class Verifier:
    """A key that a note's signature is checked with."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.id.hex()}+{_base64(ED25519 + self.public)}"

    @classmethod
    def parse(cls, vkey: str) -> "Verifier":
        """A verifier key from its text.

        Raises:
            KeyFileError: it is none.
        """
        name, _, rest = vkey.partition("+")
        _, _, key = rest.partition("+")
        material = _unbase64(key)
        if not material or material[:1] != ED25519 or len(material) != 33 or not _is_name(name):
            raise KeyFileError(f"not an Ed25519 verifier key (name+id+base64): {vkey!r}")
        found = cls(name, material[1:])
        if found.vkey != vkey:
            raise KeyFileError(f"the verifier key's id does not fit its key: {vkey!r}")
        return found

    def signed(self, text: bytes, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """The log's own key."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def verifier(self) -> Verifier:
        return Verifier(self.name, self.private.public_key().public_bytes_raw())

    @property
    def vkey(self) -> str:
        return self.verifier.vkey

    def sign(self, text: str) -> str:
        """The note: `text` (which ends in a newline), a blank line, and one signature."""
        signature = self.verifier.id + self.private.sign(text.encode())
        return f"{text}\n— {self.name} {_base64(signature)}\n"


def generate(name: str) -> Signer:
    """A new key.

    Raises:
        KeyFileError: the name is empty or holds a space or a plus.
    """
    if not _is_name(name):
        raise KeyFileError(f"a key's name has no spaces and no plus: {name!r}")
    return Signer(name, Ed25519PrivateKey.generate())


def open_key(path: Path, name: str) -> Signer:
    """The key kept at `path`; made there, readable by its owner alone, if there is none.

    Raises:
        KeyFileError: it cannot be read or made, others can read it, it is malformed, or it belongs to another name.
    """
    try:
        if not path.exists():
            _write(path, generate(name))
        return _read(path, name)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror}") from error


def open_note(note: bytes, trusted: tuple[Verifier, ...]) -> str:
    """The text of a note that a trusted key signed; signatures of keys that are not known are passed over.

    Raises:
        NoteError: it is malformed, a trusted key's signature is wrong, or there is none.
    """
    text, lines = _split(note)
    keys = {(key.name, key.id): key for key in trusted}
    found = False
    for line in lines:
        name, signature = _signature(line)
        key = keys.get((name, signature[:4]))
        if key is None:
            continue
        if not key.signed(text.encode(), signature[4:]):
            raise NoteError(f"the signature of {key.name} is wrong")
        found = True
    if not found:
        raise NoteError("no key that is trusted here signed it")
    return text


def _split(note: bytes) -> tuple[str, list[str]]:
    if len(note) > MAX_NOTE_BYTES:
        raise NoteError("the note is too long")
    try:
        whole = note.decode()
    except UnicodeDecodeError as error:
        raise NoteError("the note is not UTF-8") from error
    if any(char < " " and char != "\n" for char in whole):
        raise NoteError("the note holds a control character")
    text, blank, signatures = whole.rpartition("\n\n")
    if not blank or not text or not signatures.endswith("\n"):
        raise NoteError("the note has no signatures")
    return text + "\n", signatures[:-1].split("\n")


def _signature(line: str) -> tuple[str, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    signature = _unbase64(encoded)
    if dash != "—" or not _is_name(name) or len(signature) < 5:
        raise NoteError("a signature line is malformed")
    return name, signature


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(char.isspace() or char < " " for char in name)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unbase64(text: str) -> bytes:
    """The bytes; none at all unless `text` is the one spelling of them."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return data if _base64(data) == text else b""


def _read(path: Path, name: str) -> Signer:
    with path.open(encoding="utf-8", errors="replace") as file:
        mode = os.fstat(file.fileno()).st_mode
        words = file.read().strip().split("+", 4)
    if mode & 0o077:
        raise KeyFileError(f"{path} can be read by others: chmod 600, and consider the key known")
    material = _unbase64(words[4]) if len(words) == 5 else b""
    if words[:2] != ["PRIVATE", "KEY"] or material[:1] != ED25519 or len(material) != 33:
        raise KeyFileError(f"{path} is not a signing key")
    signer = Signer(words[2], Ed25519PrivateKey.from_private_bytes(material[1:]))
    if words[3] != signer.verifier.id.hex():
        raise KeyFileError(f"{path} is damaged: the key's id does not fit its key")
    if signer.name != name:
        raise KeyFileError(f"{path} is the key of {signer.name!r}, not of {name!r}")
    return signer


def _write(path: Path, signer: Signer) -> None:
    """All of the file or nothing, and never over another key."""
    seed = signer.private.private_bytes_raw()
    text = f"PRIVATE+KEY+{signer.name}+{signer.verifier.id.hex()}+{_base64(ED25519 + seed)}\n"
    descriptor, temporary = tempfile.mkstemp(dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    finally:
        os.unlink(temporary)
