"""What the corridor is made of: the values that pass between its steps, and the roles that others play for it."""

import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Protocol, TypeAlias, TypeVar

from audit.event import Event
from policies.action import Action, Subject
from policies.case import Case, Snapshot
from policies.jsonvalue import JSONObject
from policies.label import Label
from policies.verdict import Code, Reason

T = TypeVar("T")

Progress: TypeAlias = Callable[[float, float | None], None]
"""Called with (progress, total): numbers only, finite and rising."""


# ---- the ledger -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(Generic[T]):
    """What a unit leaves behind."""

    value: T
    events: Sequence[Event] = ()
    """Appended to the audit log in the same transaction, after the unit's savepoint is released or rolled back."""
    after: Callable[[], None] | None = None
    """Run on the event loop once the transaction is durable: memory (labels, marks) moves here and nowhere else."""
    keep: bool = True
    """False: what the unit wrote is rolled back (a refusal); its events are still appended."""


Unit: TypeAlias = Callable[[sqlite3.Connection], Done[T]]
"""A function of the writer's connection. It re-reads what it judges, never awaits, and never sees its leaf's index."""


@dataclass(frozen=True, slots=True)
class Submitted(Generic[T]):
    """A unit that was handed to the writer."""

    ran: Awaitable[T]
    """The value, as soon as the unit has run inside the open transaction: only a pure read may act on it."""
    durable: Awaitable[T]
    """The same value, once the transaction is on disk and `after` has run.

    Raises:
        Unrecordable: nothing of the batch was written.
    """


class Ledger(Protocol):
    """The one writer: every durable write of the process is a unit of it."""

    def submit(self, unit: Unit[T], *, early: bool = False) -> Submitted[T]:
        """Queue a unit; the batch that takes it commits once. `ran` resolves before the commit only when `early`."""
        ...

    async def run(self, unit: Unit[T], *, reserved: bool = False) -> T:
        """Submit and wait until it is durable; `reserved` is an outcome, which may use the last of the disk.

        Raises:
            Unrecordable: nothing was written.
        """
        ...


# ---- the road ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A permitted action, sealed: the very frame that will be sent, recorded before it is."""

    case: Case
    frame: bytes = field(repr=False)
    """One JSON-RPC request; its id and progress token are the action's id."""
    deadline_s: float
    max_result_bytes: int
    reserved: tuple[tuple[str, int], ...] = ()
    """(budget, amount) taken at commit, given back when provably nothing was sent."""
    early: bool = False
    """A pure read: sent while its intent is still being synced; both are joined before the answer."""

    @property
    def action(self) -> Action:
        return self.case.action


class OutcomeKind(StrEnum):
    OK = "ok"
    """The server answered a result (a tool's own `isError` included)."""
    ERROR = "error"
    """The server answered a JSON-RPC error."""
    NOT_SENT = "not_sent"
    """Provably nothing left the gateway."""
    UNKNOWN = "unknown"
    """Something was sent and no answer came: the effect may or may not have happened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an intent."""

    kind: OutcomeKind
    result: JSONObject | None = None
    """The tool's result as it came, unknown fields included; only with OK."""
    size: int = 0
    """Bytes of the answer on the wire."""
    code: Code | None = None
    """What the agent is told unless OK."""
    spent: Mapping[str, int] | None = None
    """By budget, what it really took, where the road knows it exactly; the rest of what was reserved is given back."""
    label: Label | None = None
    """What the result carries, where a road of our own knows it; otherwise the operator's pack says."""
    detail: str = ""
    """For people; may quote the server, so it is labelled like any result and never shown to the agent."""


class Road(Protocol):
    """The only holder of a way to a tool."""

    async def execute(self, intent: Intent, progress: Progress | None = None) -> Outcome:
        """Send the frame once and wait for its answer, the deadline, or the end of the server. Never raises."""
        ...

    def cancel(self, action_id: str) -> None:
        """Ask the server to stop; the outcome is still awaited and recorded."""
        ...

    def frame(self, action: Action) -> bytes:
        """The bytes that `execute` would send for this action, in the era of its server. Pure."""
        ...


# ---- answers ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What leaves the corridor: a result, or a code and nothing else."""

    action: str
    result: JSONObject | None = None
    code: Code | None = None
    ticket: str = ""
    """With `pending`: the approval that is waited for."""


@dataclass(frozen=True, slots=True)
class Stale:
    """Rights or rules moved between decision and commit: decide again."""


# ---- the desk ---------------------------------------------------------------------------------------------------


class Desk(Protocol):
    """Where a person is asked."""

    async def open(self, case: Case) -> Answer | Reason:
        """Write a ticket (one pending per equal call) and answer `pending`, or the reason why it cannot be asked."""
        ...

    async def decided(self, ticket: str, wait_s: float) -> bool:
        """Whether the ticket was decided or closed within `wait_s` seconds. Holds nothing meanwhile."""
        ...


# ---- what a decision reads ---------------------------------------------------------------------------------------


class Archive(Protocol):
    """Where snapshots come from."""

    async def snapshot(self, action: Action) -> Snapshot:
        """One consistent read for one action; a task that is not known here reads as revoked."""
        ...


class Stage(Protocol):
    """One step of `decide`: free of effects, may run again, looks at nothing but the case."""

    @property
    def name(self) -> str: ...

    async def consider(self, case: Case) -> Case:
        """The case with one thing learned, and this stage's verdict joined to it."""
        ...


# ---- what edges may ask -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unauthorised:
    """Why a credential was not taken; the sentence is safe to show to whoever presented it."""

    reason: str


class Corridor(Protocol):
    """All that an edge can do for an agent."""

    def admit(self, credential: str) -> Subject | Unauthorised:
        """Who holds this token: signature, audience, expiry and revocation are checked here, its rights per call."""
        ...

    def is_live(self, subject: Subject) -> bool:
        """Whether the subject's token still stands: asked again at each use of a session or stream."""
        ...

    async def tools(self, subject: Subject, server: str | None) -> list[JSONObject]:
        """The tools this token reaches, in a stable order; `server__tool`, or plain names where `server` is given."""
        ...

    async def call(
        self, subject: Subject, server: str, tool: str, arguments: JSONObject, progress: Progress | None = None
    ) -> Answer:
        """Mediate one call, holding for a person as long as the settings say."""
        ...

    async def refuse_method(self, subject: Subject, method: str, params: JSONObject) -> None:
        """Record that a method which has no stages yet was asked for."""
        ...


# ---- what operators see of the model ----------------------------------------------------------------------------


class ModelDesk(Protocol):
    """What operators see of the model, and what they may do to its generations; None where no `[llm]` is configured."""

    async def seen(self) -> JSONObject:
        """`llmcore.messages.Seen` as JSON, and `isolation` and `window` beside it.

        Raises:
            OperatorError: the model is still loading, or has failed (503); `models` says how far, or why.
        """
        ...

    def models(self) -> list[JSONObject]:
        """Each model's `name, source, architecture, status, window, kv_blocks, dtype, weights`; null: not known yet."""
        ...

    async def generations(self) -> list[JSONObject]:
        """What is suspended or has a checkpoint, oldest first: `id, task, agent, state, tokens, created` (Unix
        seconds)."""
        ...

    async def suspend(self, generation: str, by: str) -> None:
        """Stop a running generation and keep it, to be resumed by its owner.

        Raises:
            OperatorError: it does not run (404, 409).
        """
        ...

    async def forget(self, generation: str, by: str) -> None:
        """Delete what was kept of one; it can never be resumed.

        Raises:
            OperatorError: nothing of it is kept (404).
        """
        ...

    def summary(self, ticket: str) -> str | None:
        """The model's words on a pending approval; None where it has said nothing (yet)."""
        ...


# ---- what the `/v1` edge may ask --------------------------------------------------------------------------------

Words: TypeAlias = Callable[[JSONObject], None]
"""Called on the event loop with one piece of one sample, in order, once the action is committed: `index`, `text`, and
`tokens`, each with `token` (its id), `text`, `logprob` (a float or None) and `top` (pairs of text and logprob). The
pieces of a sample are the beginning of its text; what they leave out comes with the answer."""

Begun: TypeAlias = Callable[[str], None]
"""Called with the action's id, before its first words."""


class ModelCorridor(Protocol):
    """All that an edge can do for an agent with the gateway's own model: each generation is an `llm/request` action.

    An answer's result holds, under `structuredContent`, `choices` (`index`, `text`, `finish`, and `tokens` like those
    of `Words`) and `usage` (`prompt_tokens`, `completion_tokens`, `cached_tokens`). Cancelling the task that waits for
    an answer cancels the generation.
    """

    @property
    def model(self) -> str:
        """Its public name."""
        ...

    @property
    def window(self) -> int:
        """Tokens of prompt and output together."""
        ...

    def admit(self, credential: str) -> Subject | Unauthorised:
        """As `Corridor.admit`."""
        ...

    def is_live(self, subject: Subject) -> bool:
        """As `Corridor.is_live`."""
        ...

    async def generate(
        self, subject: Subject, arguments: JSONObject, words: Words | None = None, *, on_begun: Begun | None = None
    ) -> Answer:
        """Mediate one request, holding for a person as long as the settings say.

        `arguments`: `messages` (role and content, both strings) or `prompt`; of `max_tokens, n, temperature, top_p,
        top_k, presence_penalty, frequency_penalty, seed, stop, logprobs, grammar, beam_width` those that were given.

        Raises:
            LlmRefused: the model cannot take it; nothing ran.
            Unrecordable: the ledger could not write; nothing ran.
        """
        ...

    async def resume(
        self, subject: Subject, generation: str, words: Words | None = None, *, on_begun: Begun | None = None
    ) -> Answer:
        """Go on with what was kept of one of the holder's generations, as `generate`: its whole text comes again.

        Raises:
            LlmRefused: nothing of it is kept for this holder, or the model cannot take it.
            Unrecordable: the ledger could not write; nothing ran.
        """
        ...

    async def suspend(self, subject: Subject, generation: str) -> bool:
        """Stop one of the holder's running generations and keep it; False where none of that id runs."""
        ...

    async def generations(self, subject: Subject) -> list[JSONObject]:
        """What is kept of the holder's, running or suspended, oldest first: `id`, `kind` (`chat` or `text`), `state`,
        `tokens`, `created` (Unix seconds)."""
        ...


# ---- what a server asks of us -----------------------------------------------------------------------------------


class Sampler(Protocol):
    """Answers a server's sampling request as an action of its own, through the whole pipeline."""

    def offers(self, task: str, server: str) -> bool:
        """Whether the task's grant lets this server ask the model: only then is it told that it may. Pure, as often as
        a frame is built."""
        ...

    async def sample(self, cause: Action, params: JSONObject) -> JSONObject | Code:
        """A CreateMessageResult, or the code of the refusal; a person who must be asked is waited for inside.

        Args:
            cause: the call in flight on whose behalf its server asks.
            params: CreateMessageRequestParams as the server sent them, without `_meta`, of at most
                `wire.sampling.MAX_BYTES`; nothing else of them was looked at.

        Cancelled when the call ends, is cancelled or passes its deadline, and when the server withdraws its request.
        """
        ...
