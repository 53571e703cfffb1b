"""Proofs: the values that a task has seen in fields which the operator's packs trust or attest.

A result is indexed once, when it arrives, by form and spelling; looking a value up costs the same whether ten or ten
thousand are remembered.
"""

from dataclasses import dataclass, field, replace

from policies.label import CLEAN, Label
from policies.pack import Form
from policies.reading import Reading

MAX_REMEMBERED = 20_000
MAX_WORK = 80_000
"""How many spellings one task may remember, and what reading the results that proved them may cost (`Reading.work`):
after a restart it is done again. A result that would go past either counts as past a cap."""


@dataclass(slots=True)
class ProofIndex:
    """One task's proofs (`case.Proofs`)."""

    most: int = MAX_REMEMBERED
    most_work: int = MAX_WORK
    _work: int = 0
    _labels: dict[tuple[Form, str], Label] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._labels)

    def find(self, form: Form, canonical: str) -> Label | None:
        """The best label under which this task has seen the value in a trusted or attested field; None: never."""
        return self._labels.get((form, canonical))

    def take(self, reading: Reading) -> bool:
        """Take in what a result proves and is not known yet, where there is room; whether there was."""
        news = self.news(reading)
        if not self.has_room_for(news):
            return False
        self.add(news)
        return True

    def news(self, reading: Reading) -> Reading:
        """The result less the proofs that would add nothing: what says the same again takes no room."""
        atoms = tuple(atom for atom in reading.atoms if self._is_news(*atom))
        if len(atoms) == len(reading.atoms):
            return reading
        return replace(reading, atoms=atoms)

    def has_room_for(self, news: Reading) -> bool:
        """Whether a result can still be remembered; one that cannot counts as past a cap (`reading.overflow`)."""
        if not news.atoms:
            return True
        return len(self._labels) + len(news.atoms) <= self.most and self._work + news.work <= self.most_work

    def _is_news(self, form: Form, spelling: str, label: Label) -> bool:
        before = self._labels.get((form, spelling))
        return before is None or _better(before, label) is not before

    def add(self, reading: Reading) -> None:
        """Take a result's proofs in."""
        self._work += reading.work if reading.atoms else 0
        for form, spelling, label in reading.atoms:
            before = self._labels.get((form, spelling))
            self._labels[form, spelling] = label if before is None else _better(before, label)


def _better(before: Label, after: Label) -> Label:
    """The more trusted one; of equals what both agree on, with one source for each tool."""
    if before.integrity != after.integrity:
        return max(before, after, key=lambda label: label.integrity)
    seen = {(source.server, source.tool) for source in before.sources}
    is_equal = before.readers == after.readers and before.classes == after.classes
    if is_equal and all((source.server, source.tool) in seen for source in after.sources):
        return before
    new = frozenset(source for source in after.sources if (source.server, source.tool) not in seen)
    return before.join(after.bare()).join(Label(integrity=CLEAN.integrity, sources=new))
