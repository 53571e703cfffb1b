"""(3) data flow: label every argument, ask for what nothing proves, and hold back what may not reach this sink."""

from dataclasses import dataclass

from policies.case import Case
from policies.dataflow import consider


@dataclass(frozen=True, slots=True)
class DataFlow:
    """The stage around `policies.dataflow`."""

    name: str = "data flow"

    async def consider(self, case: Case) -> Case:
        return consider(case)
