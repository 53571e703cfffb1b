"""`pratique init`: a file that reads, made of what a desktop agent already has."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.init import _quoted
from gateway.options import Access
from gateway.settings import read_settings

Pratique: TypeAlias = Callable[..., tuple[int, str, str]]


def mcp_servers(folder: Path, servers: object) -> str:
    path = folder / "desktop.json"
    path.write_text(json.dumps({"mcpServers": servers}))
    return str(path)


def test_an_empty_file_reads_and_names_no_server(pratique: Pratique, tmp_path: Path) -> None:
    path = tmp_path / "pratique.toml"

    assert pratique("init", "--config", str(path))[:2] == (0, f"wrote {path}\n")

    assert read_settings(path, tmp_path).servers == {}
    assert len(path.read_text().splitlines()) <= 12


def test_a_desktop_agents_servers_become_ours(pratique: Pratique, tmp_path: Path) -> None:
    path = tmp_path / "pratique.toml"
    servers = {
        "My Files!": {
            "command": "npx",
            "args": ["-y", 'a "quoted" \\ path'],
            "env": {"LOG": "info", "API_KEY": "s3cret"},
        },
        "remote": {"url": "https://tools.example/mcp"},
    }

    assert pratique("init", mcp_servers(tmp_path, servers), "--config", str(path))[0] == 0

    read = read_settings(path, tmp_path).servers
    assert list(read) == ["my-files"]
    assert read["my-files"].command == ("npx", "-y", 'a "quoted" \\ path')
    assert read["my-files"].env == {"LOG": "info"}
    assert "s3cret" not in path.read_text()
    assert "not available yet" in path.read_text()


def test_a_known_server_gets_its_pack_and_the_folders_it_is_given_to_read(pratique: Pratique, tmp_path: Path) -> None:
    path, data = tmp_path / "pratique.toml", tmp_path / "data"
    data.mkdir()
    script = tmp_path / "server-filesystem.js"
    script.touch()
    servers = {"files": {"command": "node", "args": [str(script), str(data), "/nowhere/at/all"]}}

    assert pratique("init", mcp_servers(tmp_path, servers), "--config", str(path))[0] == 0

    read = read_settings(path, tmp_path).servers["files"]
    assert read.pack == "filesystem"
    assert [(mount.path, mount.access) for mount in read.mounts] == [(data, Access.READ)]


def test_a_file_that_is_there_stays_as_it_is(pratique: Pratique, tmp_path: Path) -> None:
    path = tmp_path / "pratique.toml"
    path.write_text("mine")

    code, _, err = pratique("init", "--config", str(path))

    assert (code, path.read_text()) == (2, "mine")
    assert "nothing was changed" in err


def test_two_names_that_become_one_are_both_told(pratique: Pratique, tmp_path: Path) -> None:
    servers = mcp_servers(tmp_path, {"a": {"command": "x"}, "A": {"command": "y"}})

    code, _, err = pratique("init", servers, "--config", str(tmp_path / "pratique.toml"))

    assert (code, "'a' and 'A' would both be called 'a'" in err) == (2, True)


def test_names_that_would_collide_are_refused(pratique: Pratique, tmp_path: Path) -> None:
    path = tmp_path / "pratique.toml"
    twice = {"My Bank": {"command": "a"}, "my-bank": {"command": "b"}}

    for servers in (twice, {"1st": {"command": "a"}}, {"bank": {"args": []}}, {"bank": 3}, [], None):
        assert pratique("init", mcp_servers(tmp_path, servers), "--config", str(path))[0] == 2
        assert not path.exists()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_the_quoting(text: str) -> None:
    import tomllib

    assert tomllib.loads(f"x = {_quoted(text)}") == {"x": text}
