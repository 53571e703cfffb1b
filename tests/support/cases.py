"""Cases and stages as hypothesis draws them, and as a test writes them by hand."""

from dataclasses import dataclass, field, replace

from hypothesis import strategies as st

from policies.action import Action, Kind, Subject
from policies.case import Case, Snapshot
from policies.grant import Grant
from policies.label import CLEAN, Label
from policies.pack import Form
from policies.verdict import Code, Reason, Verdict

ALICE = Subject(
    principal="user", agent="agt_a", task="task_a", holder="agt_a", root="tok_a", token="tok_a", chain=("00",)
)


def action(**changes: object) -> Action:
    given: dict[str, object] = {
        "id": "act_1",
        "kind": Kind.CALL_TOOL,
        "subject": ALICE,
        "server": "bank",
        "name": "pay",
        "arguments": {"to": "DE89370400440532013000"},
    }
    return Action(**{**given, **changes})  # type: ignore[arg-type]


class NoProofs:
    """A task that has seen nothing."""

    def find(self, form: Form, canonical: str) -> Label | None:
        return None


def snapshot(**changes: object) -> Snapshot:
    given: dict[str, object] = {
        "now": 1_000.0,
        "task": "task_a",
        "task_version": 1,
        "grant": Grant(rules=()),
        "revoked": False,
        "mark": CLEAN,
        "proofs": NoProofs(),
        "key": b"k" * 32,
    }
    return Snapshot(**{**given, **changes})  # type: ignore[arg-type]


reasons = st.builds(Reason, st.sampled_from(Code), st.text(max_size=3), st.just(""))
verdicts = st.builds(
    Verdict,
    denials=st.frozensets(reasons, max_size=2),
    asks=st.frozensets(reasons, max_size=2),
    obligations=st.frozensets(st.sampled_from(["log", "mask"]), max_size=2),
)


@dataclass(frozen=True)
class SaysStage:
    """A stage that joins one verdict, or breaks."""

    verdict: Verdict | None
    name: str = "says"
    seen: list[str] = field(default_factory=list, compare=False)

    async def consider(self, case: Case) -> Case:
        self.seen.append(case.action.id)
        if self.verdict is None:
            raise RuntimeError("broken")
        return case.joined(self.verdict)


class ForgetfulStage:
    """A stage that tries to wipe out what others said."""

    name = "forgetful"

    async def consider(self, case: Case) -> Case:
        return replace(case, verdict=Verdict())


stages = st.lists(st.builds(SaysStage, st.none() | verdicts), max_size=4)
