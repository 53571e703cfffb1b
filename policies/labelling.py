"""Labelling arguments: which role each value plays, what proves it, and how strong a proof that role demands.

A proof is positive: the value equals a slot of *one* granted rule, a field the operator trusts (or, to name a thing
that is not destroyed, one the same server minted), or what a person approved for this argument of this tool. Everything
else is untrusted and carries the holder's mark, as bodies do: all that was read so far.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

from policies.case import Argument, Case, Definition
from policies.forms import as_sent, canonical_form, form_for, spellings
from policies.grant import Constraint, Op, Rule, Scalar
from policies.jsonvalue import JSON, JSONObject, pointer
from policies.label import Integrity, Label
from policies.pack import ArgumentSpec, Effect, Form, Role, ToolPack
from policies.shape import Shape, Shapes

_STRICTEST = ArgumentSpec(role=Role.DEST)
_GRANTED = Label(integrity=Integrity.GRANTED)
_TRUSTED = Label(integrity=Integrity.TRUSTED)
_ENDORSED = Label(integrity=Integrity.ENDORSED)
_UNTRUSTED = Label(integrity=Integrity.UNTRUSTED)
_ADDRESSES = frozenset({Form.EMAIL, Form.IBAN, Form.URL})
_FEW = 16
"""An enum of at most so many values is a switch."""


def labelled(case: Case) -> tuple[Argument, ...]:
    """Every argument under the proofs of the one granted rule that leaves least to ask."""
    unproven = _UNTRUSTED.join(case.seen.mark)
    found = leaves(case.action.arguments, case.tool)
    found.extend(_left_out(case))
    known = [_without_grant(case, path, value, spec, unproven) for path, value, spec in found]
    best = known
    for index in case.rules:
        granted = _under(case.seen.grant.rules[index], f"grant:{index}", known)
        if best is known or _open(granted, case) < _open(best, case):
            best = granted
    return tuple(best)


def leaves(arguments: JSONObject, tool: ToolPack) -> list[tuple[str, JSON, ArgumentSpec]]:
    """Every value of the arguments with its JSON pointer and what the pack says of it, in document order.

    An empty list or object is a value. What the pack marks optional is none where it says nothing.
    """
    found: list[tuple[str, JSON, ArgumentSpec]] = []
    stack: list[tuple[tuple[str, ...], JSON]] = [((name,), value) for name, value in reversed(arguments.items())]
    while stack:
        steps, value = stack.pop()
        if value and isinstance(value, dict | list):
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            stack.extend(reversed([((*steps, str(step)), item) for step, item in inner]))
            continue
        spec = _spec(tool, steps)
        if not (spec.optional and (value is None or value in ([], {}))):
            form = form_for(spec.form, value)
            found.append((pointer(*steps), value, spec if form is spec.form else replace(spec, form=form)))
    return found


def demanded(role: Role, effect: Effect) -> Integrity | None:
    """How strong the proof of a value in this role must be; None asks nothing."""
    if not role.is_authority:
        return None
    if effect is Effect.READ:  # what to read is bounded by the sandbox, and what that tells the server by flow
        return None if role in (Role.REF, Role.CONTROL) else Integrity.ENDORSED
    return Integrity.ATTESTED if role is Role.REF and effect is not Effect.DESTRUCTIVE else Integrity.ENDORSED


def is_proven(argument: Argument, effect: Effect) -> bool:
    """Whether the argument's proof is as strong as its role demands."""
    needed = demanded(argument.spec.role, effect)
    return needed is None or (argument.proof != "" and argument.label.integrity >= needed)


def is_endorsed(case: Case, path: str, form: Form, canonical: str | None) -> bool:
    """Whether a person approved this value for this argument of this tool, for the whole task."""
    return canonical is not None and (sink(case), path, form, canonical) in case.seen.endorsed


def sink(case: Case) -> str:
    """The tool as flows and endorsements name it."""
    return f"{case.action.server}.{case.action.name}"


def steps_of(path: str) -> tuple[str, ...]:
    """The steps of a JSON pointer, unescaped."""
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:])


# ---- proof ----------------------------------------------------------------------------------------------------


def _under(rule: Rule, proof: str, known: list[Argument]) -> list[Argument]:
    """The arguments with those that this rule pins proven by it."""
    slots = [constraint for constraint in rule.constraints if constraint.op in (Op.EQUALS, Op.IN)]
    return [
        Argument(path=argument.path, value=argument.value, spec=argument.spec, label=_GRANTED, proof=proof)
        if any(_pins(slot, argument) for slot in slots)
        else argument
        for argument in known
    ]


def _open(arguments: list[Argument], case: Case) -> int:
    return sum(1 for argument in arguments if not is_proven(argument, case.tool.effect))


def _pins(slot: Constraint, argument: Argument) -> bool:
    if not _names(slot.argument, argument.path):
        return False
    form, value = argument.spec.form, argument.value
    sent = as_sent(form, value)
    return sent is not None and (type(value), sent) in _said_by(slot.values, tuple(map(type, slot.values)), form)


@lru_cache(maxsize=1024)
def _said_by(values: tuple[Scalar, ...], types: tuple[type, ...], form: Form) -> frozenset[tuple[type, str]]:
    """Every spelling that a slot proves, with its type. The types are in the key, in which `1` and `True` are equal."""
    return frozenset((kind, said) for value, kind in zip(values, types, strict=True) for said in spellings(form, value))


def _names(argument: str, path: str) -> bool:
    """Whether a rule's `argument` means this leaf: by pointer, or by a top-level name, and then each item of a list."""
    if argument.startswith("/"):
        return _reaches(argument, path)
    steps = path.split("/")
    return pointer(argument) == f"/{steps[1]}" and (len(steps) == 2 or (len(steps) == 3 and steps[2].isdecimal()))


def _reaches(pattern: str, path: str) -> bool:
    ours, theirs = pattern.split("/"), path.split("/")
    return len(ours) == len(theirs) and all(mine in ("*", step) for mine, step in zip(ours, theirs, strict=True))


def _without_grant(case: Case, path: str, value: JSON, spec: ArgumentSpec, unproven: Label) -> Argument:
    """What the task has seen, and what a person or the operator has said of this very argument."""
    label, proof = unproven, ""
    seen = None if spec.role is Role.BODY else _seen(case, spec.form, value)
    if seen is not None:
        suffices = (demanded(spec.role, case.tool.effect) or Integrity.UNTRUSTED) <= seen.integrity
        label, proof = seen if suffices else seen.join(label), "result"
    if seen is None or seen.integrity < Integrity.ENDORSED:
        if case.seen.endorsed and is_endorsed(case, path, spec.form, canonical_form(spec.form, value)):
            label, proof = _ENDORSED, "endorsed"
        elif spec.role is Role.CONTROL and _is_default(case, path, value):
            label, proof = _TRUSTED, "default"
    return Argument(path=path, value=value, spec=spec, label=label, proof=proof)


def _seen(case: Case, form: Form, value: JSON) -> Label | None:
    """The label of the field that supplies this value.

    An address from a trusted field means the same everywhere. A name, a number or an id means something to the server
    that said it, and so does whatever is merely attested.
    """
    sent = as_sent(form, value)
    label = None if sent is None else case.seen.proofs.find(form, sent)
    if label is None or label.integrity < Integrity.ATTESTED:
        return None
    is_home = any(source.server == case.action.server for source in label.sources)
    return label if is_home or (form in _ADDRESSES and label.integrity >= Integrity.TRUSTED) else None


def _is_default(case: Case, path: str, value: JSON) -> bool:
    """Whether a switch stands where its pinned definition puts it: what calling the tool means unless told otherwise.

    Truth values and short enums only. Any other default (a path, an account, an address) is the server's choice.
    """
    steps = steps_of(path)
    schema = _properties(case).get(steps[0]) if len(steps) == 1 else None
    if not isinstance(schema, Mapping) or "default" not in schema:
        return False
    choices = schema.get("enum")
    is_switch = isinstance(value, bool) or (isinstance(choices, list) and value in choices and len(choices) <= _FEW)
    return is_switch and type(schema["default"]) is type(value) and schema["default"] == value


def _left_out(case: Case) -> Iterator[tuple[str, JSON, ArgumentSpec]]:
    """Authority arguments that the call leaves to the server, at any depth, so that its own state never chooses unseen.

    Declared is what any rule of the pinned schema declares, by reference and alternative too.
    """
    if case.tool.effect is Effect.READ:
        return
    named = {name for name in case.tool.arguments if not name.startswith("/")}
    arguments, definition = case.action.arguments, case.seen.definition
    unsaid = ((name,) for name in sorted(named - arguments.keys()))
    for steps in unsaid if definition is None else _absent(arguments, _shapes(definition), named):
        spec = _spec(case.tool, steps)
        if spec.role.is_authority and not spec.optional:
            yield pointer(*steps), None, replace(spec, form=Form.NUMBER)


def _absent(arguments: JSONObject, shapes: Shapes, named: set[str]) -> Iterator[tuple[str, ...]]:
    """The steps to each declared key that is not there; `named` by the pack counts where there is room for it."""
    room = {name for name in named - shapes.top.names if shapes.child(shapes.top, name) is not None}
    stack: list[tuple[tuple[str, ...], JSON, Shape]] = [((), arguments, shapes.top)]
    while stack:
        steps, value, shape = stack.pop()
        if isinstance(value, list):
            inside = [(str(at), item, shapes.item(shape, at)) for at, item in enumerate(value)]
        else:
            declared = shape.names if steps else shape.names | room
            for name in sorted(declared - value.keys()):
                yield (*steps, name)
            inside = [(key, item, shapes.child(shape, key) or shapes.free) for key, item in value.items()]
        for step, item, below in inside:
            if isinstance(item, dict | list) and not below.free:
                stack.append(((*steps, step), item, below))


MAX_SHAPES = 1_024
_SHAPES: dict[int, tuple[JSONObject, Shapes]] = {}
"""By the identity of a definition's body, which is kept beside, so that no other can take it over."""


def _shapes(definition: Definition) -> Shapes:
    """What the definition's schema declares where; patterns are taken to match, and defaults are another stage's."""
    known = _SHAPES.get(id(definition.body))
    if known is None:
        if len(_SHAPES) >= MAX_SHAPES:
            _SHAPES.clear()
        schema = definition.body.get("inputSchema")
        shapes = Shapes(
            schema if isinstance(schema, dict) else {}, lambda _pattern, _key: True, lambda _rule, _it: False
        )
        known = _SHAPES[id(definition.body)] = definition.body, shapes
    return known[1]


def _properties(case: Case) -> Mapping[str, JSON]:
    schema = case.seen.definition.body.get("inputSchema", {}) if case.seen.definition else {}
    properties = schema.get("properties", {}) if isinstance(schema, Mapping) else {}
    return properties if isinstance(properties, Mapping) else {}


def _spec(tool: ToolPack, steps: tuple[str, ...]) -> ArgumentSpec:
    """What the pack says of a leaf: the longest pointer that reaches it or what it lies in, else its top-level name."""
    named = None if steps[0].startswith("/") else tool.arguments.get(steps[0])
    best, score = named or _STRICTEST, (0, 0)
    for name, spec in tool.arguments.items():
        if not name.startswith("/"):
            continue
        ours = steps_of(name)
        if len(ours) > len(steps) or any(a not in ("*", b) for a, b in zip(ours, steps, strict=False)):
            continue
        weight = (len(ours), sum(step != "*" for step in ours))
        if weight > score:
            best, score = spec, weight
    return best
