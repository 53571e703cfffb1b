"""The doctor says what holds here, what does not, and what mends it; its exit code is the short answer."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from gateway.cli import doctor as room
from gateway.cli.doctor import Findings, as_object, as_text, doctor
from sandbox.driver import GUARANTEES, KERNEL, Capabilities
from sandbox.drivers import FINDERS

WHOLE = Capabilities(verified=frozenset(GUARANTEES))
BROKEN = Capabilities(verified=frozenset({"network"}), why_not={"filesystem": "AppArmor. Do this."}, notes=("weaker",))


def findings(found: Capabilities = WHOLE, **changes: object) -> Findings:
    usual: dict[str, object] = {
        "python": "3.11.7",
        "python_ok": True,
        "platform": "Linux",
        "platform_ok": True,
        "drivers": {"bubblewrap": found},
        "state": Path("/state"),
        "approvals_advisory": True,
    }
    return Findings(**{**usual, **changes})  # type: ignore[arg-type]


def test_it_tries_this_machine(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(doctor)
    result = CliRunner().invoke(app, ["--json", "--state", str(tmp_path)])
    said = json.loads(result.stdout)
    assert result.exit_code == (0 if said["ok"] else 1)
    assert [driver["driver"] for driver in said["drivers"]] == list(FINDERS)
    for driver in said["drivers"]:
        assert {*driver["verified"], *driver["why_not"]} >= set(GUARANTEES)
    assert all(driver["usable"] for driver in said["drivers"])
    assert said["approvals"] == {"advisory": True, "state": str(tmp_path), "uid": said["approvals"]["uid"]}


@pytest.mark.parametrize(
    ("found", "ok"),
    [
        (findings(), True),
        (findings(BROKEN), False),
        (findings(python_ok=False), False),
        (findings(platform_ok=False), False),
    ],
)
def test_it_is_well_only_if_everything_holds(found: Findings, ok: bool) -> None:
    assert found.ok is ok
    assert as_object(found)["ok"] is ok


def test_why_not_and_what_is_weaker_are_both_said() -> None:
    said = as_text(findings(BROKEN))
    assert "NO    filesystem: AppArmor. Do this." in said
    assert "ok    network" in said
    assert "note  weaker" in said
    assert "are refused" in said


def test_approvals_that_this_user_could_forge_are_called_advisory() -> None:
    assert "ADVISORY" in as_text(findings())
    assert "cannot forge" in as_text(findings(approvals_advisory=False))


def test_the_state_is_where_the_user_keeps_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/kept")
    assert room.default_state() == Path("/kept/pratique")


def test_a_driver_that_is_not_there_takes_one_line() -> None:
    why_not = dict.fromkeys((*GUARANTEES, KERNEL), "no engine. Start Docker.")
    absent = Capabilities(verified=frozenset(), why_not=why_not)
    said = as_text(findings(drivers={"bubblewrap": WHOLE, "runc": absent}))
    assert said.count("no engine. Start Docker.") == 1
