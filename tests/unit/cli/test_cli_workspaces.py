"""`pratique diff`, `apply`, `drop`, `files`: what is shown is inert, and what is sent is bound to it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import app as command_line
from gateway.cli import workspace

TASK = "task_1"
BIDI, ESCAPE = "\u202e", "\x1b[31m"


def change(path: str, **more: Any) -> dict[str, Any]:
    entry = {"mode": "0644", "size": 3, "sha256": "s" * 64, "target": ""}
    named = {"path": path, "action": "changed", "kind": "file", "before": entry, "after": entry, "clash": ""}
    return {**named, "diff": ["@@ -1 +1 @@", "-old", "+new"], **more}


def difference(*changes: dict[str, Any], **more: Any) -> dict[str, Any]:
    found = {"server": "files", "source": "/w", "changes": list(changes), "more": 0, "left_out": [], "skipped": []}
    workspace = {**found, "more_left_out": 0, **more}
    return {"task": TASK, "digest": "d1", "changes": len(changes), "workspaces": [workspace]}


def test_the_difference_names_everything_and_its_digest(gateway: Any, pratique: Callable[..., Any]) -> None:
    link = change("/w/l", kind="link", action="added", before={}, after={"mode": "0777", "target": "a"}, diff=None)
    binary = change("/w/b", diff=None, clash="the original changed since it was copied")
    left = [{"path": "/w/p", "why": "it is a named pipe"}]
    found = difference(change("/w/a"), link, binary, left_out=left, more=7)
    gateway.answer("GET", f"/workspaces/{TASK}", found)
    code, out, _ = pratique("diff", TASK, "--state", str(gateway.state))
    assert code == 1
    for said in ("changed file /w/a", "-old", "+new", "added link /w/l", "+a", "3 bytes", "named pipe", "7 more", "d1"):
        assert said in out
    assert "! the original changed" in out


def test_nothing_hostile_reaches_the_terminal(gateway: Any, pratique: Callable[..., Any]) -> None:
    name = f"/w/{ESCAPE}x{BIDI}"
    found = difference(
        change(name, diff=[f"+{ESCAPE}{BIDI}\r[bold]"], clash=ESCAPE), left_out=[{"path": name, "why": BIDI}]
    )
    gateway.answer("GET", f"/workspaces/{TASK}", found)
    for more in ([], ["--json"]):
        _, out, _ = pratique("diff", TASK, "--state", str(gateway.state), *more)
        assert not {"\x1b", BIDI, "\r"} & set(out)
    _, out, _ = pratique("diff", TASK, "--state", str(gateway.state))
    assert "[bold]" in out


def test_no_difference_is_exit_0(gateway: Any, pratique: Callable[..., Any]) -> None:
    gateway.answer("GET", f"/workspaces/{TASK}?server=files", difference())
    code, out, _ = pratique("diff", TASK, "--server", "files", "--state", str(gateway.state), "--json")
    assert (code, json.loads(out)["digest"]) == (0, "d1")


def test_applying_names_each_change_in_the_folders_that_were_named(
    gateway: Any, pratique: Callable[..., Any], tmp_path: Path
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "by-link").symlink_to(real)
    inside = [f"{real}/d", f"{real}/d/x", f"{real}/dd"]
    gateway.answer("GET", f"/workspaces/{TASK}", difference(*map(change, inside)))
    gateway.answer("POST", f"/workspaces/{TASK}/apply", {"applied": inside[:2], "left": []})
    named = os.path.join(tmp_path, "by-link", "d")
    code, out, _ = pratique("apply", TASK, named, "--digest", "d1", "--state", str(gateway.state))
    assert (code, out.splitlines()) == (0, [f"applied {inside[0]}", f"applied {inside[1]}"])
    assert gateway.asked[-1][2] == {"digest": "d1", "server": None, "paths": inside[:2]}

    code, _, error = pratique("apply", TASK, "/elsewhere", "--digest", "d1", "--state", str(gateway.state))
    assert (code, "is not in the difference" in error) == (command_line.NO, True)


def test_what_was_left_alone_is_told_and_exit_1(gateway: Any, pratique: Callable[..., Any]) -> None:
    gateway.answer("GET", f"/workspaces/{TASK}", difference(change("/w/a")))
    gateway.answer("POST", f"/workspaces/{TASK}/apply", {"applied": [], "left": [{"path": "/w/a", "why": "it moved"}]})
    code, out, _ = pratique("apply", TASK, "--digest", "d1", "--state", str(gateway.state))
    assert (code, out) == (1, "left /w/a: it moved\n")


@pytest.mark.parametrize("command", ["apply", "drop"])
def test_without_a_digest_and_without_anybody_to_ask_nothing_is_sent(
    gateway: Any, pratique: Callable[..., Any], command: str
) -> None:
    gateway.answer("GET", f"/workspaces/{TASK}", difference(change("/w/a")))
    code, out, error = pratique(command, TASK, "--state", str(gateway.state))
    assert (code, "/w/a" in out, "name the --digest" in error) == (1, True, True)
    assert [method for method, _, _ in gateway.asked] == ["GET"]


def test_what_is_dropped_is_named(gateway: Any, pratique: Callable[..., Any]) -> None:
    gateway.answer("POST", f"/workspaces/{TASK}/drop", {"task": TASK, "dropped": ["/w"]})
    code, out, _ = pratique("drop", TASK, "--digest", "d1", "--server", "files", "--state", str(gateway.state))
    assert (code, out) == (0, "dropped the copy of /w\n")
    assert gateway.asked[-1][2] == {"digest": "d1", "server": "files"}


def test_labels_are_listed_and_cleared(gateway: Any, pratique: Callable[..., Any]) -> None:
    label = {"integrity": "UNTRUSTED", "readers": ["user"], "classes": ["files", "passport"], "sources": []}
    row = {"path": f"/w/a{BIDI}", "server": "files", "task": TASK, "sha256": "s", "label": label, "time": "t"}
    gateway.answer("GET", "/files", {"files": [row]})
    gateway.answer("POST", "/files/clear", {"cleared": ["/w/a"]})
    code, out, _ = pratique("files", "list", "--state", str(gateway.state))
    assert (code, "files, passport" in out, BIDI in out) == (0, True, False)
    assert pratique("files", "clear", "/w/a", "--state", str(gateway.state))[:2] == (0, "cleared /w/a\n")
    assert gateway.asked[-1][2] == {"path": "/w/a"}


def test_a_change_of_permissions_shows_both() -> None:
    found = difference(
        change("/w/a", action="mode", before={"mode": "0600"}, after={"mode": "0644"}, diff=[]),
        change("/w/d", action="added", kind="folder", before={}, after={"mode": "0755"}, diff=None),
    )
    lines = list(workspace.difference_lines(found))
    assert "mode file /w/a (0600 -> 0644)" in lines
    assert "added folder /w/d (0755)" in lines
