"""(5) Confinement: which sandbox holds what the server's profile promises, and what the policy demands for this call?

The cheapest that does; where none does, the call is denied. A policy demands by the obligation `sandbox:GUARANTEE`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from policies.case import Case
from policies.verdict import Code
from sandbox.driver import GUARANTEES, KERNEL

_PREFIX: Final = "sandbox:"

DEMANDS: Final = frozenset(f"{_PREFIX}{guarantee}" for guarantee in (*GUARANTEES, KERNEL))
"""The obligations that this stage keeps."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """The stage; it compares what was verified with what is demanded, and tries nothing itself."""

    name: str = "confinement"

    async def consider(self, case: Case) -> Case:
        demanded = case.seen.demanded
        if case.verdict.obligations:
            demanded |= {one.removeprefix(_PREFIX) for one in case.verdict.obligations & DEMANDS}
        for offer in case.seen.offers:
            if demanded <= offer.verified:
                return case.learned(sandbox=offer.driver)
        return case.denied(Code.NO_SANDBOX, f"no sandbox holds what is demanded: {'; '.join(_missing(case, demanded))}")


def _missing(case: Case, demanded: frozenset[str]) -> Iterator[str]:
    """For each sandbox that could be had, what it lacks."""
    for offer in case.seen.offers:
        yield f"{offer.driver} lacks {', '.join(sorted(demanded - offer.verified))}"
    if not case.seen.offers:
        yield f"none was found here that could hold {', '.join(sorted(demanded)) or 'anything'}"
