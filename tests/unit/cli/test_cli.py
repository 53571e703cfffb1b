"""The command line against a scripted gateway: what is asked, what is printed, how it ends."""

import json
import logging
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from typer import BadParameter

from gateway.cli.grant import minor_units, seconds
from gateway.cli.logs import OneLine
from policies.capability import Authority, new_private_key
from policies.grant import Grant
from policies.rules import parse_rule

Pratique: TypeAlias = Callable[..., tuple[int, str, str]]
ACCEPT_ONE, ACCEPT_ALL = {"tool": "pay", "seen": "ab12"}, {"tool": None, "seen": ""}
GRANTED = {"task": "task_1", "agent": "agt_1", "token_id": "tok_1", "token": "S3CRET", "expires": None}


def test_without_a_gateway_the_exit_code_is_three_and_the_mend_is_named(pratique: Pratique, tmp_path: Path) -> None:
    code, out, err = pratique("task", "list", "--state", str(tmp_path))

    assert (code, out) == (3, "")
    assert err.startswith(f"pratique: no gateway answers at {tmp_path}/control.sock; start it with `pratique serve`")


def test_a_wrong_option_is_a_usage_error(pratique: Pratique) -> None:
    assert pratique("task", "list", "--stat", "x")[0] == 2
    assert pratique("task", "settle", "act_1", "maybe")[0] == 2
    assert pratique("nonsense")[0] == 2


def test_what_the_gateway_refuses_is_told_in_its_own_words(pratique: Pratique, gateway: Any) -> None:
    gateway.answer("GET", "/tasks/task_9", {"code": "operator_error", "detail": "no task task_9"}, status=404)

    code, _, err = pratique("task", "show", "task_9", "--state", str(gateway.state))

    assert (code, err) == (1, "pratique: no task task_9\n")


def test_an_answer_that_is_not_json_is_a_sentence(pratique: Pratique, gateway: Any) -> None:
    gateway.answer("GET", "/tasks", b"<html>")

    code, _, err = pratique("task", "list", "--state", str(gateway.state))

    assert code == 1
    assert "not JSON" in err


def test_a_grant_is_asked_for_whole_and_its_token_printed_once(pratique: Pratique, gateway: Any) -> None:
    gateway.answer("POST", "/tasks", GRANTED, status=201)
    rule = 'bank.pay(to = "DE89", amount_cents <= 80000)'

    code, out, _ = pratique(
        *("grant", "--task", "rent", "--allow", rule, "--allow", "mail.*", "--agent", "a", "--calls", "5"),
        *("--spend", "800EUR", "--expires", "2h", "--state", str(gateway.state)),
    )

    body = {"text": "rent", "allow": [rule, "mail.*"], "agent": "a", "calls": 5, "spend": {"EUR": 80000}}
    assert gateway.asked == [("POST", "/tasks", body | {"expires_s": 7200})]
    assert code == 0
    assert out == "task task_1 for agt_1, token tok_1\nS3CRET\n"


@pytest.mark.promise("token-file-private")
def test_a_written_token_is_for_its_owner_alone_and_not_printed(
    pratique: Pratique, gateway: Any, tmp_path: Path
) -> None:
    gateway.answer("POST", "/tasks", GRANTED, status=201)
    file = tmp_path / "token"

    for form in ((), ("--json",)):
        file.unlink(missing_ok=True)
        command = ("grant", "--task", "t", "--allow", "a.*", "--write", str(file), "--state", str(gateway.state), *form)
        code, out, err = pratique(*command)

        assert code == 0
        assert file.read_text() == "S3CRET"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert "S3CRET" not in out + err


def test_a_token_never_lands_in_a_file_that_was_there(pratique: Pratique, gateway: Any, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("mine")

    code, _, err = pratique("grant", "--task", "t", "--allow", "a.*", "--write", str(file), "--state", str(tmp_path))

    assert (code, file.read_text(), gateway.asked) == (2, "mine", [])
    assert "File exists" in err


def test_a_refused_grant_leaves_no_file(pratique: Pratique, gateway: Any, tmp_path: Path) -> None:
    gateway.answer("POST", "/tasks", {"code": "operator_error", "detail": "no server named b"}, status=422)
    file = tmp_path / "token"

    code, _, _ = pratique("grant", "--task", "t", "--allow", "b.*", "--write", str(file), "--state", str(tmp_path))

    assert (code, file.exists()) == (1, False)


def test_revoking_takes_an_id_a_token_or_a_file(pratique: Pratique, gateway: Any, tmp_path: Path) -> None:
    gateway.answer("POST", "/tokens/revoke", {"task": "task_1"})
    file = tmp_path / "token"
    file.write_text("S3CRET\n")

    for what in ("task_1", "tok_1", "S3CRET", str(file)):
        code, out, _ = pratique("revoke", what, "--state", str(gateway.state))
        assert code == 0
        assert "S3CRET" not in out

    assert [body["what"] for _, _, body in gateway.asked] == ["task_1", "tok_1", "S3CRET", "S3CRET"]


def test_lists_are_tables_for_people_and_json_for_programs(pratique: Pratique, gateway: Any) -> None:
    task = {"id": "task_1", "agent": "agt_1", "text": "pay", "revoked": False, "created": 1.0}
    gateway.answer("GET", "/tasks", {"tasks": [task]})

    _, table, _ = pratique("task", "list", "--state", str(gateway.state))
    _, text, _ = pratique("task", "list", "--json", "--state", str(gateway.state))

    assert table.split() == [
        "id",
        "agent",
        "text",
        "revoked",
        "created",
        "task_1",
        "agt_1",
        "pay",
        "false",
        "1970-01-01T00:00:01Z",
    ]
    assert json.loads(text) == {"tasks": [task]}


@pytest.mark.promise("terminal-inert")
def test_what_a_server_says_cannot_write_to_the_terminal(pratique: Pratique, gateway: Any) -> None:
    change = {"name": "pay", "pin": "changed", "seen": "ab12", "diff": ["+ \x1b[2J[bold]approved[/bold]\rpaid"]}
    gateway.answer("GET", "/servers/bank/diff", {"server": "bank", "changes": [change]})

    code, out, _ = pratique("server", "diff", "bank", "--state", str(gateway.state))

    assert code == 1
    assert "\x1b" not in out
    assert "\r" not in out
    assert "[bold]approved[/bold]" in out


def test_settling_and_accepting_say_what_was_asked(pratique: Pratique, gateway: Any) -> None:
    gateway.answer("POST", "/tasks/settle", {"action": "act_1"})
    gateway.answer("POST", "/servers/bank/accept", {"server": "bank", "accepted": ["pay"]})
    state = ("--state", str(gateway.state))

    assert pratique("task", "settle", "act_1", "failed", *state)[0] == 0
    assert pratique("server", "accept", "bank", "--tool", "pay", "--seen", "ab12", *state)[0] == 0
    assert pratique("server", "accept", "bank", *state)[0] == 0

    assert [body for _, _, body in gateway.asked] == [{"action": "act_1", "outcome": "failed"}, ACCEPT_ONE, ACCEPT_ALL]


def test_the_console_link_is_fresh_each_time(pratique: Pratique, gateway: Any) -> None:
    gateway.answer("POST", "/console-links", {"url": "http://127.0.0.1:8808/console/enter#x"}, status=201)

    assert pratique("console", "--state", str(gateway.state))[1] == "http://127.0.0.1:8808/console/enter#x\n"
    assert gateway.asked == [("POST", "/console-links", {})]


@pytest.mark.parametrize(
    ("amount", "units"),
    [("800EUR", ("EUR", 80000)), ("19.9USD", ("USD", 1990)), ("500JPY", ("JPY", 500)), ("1.5KWD", ("KWD", 1500))],
)
def test_money_is_read_in_the_currencys_own_minor_unit(amount: str, units: tuple[str, int]) -> None:
    assert minor_units(amount) == units


@pytest.mark.parametrize(
    "amount", ["8XXX", "800EUX", "800", "EUR", "800eur", "-1EUR", "1.999EUR", "1.5JPY", "8e2EUR", "٣EUR"]
)
def test_what_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(BadParameter):
        minor_units(amount)


def test_lengths_of_time_have_a_unit() -> None:
    assert [seconds(text) for text in ("90s", "30m", "2h", "7d")] == [90, 1800, 7200, 604800]
    for text in ("2", "h", "0s", "1w", "1.5h", "3651d"):
        with pytest.raises(BadParameter):
            seconds(text)


def test_a_token_is_inspected_without_a_gateway(pratique: Pratique, tmp_path: Path) -> None:
    key = new_private_key()
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/tokens.key").write_bytes(key)
    (tmp_path / "keys/instance").write_text("gw_1")
    ours = {
        "task": "task_1",
        "agent": "agt_1",
        "holder": "agt_1",
        "principal": "user",
        "token": "tok_1",
    }
    grant = Grant(rules=(parse_rule('bank.pay(to = "DE89")'),), expires=1.0)
    state = ("--state", str(tmp_path))

    code, out, _ = pratique("inspect", Authority(key, "gw_1").mint(grant, **ours), "--json", *state)
    said = json.loads(out)
    assert code == 0
    assert (said["task"], said["agent"], said["token"], said["is_expired"]) == ("task_1", "agt_1", "tok_1", True)
    assert "DE89" in said["blocks"][0]

    foreign = Authority(new_private_key(), "gw_1").mint(grant, **ours)
    assert pratique("inspect", foreign, *state)[0] == 1
    assert pratique("inspect", foreign, "--state", str(tmp_path / "none"))[0] == 2
    assert pratique("inspect", foreign, *state)[2] == "pratique: this is not a token of this gateway\n"


def test_the_log_says_what_varies_on_one_line() -> None:
    record = logging.makeLogRecord(
        {
            "levelname": "WARNING",
            "msg": "a server could not be discovered",
            "server": "bank",
            "why": "no\x1b[2J\nroot# ",
        }
    )

    said = OneLine().format(record)

    assert said == "warning: a server could not be discovered server=bank why=no\ufffd[2J\u21b5root# "
