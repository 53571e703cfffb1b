"""(4) Policy: what the Rego bundles in force have against the call. They can only tighten what came before."""

from dataclasses import dataclass
from typing import Protocol

from policies.bundle import Bundle
from policies.case import Case
from policies.document import document
from policies.verdict import Code, Reason, Verdict


class InForce(Protocol):
    """Where the bundle that decides now is found (`policies.bundle`)."""

    @property
    def bundle(self) -> Bundle: ...


@dataclass(frozen=True, slots=True)
class Policy:
    """The stage; it learns which revision was asked."""

    in_force: InForce
    name: str = "policy"

    async def consider(self, case: Case) -> Case:
        bundle = self.in_force.bundle
        decision = bundle.evaluate(document(case, without=bundle.without, values=bundle.values))
        verdict = Verdict(
            denials=_reasons(decision.deny), asks=_reasons(decision.ask), obligations=frozenset(decision.obligations)
        )
        return case.learned(policy=bundle.revision, verdict=case.verdict.join(verdict))


def _reasons(texts: tuple[str, ...]) -> frozenset[Reason]:
    return frozenset(Reason(Code.POLICY_REFUSED, text) for text in texts)
