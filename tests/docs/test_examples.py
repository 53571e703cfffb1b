"""The examples that people copy: settings, packs and rules parse, commands exist, Python runs, links lead somewhere."""

import json
import re
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from support.cases import action, snapshot
from support.examples import PAGES, Block, blocks, command_lines
from support.pages import REPOSITORY, sections
from support.proofs import learn

from gateway.cli.app import app
from gateway.settings import read_settings
from gateway.settings_grammar import TABLES
from policies.case import Case
from policies.dataflow import consider
from policies.grant import Grant
from policies.jsonvalue import JSONObject
from policies.packs import parse_pack
from policies.proofs import ProofIndex
from policies.rules import parse_rule, satisfies
from policies.verdict import Code, Severity

SETTINGS = {name.partition(".")[0] for name in TABLES}
PACK = {"tool", "flow"}


def tables(block: Block) -> set[str]:
    return set(tomllib.loads(block.text))


def name(block: object) -> str:
    return str(block)


TOML = blocks("toml")
SETTINGS_BLOCKS = [block for block in TOML if tables(block) <= SETTINGS]
PACK_BLOCKS = [block for block in TOML if tables(block) <= PACK]


def test_every_toml_block_is_settings_or_a_pack() -> None:
    assert len(SETTINGS_BLOCKS) + len(PACK_BLOCKS) == len(TOML)
    assert SETTINGS_BLOCKS
    assert PACK_BLOCKS


@pytest.mark.parametrize("block", SETTINGS_BLOCKS, ids=name)
def test_settings_are_taken(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "pratique.toml"
    file.write_text(block.text)

    assert read_settings(file, tmp_path / "state").servers.keys() == tomllib.loads(block.text).get("server", {}).keys()


@pytest.mark.parametrize("block", PACK_BLOCKS, ids=name)
def test_packs_are_taken(block: Block) -> None:
    assert parse_pack(block.text.encode(), name="example", file=str(block)).tools


# ---- commands and rules ----------------------------------------------------------------------------------------------

COMMANDS = [(block, words) for block in blocks("bash") for words in command_lines(block.text)]
TARGETS = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize(("block", "words"), COMMANDS, ids=name)
def test_commands_exist_with_these_options(block: Block, words: list[str]) -> None:
    if words[0] == "make":
        assert words[1] in TARGETS
        return
    assert words[0] == "pratique"
    command, rest = typer.main.get_command(app), words[1:]
    while hasattr(command, "commands"):
        command, rest = command.commands[rest[0]], rest[1:]
    command.make_context("pratique", list(rest), resilient_parsing=False)


def inline_commands() -> Iterator[tuple[str, list[str]]]:
    """`pratique ...` within sentences: the words up to the first that is no command."""
    for page in PAGES:
        for spoken in re.findall(r"`pratique ([a-z]+(?: [a-z]+)?)", page.read_text()):
            yield page.name, spoken.split()


@pytest.mark.parametrize(
    ("page", "words"), sorted({(page, tuple(words)) for page, words in inline_commands()}), ids=name
)
def test_commands_in_sentences_exist(page: str, words: tuple[str, ...]) -> None:
    command = typer.main.get_command(app)
    for word in words:
        if not hasattr(command, "commands"):
            break
        assert word in command.commands, f"{page}: pratique {' '.join(words)}"
        command = command.commands[word]


def rules() -> list[str]:
    """What follows `--allow`, and every span of code that reads like a constrained rule."""
    given = [after for _, words in COMMANDS for word, after in pairwise(words) if word == "--allow"]
    spans = [span for page in PAGES for span in re.findall(r"`([a-z][a-z0-9-]*\.\w+\([^`]+\))`", page.read_text())]
    return given + [span for span in spans if re.search(r" (=|<=|>=|in|startswith) ", span)]


@pytest.mark.parametrize("rule", rules())
def test_rules_are_rules(rule: str) -> None:
    parse_rule(rule)


# ---- the worked example ----------------------------------------------------------------------------------------------


def worked(tool: str, arguments: JSONObject, *, after_find: bool = True) -> Case:
    """A call under README's pack and grant, after `find` returned one ticket."""
    (pack_block,) = (block for block in PACK_BLOCKS if block.page.name == "README.md")
    pack = parse_pack(pack_block.text.encode(), name="tickets", file="README.md")
    granted = tuple(parse_rule(rule) for rule in rules() if rule.startswith("tickets."))
    proofs = ProofIndex()
    found = {"tickets": [{"id": "T-1042", "customer_iban": "DE02120300000000202051"}]}
    mark = snapshot().mark
    if after_find:
        result = {"content": [{"type": "text", "text": json.dumps(found)}], "structuredContent": found}
        mark = mark.join(learn(proofs, result, pack.tool("find"), "tickets", "find", "act_0"))
    grant = Grant(rules=granted, spend={"EUR": 5_000})
    covering = tuple(i for i, rule in enumerate(granted) if satisfies(rule, "tickets", tool, arguments))
    seen = snapshot(grant=grant, pack=pack, proofs=proofs, mark=mark, flow=pack.flow)
    return consider(Case(action=action(server="tickets", name=tool, arguments=arguments), seen=seen, rules=covering))


def test_the_worked_example_closes_a_ticket_that_find_returned() -> None:
    assert worked("close", {"ticket": "T-1042"}).verdict.severity is Severity.PERMIT
    assert worked("close", {"ticket": "T-1042"}, after_find=False).verdict.severity is Severity.REQUIRE_APPROVAL


def test_the_worked_example_asks_before_paying_an_account_from_a_ticket() -> None:
    arguments = {"ticket": "T-1042", "to": "DE02120300000000202051", "amount_cents": 4_200, "currency": "EUR"}

    refund = worked("refund", arguments)

    assert {(ask.code, ask.path) for ask in refund.verdict.asks} == {(Code.UNPROVEN, "/to")}
    assert refund.rules
    assert worked("refund", arguments | {"amount_cents": 6_000}).rules == ()


def test_the_worked_example_lets_the_desk_be_searched_again() -> None:
    assert worked("find", {"query": "order 1042"}).verdict.severity is Severity.PERMIT


# ---- the rest --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", blocks("python"), ids=name)
def test_python_runs(block: Block) -> None:
    exec(compile(block.text, str(block), "exec"), {})


@pytest.mark.parametrize("block", blocks("json"), ids=name)
def test_json_is_json(block: Block) -> None:
    assert json.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        reached = (page.parent / file).resolve() if file else page
        assert reached.exists(), target
        if anchor:
            titles = {re.sub(r"[^\w -]", "", s.title.lower()).replace(" ", "-") for s in sections(reached)}
            assert anchor in titles, target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:gateway|policies|sandbox|audit|llmcore|tests|docs|deploy|bench)/[\w./*-]+)`", page.read_text()
    )
    missing = [name for name in named if "NAME" not in name and not list(REPOSITORY.glob(name.rstrip("/")))]

    assert missing == []
