"""What can go wrong in the log.

AuditError             a sentence for a person
├── KeyFileError       a key file or a verifier key cannot be used
├── NoteError          a signed note or a checkpoint is malformed, or not signed by a key we trust
├── Unreadable         a copied database or an export cannot be read
├── NotWriting         the log was asked to append outside a transaction
└── LogDamaged         the log is not what was signed: nothing may be appended to it
"""


class AuditError(Exception):
    """A sentence for a person."""


class KeyFileError(AuditError):
    """A key file or a verifier key cannot be used."""


class NoteError(AuditError):
    """A signed note is malformed, or no key we trust signed it."""


class Unreadable(AuditError):
    """A copied database or an export cannot be read, from here on or at all."""


class NotWriting(AuditError):
    """The log was asked to append outside a transaction: a leaf could outlive the change it records."""


class LogDamaged(AuditError):
    """The log is not what was signed."""

    def __init__(self, message: str, *, leaf: int | None = None) -> None:
        super().__init__(message)
        self.leaf = leaf
        """The first bad leaf; None where no leaf is at fault (a foreign key, a damaged checkpoint)."""
