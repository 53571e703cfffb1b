"""`docs/reference.md` against the code, both ways: what is undocumented fails, and so does what is no longer there."""

import ast
import inspect
import typing
from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import typer
from fastapi import FastAPI
from fastapi.routing import APIRoute
from support.pages import REPOSITORY, Section, sections

from audit.event import KINDS
from gateway.cli import app as command_line
from gateway.edges.console.pages import console_app
from gateway.edges.openai.routes import Route as ModelRoute
from gateway.edges.openai.routes import find
from gateway.edges.problems import CODES
from gateway.edges.rest import API, Office, rest_app
from gateway.keyring import AUDIT, EQUALITY, FOLDER, INSTANCE, TOKENS
from gateway.settings_grammar import TABLES, File, Guarantee, Later
from gateway.stores.calls import CallState
from gateway.stores.database import DATABASE, LOCK
from gateway.stores.tickets import Scope, TicketState
from gateway.wire.answers import DECISION_KEY, SENTENCES
from gateway.wire.http import METADATA_PATH, Door, Head
from policies import packs
from policies.bundle import KERNEL_RULES
from policies.case import Pin
from policies.document import shape
from policies.engine import CONTRIBUTIONS
from policies.grant import Op
from policies.pack import Effect, Form, Role
from policies.verdict import Code
from sandbox.driver import GUARANTEES

PAGE = REPOSITORY / "docs" / "reference.md"

PACK_KEYS = {
    "parse_pack": "Top level",
    "_tool": "[tool.NAME]",
    "_argument": "An argument",
    "_result": "A result field",
    "_amount": "An amount",
}
"""Where `policies/packs.py` reads a table, and where this page describes it."""

WORDS: Mapping[str, type[StrEnum]] = {
    "Effects": Effect,
    "Roles": Role,
    "Forms": Form,
    "Questions": TicketState,
    "Scope of a yes": Scope,
    "Calls": CallState,
    "Definitions": Pin,
}
SOCKETS = ("agent.sock", "control.sock")


@cache
def page() -> dict[str, Section]:
    found = list(sections(PAGE))
    assert len({section.title for section in found}) == len(found), "two sections of one title"
    return {section.title: section for section in found}


def documented(title: str) -> list[str]:
    assert title in page(), f"docs/reference.md has no section {title!r}"
    return page()[title].names()


def same(title: str, known: set[str]) -> None:
    """The section lists exactly these names, each once."""
    listed = documented(title)
    assert (sorted(known - set(listed)), sorted(set(listed) - known)) == ([], []), "(undocumented, no longer there)"
    assert len(listed) == len(set(listed)), "documented twice"


# ---- settings --------------------------------------------------------------------------------------------------------


def test_every_table_of_the_settings_has_a_section() -> None:
    tables = {f"[{name}]" for name in TABLES}
    later = {f"[{field.name}]" for field in msgspec.structs.fields(File) if field.type is Later}
    sectioned = {title for title, section in page().items() if title.startswith("[") and section.level == 3}

    assert sectioned - {"[tool.NAME]"} == tables | later


@pytest.mark.parametrize("table", TABLES)
def test_every_key_of_the_settings_is_described(table: str) -> None:
    same(f"[{table}]", {field.name for field in msgspec.structs.fields(TABLES[table])})


@pytest.mark.parametrize("table", TABLES)
def test_a_key_is_called_not_available_exactly_when_it_is_refused(table: str) -> None:
    refused = {field.name for field in msgspec.structs.fields(TABLES[table]) if field.type is Later}
    said = {row[0].strip("`") for row in page()[f"[{table}]"].rows() if row[1].startswith("not available yet")}

    assert said == refused


def test_defaults_are_the_defaults() -> None:
    for table, struct in TABLES.items():
        known = {field.name: field.default for field in msgspec.structs.fields(struct)}
        for key, _, default in (row for row in page()[f"[{table}]"].rows()):
            if default.startswith("`"):
                literal = ast.literal_eval(default.strip("`"))
                actual = known[key.strip("`")]
                empty = actual is msgspec.NODEFAULT or actual == ()
                assert (list(literal) if empty and literal else literal) == (type(literal)() if empty else actual), key


# ---- the command line ------------------------------------------------------------------------------------------------


def commands(node: Any, path: str = "pratique") -> Iterator[tuple[str, set[str]]]:
    """Every command with its options and arguments, as a person reads them."""
    if hasattr(node, "commands"):
        for name, inner in node.commands.items():
            yield from commands(inner, f"{path} {name}")
        return
    known: set[str] = set()
    for parameter in node.params:
        if parameter.param_type_name == "option":
            known.update(parameter.opts, parameter.secondary_opts)
        else:
            name = parameter.metavar or parameter.name.upper()
            known.add(name if parameter.required or name.startswith("[") else f"[{name}]")
    yield path, known - {"--help"}


COMMANDS = dict(commands(typer.main.get_command(command_line.app)))


def test_every_command_has_a_section_and_no_section_is_of_another() -> None:
    assert {title for title in page() if title.startswith("pratique ")} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_and_argument_is_described(command: str) -> None:
    same(command, COMMANDS[command])


def test_exit_codes() -> None:
    same("Command line", {"0", *map(str, (command_line.NO, command_line.USAGE, command_line.UNREACHABLE))})


# ---- http ------------------------------------------------------------------------------------------------------------


def routes(gated: object) -> set[str]:
    """`GET /path` of every route of the application behind a gate, however the framework keeps included routers."""
    (app,) = (one for one in vars(gated).values() if isinstance(one, FastAPI))
    found: set[str] = set()
    todo: list[Any] = list(app.routes)
    while todo:
        route = todo.pop()
        if isinstance(route, APIRoute):
            found.update(f"{method} {route.path}" for method in route.methods or ())
        elif inner := getattr(route, "original_router", None) or getattr(route, "app", None):
            todo.extend(getattr(inner, "routes", ()))
    return found


def office() -> Office:
    """Enough of one to build the applications; no route is called."""
    return typing.cast(Office, SimpleNamespace(is_agent_token=lambda _token: False))


def test_every_route_of_the_api_is_described() -> None:
    same("For operators", routes(rest_app(office())) | {f"GET {API}/openapi.json"})


def test_every_route_of_the_console_is_described() -> None:
    same("Console", routes(console_app(office())))


def test_every_code_of_a_problem_is_explained() -> None:
    said = {int(row[0].strip("`")): row[1].partition(":")[0].strip("`") for row in page()["Problems"].rows()}

    assert said == CODES


def test_the_agents_routes_are_those_that_the_ladder_lets_in() -> None:
    door = Door(frozenset({"localhost"}), "http://localhost")
    head = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    listed = documented("For agents")

    assert listed.pop() == f"GET {METADATA_PATH}"
    assert door.metadata(METADATA_PATH) is not None
    for verb, route in (name.split(" ") for name in listed):
        assert isinstance(door.read(verb, route.replace("{server}", "bank").encode(), head), Head)
    assert {name.split(" ")[0] for name in listed} == {"POST", "DELETE"}


def test_the_models_routes_are_those_that_there_are() -> None:
    found = []
    for name in documented("For clients of the model"):
        verb, path = name.replace("{id}", "act_1").replace("{model}", "smollm2").split(" ")
        fields = [(b"content-type", b"application/json")] if verb == "POST" else []
        route = find(Head.of(verb, path.encode(), None, fields))
        assert isinstance(route, tuple), name
        found.append(route[0])

    assert found == list(ModelRoute)


# ---- what an agent is told -------------------------------------------------------------------------------------------


def test_every_code_stands_with_its_sentence_in_the_order_of_precedence() -> None:
    rows = [(row[0].strip("`"), row[1]) for row in page()["What an agent is told"].rows()]

    assert rows == [(code.value, SENTENCES[code]) for code in Code]
    assert f'`_meta["{DECISION_KEY}"]`' in page()["What an agent is told"].text


# ---- words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("title", WORDS)
def test_every_word_is_explained(title: str) -> None:
    same(title, {word.value for word in WORDS[title]})


def test_every_operator_of_a_rule_is_explained() -> None:
    same("Rules", {op.value for op in Op})


def test_every_kind_of_event_is_explained() -> None:
    same("Event kinds", set(KINDS))


def test_every_guarantee_is_explained() -> None:
    known = set(typing.get_args(Guarantee))

    same("Sandbox guarantees", known)
    assert set(GUARANTEES) <= known


# ---- packs and policies ----------------------------------------------------------------------------------------------


def pack_keys() -> dict[str, set[str]]:
    """The keys that each reader of `policies/packs.py` takes: the tuple that it gives to `_only`."""
    found: dict[str, set[str]] = {}
    for function in ast.walk(ast.parse(inspect.getsource(packs))):
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                match node:
                    case ast.Call(ast.Name("_only"), [_, ast.Tuple() as keys, _]):
                        found[function.name] = set(ast.literal_eval(keys))
                    case _:
                        pass
    return found


def test_every_reader_of_packs_has_a_section() -> None:
    assert pack_keys().keys() == PACK_KEYS.keys()


@pytest.mark.parametrize("reader", PACK_KEYS)
def test_every_key_of_a_pack_is_described(reader: str) -> None:
    same(PACK_KEYS[reader], pack_keys()[reader])


def test_the_levels_that_a_pack_may_give_are_explained() -> None:
    same("Integrity in a pack", set(packs._INTEGRITIES))


def test_every_kernel_rule_is_explained() -> None:
    same("Kernel rules", set(KERNEL_RULES))


def test_what_a_policy_contributes_is_explained() -> None:
    same("Policies", set(CONTRIBUTIONS))


def test_every_field_of_the_input_is_explained() -> None:
    fields = shape(values=True)
    same("Input", set(fields))

    described = {row[0].strip("`"): row[1] for row in page()["Input"].rows()}
    for name, inner in fields.items():
        first = inner[0] if isinstance(inner, list) else inner
        for key in first or ():
            assert key in described[name], f"{name}.{key}"


# ---- files and limits ------------------------------------------------------------------------------------------------


def test_the_files_of_the_state_are_those_that_the_code_names() -> None:
    keys = {f"{FOLDER}/{name}" for name in (TOKENS, INSTANCE, AUDIT, EQUALITY)}

    same("Files", {DATABASE, LOCK, *SOCKETS, *keys, "images/", "workspaces/", "generations/"})
    source = (REPOSITORY / "gateway" / "bootstrap.py").read_text()
    assert [name for name in (*SOCKETS, "workspaces") if f'"{name}"' not in source] == []


@pytest.mark.parametrize("row", page()["Limits"].rows(), ids=lambda row: str(row[0]))
def test_a_limit_is_what_the_code_says(row: list[str]) -> None:
    module, _, name = row[0].strip("`").rpartition(".")

    assert getattr(import_module(module), name) == ast.literal_eval(row[1].strip("`"))
