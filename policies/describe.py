"""What a server says of its tools: which of it may be pinned, by which digest, and how a change reads.

A listing is bounded as a whole: what stands past its bounds is refused. The body that is pinned is the whole tool
object except `_meta`: every field that a model could read counts, known to us or not; `_meta` is dropped, it is neither
pinned nor shown. Names are compared as a careless reader would.
"""

import difflib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from policies.arguments import Refused, compile_schema
from policies.fold import fold
from policies.jsonvalue import JSON, JSONObject, canonical, digest
from policies.schema import patterns

MAX_PUBLIC_NAME = 64
"""Characters of `server__tool`: what clients and models accept."""
MAX_TOOLS = 512
MAX_BODY_BYTES = 131_072
MAX_LISTING_BYTES = 2_000_000
MAX_LISTING_PATTERNS = 1_024
MAX_JUDGED = 8_192
"""Schemas whose judgement is kept, by digest."""
MAX_INSTRUCTIONS_CHARS = 65_536
_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})
_HIDDEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
"""Characters that are drawn as nothing without being of a hidden category."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One thing that a server says, and its digest: a tool, or (with an empty name) its instructions."""

    name: str
    digest: str
    body: JSON = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Everything that one listing of one server said, sorted into what may be pinned and what may not."""

    server: str
    offered: Mapping[str, Described] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    """Tool name (as far as it is one) to why it is not taken."""
    instructions: Described | None = None

    @property
    def said(self) -> dict[str, Described]:
        """Everything that may be pinned, by name; the instructions, where there are any, under the empty one."""
        return {**self.offered, **({"": self.instructions} if self.instructions else {})}


def survey(server: str, tools: Sequence[JSON], instructions: str = "", pinned: Collection[str] = ()) -> Survey:
    """Sort a listing. `pinned` are the names already known: of names that collide, only such a one is kept.

    Compiles schemas that it has not seen before, which takes seconds for the worst of listings: for a thread.
    """
    offered: dict[str, Described] = {}
    refused: dict[str, str] = {}
    room = _Room()
    counts = Counter(_name_of(tool) for tool in tools)
    folded = Counter(fold(name) for name in counts)
    for tool in tools[:MAX_TOOLS]:
        name = _name_of(tool)
        if counts[name] > 1:
            refused[name] = "the server lists this name more than once"
        elif folded[fold(name)] > 1 and name not in pinned:
            refused[name] = "the name differs from another tool's by case or compatible characters only"
        elif reason := _why_not(server, name, tool) or room.why_not(tool) or _why_not_schema(tool):
            refused[name] = reason
        else:
            offered[name] = described(name, tool)
    for tool in tools[MAX_TOOLS:]:
        refused[_name_of(tool)] = f"the server lists more than {MAX_TOOLS} tools"
        offered.pop(_name_of(tool), None)
    return Survey(server=server, offered=offered, refused=refused, instructions=_instructions(instructions))


def digests(tools: Sequence[JSON], instructions: str = "") -> dict[str, str]:
    """What a listing says, by name, as digests alone: to be compared with a survey. Nothing is compiled."""
    counts = Counter(_name_of(tool) for tool in tools)
    found = {
        name: described(name, tool).digest
        for tool in tools[:MAX_TOOLS]
        if counts[name := _name_of(tool)] == 1 and isinstance(tool, dict)
    }
    if said := _instructions(instructions):
        found[""] = said.digest
    return found


def described(name: str, body: JSON) -> Described:
    kept = {key: value for key, value in body.items() if key != "_meta"} if isinstance(body, dict) else body
    return Described(name=name, digest=digest(kept), body=kept)


def diff(old: JSON, new: JSON) -> str:
    """A unified diff for a person: pretty JSON, keys sorted, with every character that hides made visible."""
    before, after = (visible(_pretty(body)).splitlines() for body in (old, new))
    return "\n".join(difflib.unified_diff(before, after, "pinned", "offered", lineterm="", n=2))


def visible(text: str) -> str:
    """`text` with every character that hides (control, bidirectional, zero-width, odd spaces ...) as `<U+200B>`."""
    if text.isascii() and text.replace("\n", "").isprintable():
        return text
    return "".join(f"<U+{ord(c):04X}>" if _is_hidden(c) else c for c in text)


def _instructions(text: str) -> Described | None:
    return described("", text[:MAX_INSTRUCTIONS_CHARS]) if text else None


class _Room:
    """What is left for the tools of one listing."""

    def __init__(self) -> None:
        self._bytes = 0
        self._patterns = 0

    def why_not(self, tool: JSONObject) -> str:
        """Why this tool has no room; what has none takes none."""
        size, holds = len(canonical(tool)), len(patterns(tool.get("inputSchema")))
        if self._bytes + size > MAX_LISTING_BYTES:
            return f"the server's tools are larger than {MAX_LISTING_BYTES} bytes together"
        if self._patterns + holds > MAX_LISTING_PATTERNS:
            return f"the server's tools hold more than {MAX_LISTING_PATTERNS} patterns together"
        self._bytes, self._patterns = self._bytes + size, self._patterns + holds
        return ""


def _why_not(server: str, name: str, tool: JSON) -> str:
    """Why this tool cannot be taken; empty when it can."""
    if not isinstance(tool, dict) or not _NAME.fullmatch(name):
        return "a tool's name is of letters, digits, '_', '-' and '.'"
    if len(f"{server}__{name}") > MAX_PUBLIC_NAME:
        return f"'{server}__{name}' is longer than {MAX_PUBLIC_NAME} characters"
    if len(canonical(tool)) > MAX_BODY_BYTES:
        return f"its definition is larger than {MAX_BODY_BYTES} bytes"
    if _runs_as_task_only(tool):
        return "it can only be run as a task, which is not yet mediated"
    return ""


_judged: dict[str, str] = {}
"""By a schema's digest, why it is refused, or nothing: most listings only say the same again."""


def _why_not_schema(tool: JSONObject) -> str:
    schema = tool.get("inputSchema")
    known = _judged.get(key := digest(schema))
    if known is None:
        checked = compile_schema(schema)
        known = f"its input schema is refused: {checked.reason}" if isinstance(checked, Refused) else ""
        if len(_judged) >= MAX_JUDGED:
            _judged.clear()
        _judged[key] = known
    return known


def _runs_as_task_only(tool: JSONObject) -> bool:
    """2025-11-25: a plain call of such a tool is an error, so whoever is shown it can only fail with it."""
    execution = tool.get("execution")
    return isinstance(execution, dict) and execution.get("taskSupport") == "required"


def _name_of(tool: JSON) -> str:
    """The name, as far as one may be long, or for what has none, something to call it by."""
    name = tool.get("name") if isinstance(tool, dict) else None
    return name[: MAX_PUBLIC_NAME + 1] if isinstance(name, str) else "(no name)"


def _pretty(body: JSONObject | str | None) -> str:
    if isinstance(body, str):
        return body
    return json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False)


def _is_hidden(char: str) -> bool:
    if char in "\n ":
        return False
    category = unicodedata.category(char)
    is_variation = "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"
    return category in _HIDDEN_CATEGORIES or category == "Zs" or char in _HIDDEN or is_variation
