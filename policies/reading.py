"""Reading a result: the label of everything it says, and the values in it that may prove an argument.

Every value gets the label of the longest pack path that reaches it (a path also covers what lies inside); what no path
reaches is untrusted and private. A result past a cap proves nothing and counts as wholly untrusted and private: size
must never buy time or trust.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from policies.forms import form_for, spellings
from policies.jsonvalue import JSON, JSONObject, pointer
from policies.label import Integrity, Label, Source, join_all
from policies.pack import Form, ResultField, ToolPack

MAX_CHARS = 262_144
MAX_NODES = 20_000
MAX_DEPTH = 32
"""Bounds of one result: characters of its strings and keys, values, levels."""

PRIVATE = frozenset({"user"})
_KNOWN_KEYS = frozenset({"content", "structuredContent", "isError", "resultType", "_meta"})
_UNPROVEN = Label(integrity=Integrity.UNTRUSTED)

Atom: TypeAlias = tuple[Form, str, Label]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What one result is worth."""

    label: Label
    """The join over everything it says: what the holder's mark takes."""
    atoms: tuple[Atom, ...] = ()
    """The values in it that may prove an argument."""
    whole: bool = True
    """False: it was past a cap, so all of it counts as untrusted and private."""


def read_result(result: JSONObject, tool: ToolPack, server: str, tool_name: str, action: str) -> Reading:
    """Label everything a result says. Pure, and linear in the result, up to the caps.

    The body is `structuredContent`; without it the one text block that is JSON; else `{"content": [...]}`. What the
    server says of itself (`_meta`, annotations) can only lower.
    """
    origin = Source(server, tool_name, action)
    unnamed = Label(integrity=Integrity.UNTRUSTED, readers=PRIVATE, classes=frozenset({server}))
    labels: dict[int, Label] = {}
    met: set[Label] = set()
    atoms: list[Atom] = []
    try:
        budget = _Budget()
        body = _body(result)
        for steps, value, found in _walk(body, _tree(tool.result), budget):
            if (label := labels.get(id(found))) is None:
                label = labels[id(found)] = unnamed if found is None else _label_of(found, server)
                met.add(label)
            if found is not None and label.integrity >= Integrity.ATTESTED:
                atoms.extend(_atoms(found.form, value, label, origin, steps))
        if body is result.get("structuredContent") and not _repeats(result.get("content", []), body, budget):
            met.add(unnamed)
    except _TooMuch:
        return overflow(tool, server, tool_name, action)
    if not result.keys() <= _KNOWN_KEYS:
        met.add(unnamed)
    if result.get("_meta"):
        met.add(_UNPROVEN)
    if result.get("isError"):
        met.add(_UNPROVEN)
        atoms.clear()
    floor = unnamed if _is_for_people_only(result.get("content")) else None
    if floor is not None:
        met.add(floor)
        atoms.clear()
    label = _from(join_all(met), origin)
    return Reading(label=label, atoms=tuple(atoms))


def overflow(tool: ToolPack, server: str, tool_name: str, action: str) -> Reading:
    """What a result past a cap is worth: it may hold any class that the pack knows of."""
    classes = frozenset({server}).union(*(found.classes for found in tool.result))
    sources = frozenset({Source(server, tool_name, action)})
    label = Label(integrity=Integrity.UNTRUSTED, readers=PRIVATE, classes=classes, sources=sources)
    return Reading(label=label, whole=False)


# ---- labels and atoms ----------------------------------------------------------------------------------------------


def _label_of(found: ResultField, server: str) -> Label:
    """The pack's word; private data without a class is of the class named after its server."""
    classes = found.classes or (frozenset() if found.readers is None else frozenset({server}))
    return Label(integrity=found.integrity, readers=found.readers, classes=classes)


def _from(label: Label, source: Source) -> Label:
    """The label of what stands in this place."""
    return Label(
        integrity=label.integrity, readers=label.readers, classes=label.classes, sources=label.sources | {source}
    )


def _atoms(form: Form, value: JSON, label: Label, origin: Source, steps: tuple[str | int, ...]) -> Iterator[Atom]:
    """A value's spellings; truth values and null say too little to prove anything."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return
    form = form_for(form, value)
    said = spellings(form, value)
    if said:
        label = _from(label, Source(origin.server, origin.tool, origin.action, pointer(*steps)))
    for spelling in said:
        yield form, spelling, label


# ---- walking a result ----------------------------------------------------------------------------------------------


class _TooMuch(Exception):
    """The result is past a cap."""


@dataclass(slots=True)
class _Budget:
    nodes: int = MAX_NODES
    chars: int = MAX_CHARS

    def take(self, nodes: int, chars: int) -> None:
        self.nodes -= nodes
        self.chars -= chars
        if self.nodes < 0 or self.chars < 0:
            raise _TooMuch


@dataclass(slots=True)
class _Node:
    """One step of the pack's paths."""

    next: dict[str, "_Node"] = field(default_factory=dict)
    found: ResultField | None = None
    literals: int = 0
    """How many of the steps to here are no `*`: of two paths of one length the more literal counts."""


MAX_TREES = 1_024
_TREES: dict[int, tuple[tuple[ResultField, ...], _Node]] = {}
"""By the identity of the fields, which are kept beside, so that no other tuple can take it over."""


def _tree(fields: tuple[ResultField, ...]) -> _Node:
    """The fields as a tree, made once. They belong to a pack, so the tuple's identity is the key: hashing it is slow."""
    known = _TREES.get(id(fields))
    if known is None:
        if len(_TREES) >= MAX_TREES:
            _TREES.clear()
        known = _TREES[id(fields)] = fields, _grown(fields)
    return known[1]


def _grown(fields: tuple[ResultField, ...]) -> _Node:
    root = _Node()
    for entry in fields:
        node = root
        for step in entry.path.split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            node = node.next.setdefault(name, _Node(literals=node.literals + (name != "*")))
        node.found = entry
    return root


def _walk(body: JSON, tree: _Node, budget: _Budget) -> Iterator[tuple[tuple[str | int, ...], JSON, ResultField | None]]:
    """Every scalar with its path and the field that covers it."""
    stack: list[tuple[tuple[str | int, ...], JSON, list[_Node], ResultField | None]] = [((), body, [tree], None)]
    while stack:
        steps, value, nodes, found = stack.pop()
        budget.take(1, len(value) if isinstance(value, str) else 0)
        if not isinstance(value, dict | list) or not (value or nodes):
            yield steps, value, found
            continue
        if len(steps) >= MAX_DEPTH:
            raise _TooMuch
        if isinstance(value, dict):
            budget.take(0, sum(map(len, value)))
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            onward = _onward(nodes, str(step)) if nodes else nodes
            stack.append(((*steps, step), inner, onward, _covering(onward, found)))


def _onward(nodes: list[_Node], step: str) -> list[_Node]:
    """Where the pack's paths stand one step further."""
    onward = []
    for node in nodes:
        if (named := node.next.get(step)) is not None:
            onward.append(named)
        if step != "*" and (any_step := node.next.get("*")) is not None:
            onward.append(any_step)
    return onward


def _covering(nodes: list[_Node], inherited: ResultField | None) -> ResultField | None:
    """The field of the longest path so far, the more literal and then the less trusting one of equals."""
    if len(nodes) < 2:
        return nodes[0].found or inherited if nodes else inherited
    named = [(-node.literals, node.found.integrity, node.found) for node in nodes if node.found is not None]
    return min(named, key=lambda entry: entry[:2])[2] if named else inherited


# ---- what the body is, and whether the rest repeats it -------------------------------------------------------------


def _body(result: JSONObject) -> JSON:
    if result.get("structuredContent") is not None:
        return result["structuredContent"]
    content = result.get("content", [])
    text = _text_of(content[0]) if isinstance(content, list) and len(content) == 1 else None
    if text is not None and isinstance(parsed := _parsed(text), dict | list):
        return parsed
    return {"content": content}


def _text_of(block: JSON) -> str | None:
    """The text of a plain text block; None for any other block."""
    if not isinstance(block, dict) or block.get("type") != "text":
        return None
    text = block.get("text")
    return text if isinstance(text, str) else None


def _parsed(text: str) -> JSON:
    """The JSON that `text` is; None when it is none, past the cap, or names a key twice (two readers, two values)."""
    if len(text) > MAX_CHARS or not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a key is there twice")
    return entries


_decode = json.JSONDecoder(object_pairs_hook=_unique).decode
_encode = msgspec.json.Encoder().encode


def _repeats(content: JSON, body: JSON, budget: _Budget) -> bool:
    """Whether the text beside a structured body says nothing that the body does not say."""
    if not isinstance(content, list):
        return False
    parts: set[str] = set()
    for block in content:
        text = _text_of(block)
        if text is None:
            return False
        budget.take(1, len(text))
        if _is_compact(text, body):
            continue
        parsed = _parsed(text)
        if parsed is not None and parsed == body:
            continue
        parts = parts or _parts(body)
        if _spelled(text if parsed is None else parsed) not in parts:
            return False
    return True


def _is_compact(text: str, body: JSON) -> bool:
    """Whether `text` is the body in the spelling that most servers use: then there is nothing to parse."""
    try:
        return text.startswith(("{", "[")) and text.encode() == _encode(body)
    except (UnicodeEncodeError, TypeError, OverflowError):
        return False


def _parts(body: JSON) -> set[str]:
    """The body, its members, and the items of its lists, each spelled."""
    parts = [body]
    if isinstance(body, dict):
        parts.extend(body.values())
        parts.extend(item for value in body.values() if isinstance(value, list) for item in value)
    return {_spelled(part) for part in parts}


def _spelled(value: JSON) -> str:
    return json.dumps(value, sort_keys=True)


def _is_for_people_only(content: JSON) -> bool:
    """Whether the server marked any block as not meant for a model."""
    blocks = content if isinstance(content, list) else []
    notes = [block.get("annotations") for block in blocks if isinstance(block, dict)]
    audiences = [note.get("audience") for note in notes if isinstance(note, dict)]
    return any(isinstance(audience, list) and "assistant" not in audience for audience in audiences)
