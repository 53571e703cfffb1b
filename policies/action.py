"""What an agent asks for: one action, whoever carried it and in whichever era of the protocol."""

from dataclasses import dataclass, field
from enum import StrEnum

from policies.jsonvalue import JSONObject
from policies.label import CLEAN, Label


class Kind(StrEnum):
    """The method of an action. Only what `MEDIATED` names has stages yet; the first stage refuses the rest."""

    CALL_TOOL = "tools/call"
    READ_RESOURCE = "resources/read"
    GET_PROMPT = "prompts/get"
    COMPLETE = "completion/complete"
    LLM_REQUEST = "llm/request"
    """A request to the gateway's own model: an agent's at `/v1`, or a server's sampling request."""


MEDIATED = frozenset({Kind.CALL_TOOL, Kind.LLM_REQUEST})


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who acts: an agent holding a token that names one task."""

    principal: str
    agent: str
    task: str
    holder: str
    """The token's root agent: the high-water mark is its, across tasks and children."""
    root: str
    """Id of the root token; budgets and revocation are shared below it."""
    token: str
    """Id of the token presented: the root's, or of the last attenuation."""
    chain: tuple[str, ...] = ()
    """Revocation ids, root block first; one revoked id ends the token."""
    expires: float | None = None
    """Unix seconds."""
    credential: str = field(default="", repr=False)
    """The token itself, for the capability stage; never logged, never forwarded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One request of a subject; what an upstream receives is built from this alone."""

    id: str
    kind: Kind
    subject: Subject
    server: str
    name: str
    """Tool name, resource URI, prompt name or completion reference, as the upstream knows it."""
    arguments: JSONObject
    """As sent, then (after the definition stage) with the schema's defaults filled in."""
    takes: tuple[tuple[str, int], ...] = ()
    """(budget, amount) that it needs beside what its arguments say: tokens, counted before it was decided."""
    carried: Label = CLEAN
    """What it brings beside what its holder has read: the words of a server that asks for a sample."""
    cause: str = ""
    """The action on whose behalf a server asks."""

    def filled(self, arguments: JSONObject) -> "Action":
        """The same action with its arguments filled in."""
        return Action(
            id=self.id,
            kind=self.kind,
            subject=self.subject,
            server=self.server,
            name=self.name,
            arguments=arguments,
            takes=self.takes,
            carried=self.carried,
            cause=self.cause,
        )
