"""(5) Confinement: does this machine enforce everything that the server's sandbox profile promises?"""

from dataclasses import dataclass

from policies.case import Case
from policies.verdict import Code


@dataclass(frozen=True, slots=True)
class Confinement:
    """The stage; it compares what was verified with what is demanded, and tries nothing itself."""

    name: str = "confinement"

    async def consider(self, case: Case) -> Case:
        missing = case.seen.demanded - case.seen.guarantees
        if missing:
            return case.denied(Code.NO_SANDBOX, f"not enforced on this machine: {', '.join(sorted(missing))}")
        return case
