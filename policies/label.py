"""Labels: what proves where a value came from, who may read it, and which kinds of secret it may carry.

`Label = integrity x readers x classes x sources`, a join-semilattice (as in CaMeL and FIDES). Joining two labels
keeps the lower integrity, the readers both allow, and every class and source of either; `a.flows_to(b)` says
that `b` is at least as restrictive as `a`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import reduce
from typing import TypeAlias


class Integrity(IntEnum):
    """How strong the evidence is that nobody hostile chose the value. Missing evidence is `UNTRUSTED`."""

    UNTRUSTED = 0
    DESIGNATED = 1
    """From a source the user named."""
    ATTESTED = 2
    """A server-minted id from an operator-named path, an enum, a bounded number, a date, an envelope field."""
    ENDORSED = 3
    """A person approved this value for this role and tool."""
    TRUSTED = 4
    """From a field the operator trusts."""
    GRANTED = 4
    """Equal to a slot of a confirmed grant; as strong as `TRUSTED`."""


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """Where a value was first seen, for people and for the log."""

    server: str
    tool: str
    action: str = ""
    path: str = ""


Readers: TypeAlias = frozenset[str] | None
"""Who may read a value; None is everyone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One point of the lattice."""

    integrity: Integrity
    readers: Readers = None
    classes: frozenset[str] = frozenset()
    """Kinds of private data it may carry, such as `passport`; `secret` may reach no sink at all."""
    sources: frozenset[Source] = frozenset()

    def join(self, other: "Label") -> "Label":
        """The least label that both flow to."""
        if self is other:
            return self
        return Label(
            integrity=self.integrity if self.integrity <= other.integrity else other.integrity,
            readers=_shared(self.readers, other.readers),
            classes=self.classes | other.classes,
            sources=self.sources | other.sources,
        )

    def flows_to(self, other: "Label") -> bool:
        """Whether `other` restricts at least as much: no more trusted, no wider read, no class or source lost."""
        readers_narrow = self.readers is None or (other.readers is not None and other.readers <= self.readers)
        return (
            other.integrity <= self.integrity
            and readers_narrow
            and self.classes <= other.classes
            and self.sources <= other.sources
        )

    def bare(self) -> "Label":
        """The same label without its sources: what an approval is compared by, since sources only explain."""
        return self._from(frozenset())

    def coarse(self) -> "Label":
        """The same label with its sources named by server and tool alone, so that a mark stays small."""
        if all(not (source.action or source.path) for source in self.sources):
            return self
        return self._from(frozenset(Source(source.server, source.tool) for source in self.sources))

    def _from(self, sources: frozenset[Source]) -> "Label":
        return Label(integrity=self.integrity, readers=self.readers, classes=self.classes, sources=sources)


CLEAN = Label(integrity=Integrity.GRANTED)
"""The bottom: granted, public, of no class and no source."""


def join_all(labels: Iterable[Label]) -> Label:
    """The join of all; `CLEAN` of none. One union each, so that many labels cost no more than their parts."""
    met = list({id(label): label for label in labels}.values())
    if len(met) < 2:
        return met[0] if met else CLEAN
    return Label(
        integrity=min(label.integrity for label in met),
        readers=reduce(_shared, (label.readers for label in met)),
        classes=frozenset().union(*(label.classes for label in met)),
        sources=frozenset().union(*(label.sources for label in met)),
    )


def _shared(mine: Readers, theirs: Readers) -> Readers:
    if mine is None:
        return theirs
    return mine if theirs is None else mine & theirs
