"""Reading a result: the label of everything it says, and the values in it that may prove an argument.

Every value gets the label of the longest pack path that reaches it (a path also covers what lies inside); what no path
reaches is untrusted and private, and may be of any class that the pack knows of. That holds for whatever a server can
choose: a key that the pack does not name is its text as well as a value is, an empty list says something, and text that
spells a body counts as that body only in a spelling that leaves no choice. What is left to it, beside the values that
the pack trusts: the order of keys, which of a few spellings, and which parts of a body its text blocks repeat.

A result past a cap proves nothing and counts as wholly untrusted and private: size must never buy time or trust.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from policies.bodytext import body_of, is_for_people_only, repeats
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
    work: int = 0
    """What reading it costs: values, and blocks of 256 characters."""


def read_result(result: JSONObject, tool: ToolPack, server: str, tool_name: str, action: str) -> Reading:
    """Label everything a result says. Pure, and linear in the result, up to the caps.

    The body is `structuredContent`; without it the one text block that is JSON; else `{"content": [...]}`. What the
    server says of itself (`_meta`, annotations) can only lower.
    """
    origin = Source(server, tool_name, action)
    unnamed = _unnamed(tool, server)
    labels: dict[int, Label] = {}
    met: set[Label] = set()
    atoms: list[Atom] = []
    try:
        budget, keys = _Budget(), _Keys()
        body = body_of(result, MAX_CHARS)
        for steps, value, found in _walk(body, _tree(tool.result), budget, keys):
            if (label := labels.get(id(found))) is None:
                label = labels[id(found)] = unnamed if found is None else _label_of(found, server)
                met.add(label)
            if found is not None and label.integrity >= Integrity.ATTESTED:
                said = len(atoms)
                atoms.extend(_atoms(found.form, value, label, origin, steps))
                if len(atoms) == said and found.form is not Form.TEXT and isinstance(value, str):
                    met.add(_lowered(label))  # text where the pack expects a number, an id, an address
        met.update(unnamed if found is None else _lowered(_label_of(found, server)) for found in keys.values())
        if body is result.get("structuredContent") and not repeats(result.get("content", []), body, budget.take):
            met.add(unnamed)
    except _TooMuch:
        return overflow(tool, server, tool_name, action)
    if not result.keys() <= _KNOWN_KEYS or result.get("_meta") or result.get("resultType", "complete") != "complete":
        met.add(unnamed)
    if result.get("isError", False) is not False or is_for_people_only(result.get("content")):
        met.add(unnamed)
        atoms.clear()
    label = _from(join_all(met), origin)
    return Reading(label=label, atoms=tuple(atoms), work=budget.work)


def overflow(tool: ToolPack, server: str, tool_name: str, action: str) -> Reading:
    """What a result past a cap is worth."""
    return Reading(label=_from(_unnamed(tool, server), Source(server, tool_name, action)), whole=False)


# ---- labels and atoms ----------------------------------------------------------------------------------------------


def _unnamed(tool: ToolPack, server: str) -> Label:
    """The label of what no path reaches: it may hold any class that the pack knows of."""
    classes = frozenset({server}).union(*(found.classes for found in tool.result))
    return Label(integrity=Integrity.UNTRUSTED, readers=PRIVATE, classes=classes)


def _lowered(label: Label) -> Label:
    return Label(integrity=Integrity.UNTRUSTED, readers=label.readers, classes=label.classes)


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

    @property
    def work(self) -> int:
        return MAX_NODES - self.nodes + (MAX_CHARS - self.chars) // 256

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
    """The fields as a tree, made once. They belong to a pack: their identity is the key, for hashing them is slow."""
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


_Keys: TypeAlias = dict[int, ResultField | None]
"""The fields, by identity, within which a key stands that the pack does not name."""


def _walk(
    body: JSON, tree: _Node, budget: _Budget, keys: _Keys
) -> Iterator[tuple[tuple[str | int, ...], JSON, ResultField | None]]:
    """Every scalar and every empty container with its path and the field that covers it; fills `keys`."""
    stack: list[tuple[tuple[str | int, ...], JSON, list[_Node], ResultField | None]] = [((), body, [tree], None)]
    while stack:
        steps, value, nodes, found = stack.pop()
        budget.take(1, len(value) if isinstance(value, str) else 0)
        if not isinstance(value, dict | list) or not value:
            yield steps, value, found
            continue
        if len(steps) >= MAX_DEPTH:
            raise _TooMuch
        if isinstance(value, dict):
            budget.take(0, sum(map(len, value)))
            if id(found) not in keys and any(not _is_named(key, nodes) for key in value):
                keys[id(found)] = found
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            onward = _onward(nodes, str(step)) if nodes else nodes
            stack.append(((*steps, step), inner, onward, _covering(onward, found)))


def _is_named(key: str, nodes: list[_Node]) -> bool:
    """Whether a literal step of the pack says this key, so that it is not the server's to choose."""
    return key != "*" and any(key in node.next for node in nodes)


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
