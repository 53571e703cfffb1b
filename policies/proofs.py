"""Proofs: the values that a task has seen in fields which the operator's packs trust or attest.

A result is indexed once, when it arrives, by form and spelling; looking a value up costs the same whether ten or ten
thousand are remembered.
"""

from dataclasses import dataclass, field

from policies.jsonvalue import JSONObject
from policies.label import CLEAN, Label
from policies.pack import Form, ToolPack
from policies.reading import Reading, overflow, read_result

MAX_REMEMBERED = 200_000
"""How many spellings one task may remember; a result that would go past it counts as past a cap."""


@dataclass(slots=True)
class ProofIndex:
    """One task's proofs (`case.Proofs`)."""

    most: int = MAX_REMEMBERED
    _labels: dict[tuple[Form, str], Label] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._labels)

    def find(self, form: Form, canonical: str) -> Label | None:
        """The best label under which this task has seen the value in a trusted or attested field; None: never."""
        return self._labels.get((form, canonical))

    def learn(self, result: JSONObject, tool: ToolPack, server: str, tool_name: str, action: str) -> Label:
        """Take a result's proofs in, and return the label of the whole."""
        reading = read_result(result, tool, server, tool_name, action)
        if not self.has_room_for(reading):
            return overflow(tool, server, tool_name, action).label
        self.add(reading)
        return reading.label

    def has_room_for(self, reading: Reading) -> bool:
        """Whether a result can still be remembered; one that cannot counts as past a cap (`reading.overflow`)."""
        return len(self._labels) + len(reading.atoms) <= self.most

    def add(self, reading: Reading) -> None:
        """Take a result's proofs in."""
        for form, spelling, label in reading.atoms:
            before = self._labels.get((form, spelling))
            self._labels[form, spelling] = label if before is None else _better(before, label)


def _better(before: Label, after: Label) -> Label:
    """The more trusted one; of equals what both agree on, with one source for each tool."""
    if before.integrity != after.integrity:
        return max(before, after, key=lambda label: label.integrity)
    seen = {(source.server, source.tool) for source in before.sources}
    if before.bare() == after.bare() and {(source.server, source.tool) for source in after.sources} <= seen:
        return before
    new = frozenset(source for source in after.sources if (source.server, source.tool) not in seen)
    return before.join(after.bare()).join(Label(integrity=CLEAN.integrity, sources=new))
