"""Packs: the shipped ones load, and a wrong one says what is wrong, where, and what was probably meant."""

from pathlib import Path

import pytest

from policies.label import Integrity
from policies.pack import Effect, Form, Role
from policies.packs import PackError, bundled, load_pack, parse_pack


def test_every_shipped_pack_loads() -> None:
    assert bundled() == ("bank", "calendar", "everything", "filesystem", "flights", "git", "mail", "memory")
    for name in bundled():
        pack = load_pack(name)
        assert pack.name == name
        assert pack.tools
        assert len(pack.digest) == 64


def test_the_bank_pays_only_what_its_owner_entered() -> None:
    bank = load_pack("bank")
    pay = bank.tool("pay")
    assert pay.effect is Effect.SPEND
    assert pay.amount is not None
    assert (pay.amount.argument, pay.amount.currency) == ("amount_cents", "currency")
    assert (pay.arguments["to"].role, pay.arguments["to"].form) == (Role.DEST, Form.IBAN)
    trusted = {
        field.path for tool in bank.tools.values() for field in tool.result if field.integrity >= Integrity.TRUSTED
    }
    assert trusted == {"/payees/*/name", "/payees/*/iban"}


@pytest.mark.promise("known-slips-not-repeated")
def test_no_shipped_pack_repeats_a_known_slip() -> None:
    """Of the published CaMeL policies: an inverted delete rule, swapped fields, reviews taken for the user's words."""
    for name in bundled():
        for tool_name, tool in load_pack(name).tools.items():
            if any(word in tool_name for word in ("delete", "remove", "reset", "move", "write_file", "edit")):
                assert tool.effect is Effect.DESTRUCTIVE, tool_name
            for field in tool.result:
                words = field.path.rsplit("/", 1)[-1]
                if words in {
                    "notes",
                    "body",
                    "subject",
                    "title",
                    "content",
                    "text",
                    "from",
                    "sender",
                    "conditions",
                    "*",
                }:
                    assert field.integrity is Integrity.UNTRUSTED, (name, field.path)
    flights = {field.path: field for field in load_pack("flights").tool("search").result}
    assert flights["/flights/*/id"].form is Form.ID
    assert flights["/flights/*/price_cents"].form is Form.NUMBER
    assert (
        "passport"
        in next(f for f in load_pack("calendar").tool("get_traveller").result if f.path == "/passport").classes
    )
    assert load_pack("calendar").flow["passport"] == ()


def test_a_file_is_a_pack_too(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[tool.go]\narguments = { "/items/*/path" = { role = "ref", form = "path", optional = true } }\n')
    pack = load_pack(path)
    assert pack.name == "mine"
    assert pack.tool("go").effect is Effect.WRITE
    assert pack.tool("go").arguments["/items/*/path"].optional


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tools.x]", "tools: unknown key; did you mean 'tool'?"),
        ("[tool.x]\neffects = 'read'", "tool.x.effects: unknown key; did you mean 'effect'?"),
        ("[tool.x]\neffect = 'reed'", "tool.x.effect: unknown value 'reed'; did you mean 'read'?"),
        ("[tool.x]\neffect = 3", "tool.x.effect: expected a string"),
        ("[tool.x]\npure = true", "only a read"),
        ("[tool.x]\neffect = 'read'\npure = 1", "tool.x.pure: expected true or false"),
        ("[tool.x]\neffect = 'read'\npure = true\narguments = { url = { role = 'dest' } }", "only a read"),
        ("[tool.x]\neffect = 'read'\npure = true\narguments = { run = { role = 'command' } }", "only a read"),
        ("[tool.x]\neffect = 'spend'", "an amount exactly when"),
        ("[tool.x]\namount = { argument = 'a', currency = 'c' }", "no argument is called 'a'"),
        ("[tool.x]\narguments = { to = { form = 'iban' } }", "tool.x.arguments.to: a role is missing"),
        ("[tool.x]\narguments = { to = { role = 'dst' } }", "did you mean 'dest'?"),
        ("[tool.x]\narguments = { to = 'dest' }", "tool.x.arguments.to: expected a table"),
        ("[tool.x.result]\n'a' = {}", "'a' is no JSON pointer"),
        ("[tool.x.result]\n'/a' = { integrity = 'granted' }", "unknown value 'granted'"),
        ("[tool.x.result]\n'/a' = { integrity = 'endorsed' }", "unknown value 'endorsed'"),
        ("[tool.x.result]\n'/a' = { readers = 'user' }", "expected a list of strings"),
        ("[tool.x.result]\n'/a' = { clas = 'x' }", "did you mean 'class'?"),
        ("[flow]\nsecret = ['mail']", "flow.secret"),
        ("[flow]\na = 'mail'", "flow.a: expected a list of strings"),
        ("[tool", "not TOML"),
    ],
)
def test_a_wrong_pack_names_the_key_the_nearest_one_and_the_file(text: str, said: str) -> None:
    with pytest.raises(PackError) as error:
        parse_pack(text.encode(), name="mine", file="mine.toml")
    assert said in str(error.value)
    assert str(error.value).startswith("mine.toml: ")


def test_an_unknown_name_says_which_was_probably_meant(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="did you mean 'filesystem'"):
        load_pack("filesytem")
    with pytest.raises(PackError, match="cannot be read"):
        load_pack(tmp_path / "none.toml")


def test_the_digest_is_the_contents() -> None:
    one, other = (parse_pack(text, name="p", file="p.toml") for text in (b"[tool.a]", b"[tool.a]\n"))
    assert one.digest != other.digest
    assert one.tools == other.tools
