"""What a policy engine answers, and how little of it is believed: anything but an exact decision denies."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from policies.jsonvalue import JSONObject

CONTRIBUTIONS = ("deny", "ask", "obligations")
"""The sets of reasons (and of names of obligations) that a package may contribute."""

MAX_REASON_CHARACTERS = 1_000


class PolicyError(ValueError):
    """A bundle that cannot be used: where, and why."""

    def __init__(self, why: str, file: str = "", line: int = 0) -> None:
        self.file, self.line = file, line
        place = f"{file}:{line}: " if line else (f"{file}: " if file else "")
        super().__init__(place + why)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the policy has against a call. Empty: nothing; it never grants anything."""

    deny: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    obligations: tuple[str, ...] = ()


class Engine(Protocol):
    """A loaded policy."""

    def evaluate(self, document: JSONObject) -> Decision:
        """Decide. Never raises: what cannot be evaluated is denied."""
        ...


def refused(why: str) -> Decision:
    """The decision where there is none."""
    return Decision(deny=(f"the policy could not be evaluated: {why}",))


def read_decision(answer: object, packages: Mapping[str, Iterable[str]]) -> Decision:
    """The decision in an engine's answer: one object per package, holding exactly the sets it contributes.

    An answer that is absent, or is anything else, denies.
    """
    if not isinstance(answer, dict) or answer.keys() != packages.keys():
        return refused("its answer is not a decision")
    found: dict[str, set[str]] = {contribution: set() for contribution in CONTRIBUTIONS}
    for package, contributions in packages.items():
        said = answer[package]
        if not isinstance(said, dict) or said.keys() != set(contributions):
            return refused(f"{package} does not answer what it contributes")
        for contribution, reasons in said.items():
            if not isinstance(reasons, list) or not all(map(_is_reason, reasons)):
                return refused(f"{package}.{contribution} is not a set of texts")
            found[contribution].update(reasons)
    return Decision(**{contribution: tuple(sorted(reasons)) for contribution, reasons in found.items()})


def _is_reason(reason: object) -> bool:
    return isinstance(reason, str) and 0 < len(reason) <= MAX_REASON_CHARACTERS
