"""What a verifier found."""

from dataclasses import dataclass

MOST = 100
"""Problems that are listed; the first is what matters."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that does not hold."""

    where: str
    """`leaf 12`, `tile 0/3`, `checkpoint 300`"""
    what: str
    leaf: int | None = None
    """The leaf at fault, or the first that may be; None where none is."""

    @property
    def sentence(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the checks found."""

    size: int
    """Leaves read."""
    checkpoints: int
    """Checkpoints whose signature and root hold."""
    signed: int
    """Leaves that the last of those covers."""
    erased: int
    """Payloads that were erased; their leaves still hold."""
    problems: tuple[Problem, ...]
    """The problem of the first bad leaf first, those of no leaf last."""
    notes: tuple[str, ...]
    """What a reader should know, without being a fault."""

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def first_bad(self) -> int | None:
        """The first bad leaf, if any leaf is."""
        return self.problems[0].leaf if self.problems else None
