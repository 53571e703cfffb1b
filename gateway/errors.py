"""What can go wrong in the gateway.

    PratiqueError          a sentence for a person, naming what is wrong and what to do
    ├── ConfigError        a setting, a pack or a bundle cannot be used
    ├── StoreError         the database cannot be used (another process owns it, it is newer, it is damaged)
    ├── Unrecordable       the ledger could not write: nothing ran
    ├── UpstreamError      a server could not be started, spoken to, or understood
    ├── OperatorError      an operator's request cannot be done (unknown ticket, already decided)
    └── LlmRefused         the model cannot take a request: too long, off its bounds, or no room now

A refusal of an agent's action is a value (`policies.verdict`), never one of these.
"""


class PratiqueError(Exception):
    """A sentence for a person."""


class ConfigError(PratiqueError):
    """A setting, a pack or a bundle cannot be used."""


class StoreError(PratiqueError):
    """The database cannot be used."""


class Unrecordable(PratiqueError):
    """The ledger could not write; nothing ran."""


class UpstreamError(PratiqueError):
    """A server could not be started, spoken to, or understood."""


class OperatorError(PratiqueError):
    """An operator's request cannot be done."""

    def __init__(self, message: str, *, status: int = 409) -> None:
        super().__init__(message)
        self.status = status
        """The HTTP status that says the same."""


class LlmRefused(PratiqueError):
    """The model cannot take a request as it is, or not now; nothing was generated."""

    def __init__(self, code: str, message: str, action: str = "") -> None:
        super().__init__(message)
        self.code = code
        """`context_length_exceeded`, `invalid_value`, `arguments_invalid`, `overloaded`, `quota`, `unavailable`,
        `model_failed`, or `generation_not_found`."""
        self.message = message
        self.action = action
        """By which it is found in the log; empty: it was refused before there was an action."""
