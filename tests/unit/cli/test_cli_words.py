"""How the command line tells a mistake: by the option that was typed and the word that was probably meant."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from pydantic import ValidationError

from gateway.cli.grant import AGENT, LONGEST_DAYS, LONGEST_TEXT, MOST_CALLS, MOST_RULES, seconds
from gateway.edges.rest import GrantBody

Pratique: TypeAlias = Callable[..., tuple[int, str, str]]
GRANT = ("grant", "--task", "t", "--allow", "a.*")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*GRANT, "--spend", "8XXX"), "--spend: no currency is called XXX"),
        ((*GRANT, "--spend", "8"), "--spend: '8' is not an amount"),
        ((*GRANT, "--expires", "soon"), "--expires: 'soon' is not a length of time"),
        ((*GRANT, "--agent", "\u00fc b"), "--agent: '\u00fc b' is not a name: "),
        ((*GRANT, "--allow", "b" * 10_001), "--allow: 'bbb"),
        (("grant", "--allow", "a.*", "--task", "b" * 10_001), "--task: longer than 10000 characters"),
        (("audit", "query", "--since", "soon"), "--since: 'soon' is not a time"),
        (("audit", "query", "--until", "soon"), "--until: 'soon' is not a time"),
        (
            ("audit", "query", "--kind", "effect.inten"),
            "--kind: 'effect.inten' is never written; did you mean 'effect.in",
        ),
        (
            ("audit", "query", "--verdict", "permitted"),
            "--verdict: 'permitted' is never written; did you mean 'permit'?",
        ),
    ],
)
def test_a_mistake_is_told_with_its_option_and_nobody_is_asked(
    pratique: Pratique, gateway: Any, words: tuple[str, ...], said: str
) -> None:
    code, _, err = pratique(*words, "--state", str(gateway.state))

    assert (code, gateway.asked) == (2, [])
    assert f"Invalid value for {said}" in err


def test_the_command_line_takes_exactly_what_the_gateway_takes() -> None:
    at_most: dict[str, Any] = {
        "text": "x" * LONGEST_TEXT,
        "allow": ["x" * LONGEST_TEXT] * MOST_RULES,
        "calls": MOST_CALLS,
        "expires_s": float(seconds(f"{LONGEST_DAYS}d")),
        "agent": "x" * 64,
    }
    over: dict[str, Any] = {
        "text": "x" * (LONGEST_TEXT + 1),
        "allow": ["x"] * (MOST_RULES + 1),
        "calls": MOST_CALLS + 1,
        "expires_s": LONGEST_DAYS * 86400.0 + 1,
        "agent": "x" * 65,
    }

    GrantBody(**at_most)
    for name, value in over.items():
        with pytest.raises(ValidationError, match=name):
            GrantBody(**at_most | {name: value})
    for name in ("a b", "\u00fc", "", "a/b", "A.z_0@-"):
        try:
            GrantBody(**at_most | {"agent": name})
        except ValidationError:
            assert not AGENT.fullmatch(name)
        else:
            assert AGENT.fullmatch(name)


def test_a_token_file_that_is_not_there_is_named_once(pratique: Pratique, tmp_path: Path) -> None:
    code, _, err = pratique("inspect", "./no.token", "--state", str(tmp_path))

    assert (code, err) == (2, "pratique: ./no.token: no such file, and no token\n")

    (tmp_path / "empty").write_text("")
    code, _, err = pratique("inspect", str(tmp_path / "empty"), "--state", str(tmp_path))

    assert (code, err) == (2, f"pratique: {tmp_path}/empty: holds no token\n")


def test_the_version_is_printed(pratique: Pratique) -> None:
    code, out, _ = pratique("--version")

    assert (code, bool(re.fullmatch(r"pratique \d+\.\d+\.\d+\S*\n", out))) == (0, True)


def test_brackets_in_a_help_text_are_shown(pratique: Pratique) -> None:
    assert "`[policy] bundles`" in pratique("policy", "check", "--help")[1]
    assert "7d" in pratique("grant", "--help")[1]


def test_a_bundle_that_is_not_there_is_named_once(pratique: Pratique, tmp_path: Path) -> None:
    from policies.bundle import load
    from policies.engine import PolicyError

    with pytest.raises(PolicyError) as caught:
        load([tmp_path / "nope.rego"])

    assert str(caught.value) == f"{tmp_path}/nope.rego: cannot be read: No such file or directory"


@pytest.mark.parametrize("settings", ["", '[server.a]\ncommand = ["true"]\n', None])
def test_a_start_says_which_settings_it_read(tmp_path: Path, settings: str | None) -> None:
    """A store that is no database ends it right after."""
    if settings is not None:
        (tmp_path / "pratique.toml").write_text(settings)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "pratique.db").write_text("no database " * 100)

    ended = subprocess.run(
        [sys.executable, "-P", "-m", "gateway", "serve", "--state", str(tmp_path / "state")],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert ended.returncode == 1, ended.stderr
    told = ended.stderr.splitlines()
    if settings is None:
        assert told[0] == "pratique: no settings file found; no servers: `pratique init` writes one"
    else:
        counted = "1 server" if settings else "0 servers"
        assert told[0] == f"pratique: {tmp_path}/pratique.toml names {counted}"
    assert any(line.startswith("pratique: starting 1 server;") for line in told) == bool(settings)


def test_the_demo_names_its_option_when_the_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = squatter.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "gateway", "demo", "--port", str(port)],
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    assert ended.returncode == 2
    assert f"cannot listen on port {port}: name another with --port" in ended.stderr
    assert list(tmp_path.iterdir()) == []
