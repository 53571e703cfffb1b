"""What an agent asks for: one action, whoever carried it and in whichever era of the protocol."""

from dataclasses import dataclass, field
from enum import StrEnum

from policies.jsonvalue import JSONObject


class Kind(StrEnum):
    """The method of an action. Only what `MEDIATED` names has stages yet; the first stage refuses the rest."""

    CALL_TOOL = "tools/call"
    READ_RESOURCE = "resources/read"
    GET_PROMPT = "prompts/get"
    COMPLETE = "completion/complete"


MEDIATED = frozenset({Kind.CALL_TOOL})


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

    def filled(self, arguments: JSONObject) -> "Action":
        """The same action with its arguments filled in."""
        return Action(
            id=self.id, kind=self.kind, subject=self.subject, server=self.server, name=self.name, arguments=arguments
        )
