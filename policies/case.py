"""A case: what is known of an action so far, and everything it was decided from."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from policies.action import Action
from policies.fold import fold
from policies.forms import canonical_form
from policies.grant import Grant
from policies.jsonvalue import JSON, JSONObject, canonical
from policies.label import Label, join_all
from policies.pack import NO_PACK, UNKNOWN_TOOL, ArgumentSpec, Form, Pack, ToolPack
from policies.verdict import PERMIT, Code, Reason, Verdict, deny


class Pin(StrEnum):
    """Where a tool's definition stands."""

    PINNED = "pinned"
    CHANGED = "changed"
    """It no longer is what was pinned: quarantined until a person accepts it."""
    PENDING = "pending"
    """Never accepted yet (`definitions = "require-approval"`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """One tool as its server described it, pinned by the digest of the canonical body."""

    server: str
    name: str
    digest: str
    body: JSONObject = field(repr=False)
    """The tool object of `tools/list`: name, description, inputSchema, outputSchema, annotations ..."""
    pin: Pin = Pin.PINNED


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One leaf of the filled arguments."""

    path: str
    """JSON pointer, such as `/to` or `/cc/0`."""
    value: JSON
    spec: ArgumentSpec
    label: Label
    proof: str = ""
    """What proves it: `grant:0` (a rule's index), `result` (a trusted or attested field), `endorsed`, `default` (a
    switch where its pinned definition puts it); empty: nothing does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A person's yes to one exact call, not yet used."""

    ticket: str
    call_digest: str
    authority: str
    """The call's effect as it was seen then: a changed pack may see another in it, and then it is asked anew."""
    label: Label
    """The join of the arguments' labels that the person was shown; a worse one is asked anew."""
    asks: frozenset[Reason]
    """The reasons that the person was shown; a call that is asked about for another one is asked anew."""
    expires: float
    by: str


class Proofs(Protocol):
    """The task's values that may prove an argument, by canonical form."""

    def find(self, form: Form, canonical: str) -> Label | None:
        """The best label under which this task has seen the value in a trusted or attested field; None: never."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A sandbox that a call could run in."""

    driver: str
    verified: frozenset[str]
    """What it was found to hold on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything a decision reads, taken once when the request's last byte was there. No stage looks elsewhere."""

    now: float
    """Unix seconds."""
    task: str
    task_version: int
    """Moves with every change to the task's rights; compared again at commit."""
    grant: Grant
    revoked: bool
    """The task, the token or one of its ancestors; also where the task is not known here."""
    mark: Label
    """The holder's high-water mark."""
    proofs: Proofs
    endorsed: frozenset[tuple[str, str, str, str]] = frozenset()
    """(server.tool, argument path, form, canonical value) that a person approved for the whole task."""
    flows: frozenset[tuple[str, str]] = frozenset()
    """(class, server.tool) pairs that a person approved for the whole task."""
    flow: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Class to the sinks (`server`, `server.tool`) it may reach without asking: the union over every server's pack."""
    budgets: Mapping[str, int] = field(default_factory=dict)
    """What is left, by budget (`calls`, `spend:EUR`): expected only; the commit reserves or refuses."""
    definition: Definition | None = None
    pack: Pack = NO_PACK
    approvals: tuple[Approval, ...] = ()
    """The task's unused, unexpired yeses for this tool; each is for one exact call."""
    refused: frozenset[str] = frozenset()
    """Authority digests of the task's calls to this tool that a person refused."""
    key: bytes = field(default=b"", repr=False)
    """The instance's key for equality digests; it never enters a leaf."""
    offers: tuple[Offer, ...] = ()
    """The sandboxes that the server's profile allows, the cheapest first."""
    image: str = ""
    """Digest of the image that its sandbox is made of; empty: the host's own programs."""
    sealed: bool = False
    """Whether the server has no network and no mount of its own: a pure read of it can have no effect elsewhere."""
    demanded: frozenset[str] = frozenset()
    """What the server's profile promises; the policy may demand more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An action, what it was decided from, and what each stage learned."""

    action: Action
    seen: Snapshot
    verdict: Verdict = PERMIT
    tool: ToolPack = UNKNOWN_TOOL
    rules: tuple[int, ...] = ()
    """Indices of the grant's rules that this call satisfies whole."""
    arguments: tuple[Argument, ...] = ()
    spends: tuple[str, int] | None = None
    """(currency, amount in minor units) reserved if it runs."""
    policy: str = ""
    """Revision of the policy bundle that was asked."""
    defaulted: frozenset[str] = frozenset()
    """JSON pointers of arguments that the agent did not send: the pinned schema's defaults, and what they contain."""
    sandbox: str = ""
    """The driver that holds what is demanded."""
    approval: Approval | None = None
    """The yes that this case runs on, consumed with the intent."""

    @property
    def call_digest(self) -> str:
        """Equal for equal calls: what an approval is bound to."""
        digest = self.seen.definition.digest if self.seen.definition else ""
        return self._digest(digest, self.action.arguments)

    @property
    def authority(self) -> str:
        """Equal for calls that affect the same, whatever the order and spelling: refusals and the guard bind to it."""
        return self._digest({a.path: _compared(a) for a in self.arguments if a.spec.role.is_authority})

    def _digest(self, *parts: object) -> str:
        action = self.action
        call = canonical([action.subject.root, action.subject.task, action.server, action.name, *parts])
        return hmac.digest(self.seen.key, call, "sha256").hex()

    @property
    def is_denied(self) -> bool:
        return bool(self.verdict.denials)

    @property
    def label(self) -> Label:
        """The join of every argument's label: what the call carries."""
        return join_all(argument.label for argument in self.arguments)

    def learned(
        self,
        *,
        action: Action | None = None,
        verdict: Verdict | None = None,
        tool: ToolPack | None = None,
        rules: tuple[int, ...] | None = None,
        arguments: tuple[Argument, ...] | None = None,
        spends: tuple[str, int] | None = None,
        policy: str | None = None,
        defaulted: frozenset[str] | None = None,
        sandbox: str | None = None,
    ) -> "Case":
        """The case with what a step learned; None is nothing new. Written out: `replace` costs five times as much."""
        return Case(
            action=self.action if action is None else action,
            seen=self.seen,
            verdict=self.verdict if verdict is None else verdict,
            tool=self.tool if tool is None else tool,
            rules=self.rules if rules is None else rules,
            arguments=self.arguments if arguments is None else arguments,
            spends=self.spends if spends is None else spends,
            policy=self.policy if policy is None else policy,
            defaulted=self.defaulted if defaulted is None else defaulted,
            sandbox=self.sandbox if sandbox is None else sandbox,
            approval=self.approval,
        )

    def joined(self, verdict: Verdict) -> "Case":
        joined = self.verdict.join(verdict)
        return self if joined is self.verdict else self.learned(verdict=joined)

    def denied(self, code: Code, detail: str = "", path: str = "") -> "Case":
        return self.joined(deny(code, detail, path))


def _compared(argument: Argument) -> JSON:
    """The value in its one spelling, and text blind to case, blanks and whatever cannot be seen.

    An account written with blanks is the same account. Two values that only some server tells apart count as one here:
    the later call is refused or asked about, never run twice.
    """
    spelling = canonical_form(argument.spec.form, argument.value)
    said = argument.value if spelling is None else spelling
    return "".join(filter(str.isprintable, fold(said))).replace(" ", "") if isinstance(said, str) else said
