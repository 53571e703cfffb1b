"""Packs: what an operator says of a server's tools, because the server's own word is only a hint.

A pack gives each tool an effect, each argument a role, and each field of a result its label. A tool or an argument that
no pack names gets the strictest reading: the effect is `write`, every argument is a destination, every result is
untrusted and private.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from policies.action import Kind
from policies.label import Integrity


class Effect(StrEnum):
    READ = "read"
    WRITE = "write"
    SPEND = "spend"
    DESTRUCTIVE = "destructive"


class Role(StrEnum):
    """What an argument decides (close to PACT, arXiv 2605.11039)."""

    DEST = "dest"
    REF = "ref"
    SECRET = "secret"  # noqa: S105 - a role's name
    COMMAND = "command"
    BODY = "body"
    NUMBER = "number"
    TIME = "time"
    CONTROL = "control"

    @property
    def is_authority(self) -> bool:
        """Whether a value in this role must be proven: it chooses whom, what or how the call affects."""
        return self in _AUTHORITY


_AUTHORITY = frozenset({Role.DEST, Role.REF, Role.SECRET, Role.COMMAND, Role.CONTROL})


class Form(StrEnum):
    """The shape in which a value is compared (`forms.py`)."""

    TEXT = "text"
    EMAIL = "email"
    IBAN = "iban"
    URL = "url"
    PATH = "path"
    NUMBER = "number"
    DATE = "date"
    ID = "id"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArgumentSpec:
    role: Role
    form: Form = Form.TEXT
    optional: bool = False
    """Leaving it out chooses nothing (no copy, no attachment); otherwise a call without it lets the server choose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultField:
    """The label of every value that `path` reaches: a JSON pointer in which `*` stands for any one step."""

    path: str
    integrity: Integrity = Integrity.UNTRUSTED
    readers: frozenset[str] | None = None
    classes: frozenset[str] = frozenset()
    form: Form = Form.TEXT


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Which arguments say how much a `spend` tool spends, in minor units, and in which currency."""

    argument: str
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPack:
    effect: Effect = Effect.WRITE
    pure: bool = False
    """A read with no destination whose fsync may overlap the call (`docs/reference.md`)."""
    idempotent: bool = False
    amount: Amount | None = None
    arguments: Mapping[str, ArgumentSpec] = field(default_factory=dict)
    result: tuple[ResultField, ...] = ()
    kind: Kind = Kind.CALL_TOOL
    """The kind of action that may use it; no file can say another."""
    inside: bool = False
    """What it is given never leaves the gateway, and what it answers carries all of it: it is no sink. Only of tools of
    our own; no file can say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    name: str
    digest: str = ""
    tools: Mapping[str, ToolPack] = field(default_factory=dict)
    flow: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Class of data to the sinks (`server` or `server.tool`) it may reach without asking."""

    def tool(self, name: str) -> ToolPack:
        return self.tools.get(name, UNKNOWN_TOOL)


UNKNOWN_TOOL = ToolPack()
NO_PACK = Pack(name="")
