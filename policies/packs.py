"""Reading packs: TOML in the grammar of `docs/reference.md`, shipped in `policies/packs/` or a user's own file.

    [tool.pay]                   effect, pure, idempotent, amount, arguments
    [tool.pay.result]            "/json/pointer/*" = { integrity, readers, class, form }
    [flow]                       class of data = [sinks it may reach without asking]

An argument is named at the top level (`to`, and everything inside it) or by a pointer with `*` (`/items/*/path`).
Private data that no pack gives a class is of the class named after its server; `"." = ["."]` in `[flow]` lets that
class back to the server it came from.
"""

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from policies.label import Integrity
from policies.pack import Amount, ArgumentSpec, Effect, Form, Pack, ResultField, Role, ToolPack

Named = TypeVar("Named", bound=StrEnum)

_BUNDLED = files("policies") / "packs"
_INTEGRITIES = {level.name.lower(): level for level in Integrity if level <= Integrity.ATTESTED} | {
    "trusted": Integrity.TRUSTED
}
"""What a pack may say of a field: granting and endorsing are a person's."""


class PackError(ValueError):
    """A pack that cannot be used: what is wrong, where, and in which file."""


def bundled() -> tuple[str, ...]:
    """The names of the shipped packs."""
    return tuple(
        sorted(entry.name.removesuffix(".toml") for entry in _BUNDLED.iterdir() if entry.name.endswith(".toml"))
    )


def load_pack(name_or_path: str | Path) -> Pack:
    """A shipped pack by its name, or a file by its path (anything with a `/` or a `.toml`).

    Raises:
        PackError: unknown name, unreadable file, or a key or value outside the grammar.
    """
    text = str(name_or_path)
    if "/" not in text and not text.endswith(".toml"):
        if text not in bundled():
            raise PackError(
                f"no pack is called {text!r}{_nearest(text, bundled())}; a file needs a path ending in .toml"
            )
        return parse_pack((_BUNDLED / f"{text}.toml").read_bytes(), name=text, file=f"{text}.toml")
    path = Path(text).expanduser()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PackError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_pack(content, name=path.stem, file=str(path))


def parse_pack(content: bytes, *, name: str, file: str) -> Pack:
    """The pack that `content` spells.

    Raises:
        PackError: it is no TOML or outside the grammar; the message names `file`, the key and the nearest known one.
    """
    try:
        document = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PackError(f"{file}: not TOML: {error}") from error
    try:
        _only(document, ("tool", "flow"), "")
        tools = {tool: _tool(entry, f"tool.{tool}") for tool, entry in _table(document.get("tool", {}), "tool").items()}
        flow = _flow(_table(document.get("flow", {}), "flow"))
    except PackError as error:
        raise PackError(f"{file}: {error}") from None
    return Pack(name=name, digest=sha256(content).hexdigest(), tools=tools, flow=flow)


def _tool(entry: object, where: str) -> ToolPack:
    table = _table(entry, where)
    _only(table, ("effect", "pure", "idempotent", "amount", "arguments", "result"), where)
    arguments = {
        argument: _argument(spec, f"{where}.arguments.{argument}")
        for argument, spec in _table(table.get("arguments", {}), f"{where}.arguments").items()
    }
    result = tuple(
        _result(path, spec, f"{where}.result")
        for path, spec in _table(table.get("result", {}), f"{where}.result").items()
    )
    effect = _named(Effect, table.get("effect", Effect.WRITE), f"{where}.effect")
    pure = _flag(table, "pure", where)
    amount = _amount(table["amount"], f"{where}.amount", arguments) if "amount" in table else None
    if pure and (effect is not Effect.READ or any(a.role in (Role.DEST, Role.COMMAND) for a in arguments.values())):
        raise PackError(f"{where}.pure: only a read without an argument of role dest or command is pure")
    if (effect is Effect.SPEND) != (amount is not None):
        raise PackError(f"{where}.amount: a tool has an amount exactly when its effect is spend")
    return ToolPack(
        effect=effect,
        pure=pure,
        idempotent=_flag(table, "idempotent", where),
        amount=amount,
        arguments=arguments,
        result=result,
    )


def _argument(spec: object, where: str) -> ArgumentSpec:
    table = _table(spec, where)
    _only(table, ("role", "form", "optional"), where)
    if "role" not in table:
        raise PackError(f"{where}: a role is missing (one of {', '.join(Role)})")
    return ArgumentSpec(
        role=_named(Role, table["role"], f"{where}.role"),
        form=_named(Form, table.get("form", Form.TEXT), f"{where}.form"),
        optional=_flag(table, "optional", where),
    )


def _result(path: str, spec: object, where: str) -> ResultField:
    if not path.startswith("/"):
        raise PackError(f"{where}: {path!r} is no JSON pointer; it starts with /")
    where = f'{where}."{path}"'
    table = _table(spec, where)
    _only(table, ("integrity", "readers", "class", "form"), where)
    level = _text(table.get("integrity", "untrusted"), f"{where}.integrity")
    if level not in _INTEGRITIES:
        known = f"{_nearest(level, _INTEGRITIES)} (known: {', '.join(_INTEGRITIES)})"
        raise PackError(f"{where}.integrity: unknown value {level!r}{known}")
    classes = table.get("class", [])
    return ResultField(
        path=path,
        integrity=_INTEGRITIES[level],
        readers=frozenset(_texts(table["readers"], f"{where}.readers")) if "readers" in table else None,
        classes=frozenset([classes] if isinstance(classes, str) else _texts(classes, f"{where}.class")),
        form=_named(Form, table.get("form", Form.TEXT), f"{where}.form"),
    )


def _amount(spec: object, where: str, arguments: Mapping[str, ArgumentSpec]) -> Amount:
    table = _table(spec, where)
    _only(table, ("argument", "currency"), where)
    names = {key: _text(table.get(key), f"{where}.{key}") for key in ("argument", "currency")}
    for key, name in names.items():
        if name not in arguments:
            raise PackError(f"{where}.{key}: no argument is called {name!r}{_nearest(name, arguments)}")
    return Amount(**names)


def _flow(table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    if "secret" in table:
        raise PackError("flow.secret: the class secret reaches no sink; it cannot be declared")
    return {name: _texts(sinks, f"flow.{name}") for name, sinks in table.items()}


# ---- the shapes of values ------------------------------------------------------------------------------------------


def _only(table: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    known = tuple(known)
    for key in table:
        if key not in known:
            place = f"{where}.{key}" if where else key
            raise PackError(f"{place}: unknown key{_nearest(key, known)} (known: {', '.join(known)})")


def _nearest(word: str, known: Iterable[str]) -> str:
    near = get_close_matches(word, [str(name) for name in known], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _named(names: type[Named], value: object, where: str) -> Named:
    text = _text(value, where)
    if text not in tuple(names):
        raise PackError(f"{where}: unknown value {text!r}{_nearest(text, names)} (known: {', '.join(names)})")
    return names(text)


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise PackError(f"{where}: expected a table")
    return value


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise PackError(f"{where}: expected a string")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise PackError(f"{where}: expected a list of strings")
    return tuple(_text(item, where) for item in value)


def _flag(table: Mapping[str, Any], key: str, where: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise PackError(f"{where}.{key}: expected true or false")
    return value
