"""What an operator wrote against what the servers offer: a rule or a pack that names what is not there is a typo.

Nothing here decides a call. A server's words are told as Python literals, in characters that can be seen.
"""

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches

from policies.grant import Rule
from policies.jsonvalue import JSON
from policies.pack import Pack, ToolPack
from policies.rules import argument_path

LISTED = 12
"""How many names are told where none is near."""
OPEN = frozenset(
    {"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas", "patternProperties"}
)
"""Keywords by which a schema takes arguments that its `properties` do not name."""


def misfit(rule: Rule, schemas: Mapping[str, JSON]) -> str:
    """What a rule names that its server does not have; empty where nothing, or where no tool is known yet.

    `schemas`: the input schema of each of the server's tools.
    """
    if not schemas:
        return ""
    if rule.tool != "*" and rule.tool not in schemas:
        return f"{rule.server} has no tool {rule.tool!r}{nearest(rule.tool, schemas)}"
    speaks_of = list(schemas.values()) if rule.tool == "*" else [schemas[rule.tool]]
    known = _declared_by_any(speaks_of)
    if known is None:
        return ""
    for constraint in rule.constraints:
        name = _first_step(argument_path(constraint))
        if name not in known:
            return f"{rule.server}.{rule.tool} has no argument {name!r}{nearest(name, known)}"
    return ""


def pack_problems(pack: Pack, schemas: Mapping[str, JSON], servers: Collection[str]) -> Iterator[str]:
    """What a pack names that is not there: tools and arguments of its server, servers that its data may flow to."""
    for name, tool in pack.tools.items() if schemas else ():
        if name not in schemas:
            yield f"tool.{name}: the server has no such tool{nearest(name, schemas)}"
        else:
            yield from _argument_problems(name, tool, schemas[name])
    for kind, sinks in pack.flow.items():
        for sink in sinks:
            if sink != "." and sink.partition(".")[0] not in servers:
                yield f"flow.{kind}: no server is configured for {sink!r}"


def nearest(name: str, known: Collection[str]) -> str:
    """The end of a sentence that says `name` is not known."""
    if near := get_close_matches(name, known, n=1):
        return f"; did you mean {_told(near[0])}?"
    listed = ", ".join(_told(one) for one in sorted(known)[:LISTED])
    return f"; there are {listed}{', ...' if len(known) > LISTED else ''}" if listed else "; there is none"


def _argument_problems(name: str, tool: ToolPack, schema: JSON) -> Iterator[str]:
    known = _declared(schema)
    if known is None:
        return
    for argument in tool.arguments:
        top = _first_step(argument) if argument.startswith("/") else argument
        if top != "*" and top not in known:
            yield f"tool.{name}.arguments: the tool has no argument {top!r}{nearest(top, known)}"


def _declared_by_any(schemas: list[JSON]) -> frozenset[str] | None:
    found = [_declared(schema) for schema in schemas]
    return None if None in found else frozenset().union(*(names for names in found if names is not None))


def _declared(schema: JSON) -> frozenset[str] | None:
    """The top-level arguments that a schema names; nothing where it may take others, or does not say."""
    if not isinstance(schema, dict) or not OPEN.isdisjoint(schema) or schema.get("additionalProperties"):
        return None
    properties = schema.get("properties")
    return frozenset(properties) if isinstance(properties, dict) else None


def _first_step(pointer: str) -> str:
    return pointer.split("/")[1].replace("~1", "/").replace("~0", "~")


def _told(name: str) -> str:
    return repr(name[:60])
