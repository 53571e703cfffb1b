"""`pratique doctor`: what this machine enforces, found by trying, and what mends the rest."""

import asyncio
import json
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.settings import default_state
from sandbox.driver import GUARANTEES, KERNEL, Capabilities
from sandbox.drivers import tried

OLDEST_PYTHON: Final = (3, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the doctor found."""

    python: str
    python_ok: bool
    platform: str
    platform_ok: bool
    drivers: dict[str, Capabilities]
    state: Path
    approvals_advisory: bool
    """Whether whoever runs as this user could write a person's decision himself."""

    @property
    def usable(self) -> list[str]:
        """Drivers that hold every guarantee here."""
        return [name for name, found in self.drivers.items() if found.verified.issuperset(GUARANTEES)]

    @property
    def ok(self) -> bool:
        return self.python_ok and self.platform_ok and bool(self.usable)


def doctor(
    state: Annotated[Path | None, typer.Option(help="Where the gateway's state lives.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say, by trying, what this machine enforces. Exit 0: a sandbox holds every guarantee; 1: none does."""
    typer.echo("trying every sandbox; a virtual machine takes some seconds to boot ...", err=True)
    findings = examine(state or default_state())
    typer.echo(json.dumps(as_object(findings), indent=2) if as_json else as_text(findings))
    raise typer.Exit(0 if findings.ok else 1)


def examine(state: Path) -> Findings:
    return Findings(
        python=platform.python_version(),
        python_ok=sys.version_info >= OLDEST_PYTHON,
        platform=f"{platform.system()} {platform.release()} {platform.machine()}",
        platform_ok=platform.system() == "Linux",
        drivers={one.name: one.capabilities for one in asyncio.run(tried())},
        state=state,
        approvals_advisory=_is_open(state),
    )


def as_object(findings: Findings) -> dict[str, Any]:
    return {
        "ok": findings.ok,
        "python": {"version": findings.python, "ok": findings.python_ok},
        "platform": {"name": findings.platform, "ok": findings.platform_ok},
        "drivers": [
            {
                "driver": name,
                "usable": name in findings.usable,
                "verified": [each for each in (*GUARANTEES, KERNEL) if each in found.verified],
                "why_not": dict(found.why_not),
                "notes": list(found.notes),
            }
            for name, found in findings.drivers.items()
        ],
        "approvals": {"advisory": findings.approvals_advisory, "state": str(findings.state), "uid": os.geteuid()},
    }


def as_text(findings: Findings) -> str:
    lines = [
        _line(findings.python_ok, f"Python {findings.python}", "3.11 or newer is needed"),
        _line(findings.platform_ok, findings.platform, "sandboxes need Linux"),
    ]
    for name, found in findings.drivers.items():
        lines += ["", f"sandbox {name}: {'usable' if name in findings.usable else 'NOT usable'}"]
        lines += _verdicts(found)
        lines += [f"  note  {note}" for note in found.notes]
    lines += ["", _approvals(findings)]
    if not findings.usable:
        lines += [
            "",
            "No sandbox holds every guarantee here: servers that ask for them (all do, unless told) are refused.",
        ]
    return "\n".join(lines)


def _verdicts(found: Capabilities) -> list[str]:
    """Each guarantee with what happened; one line where everything failed for the same reason."""
    if not found.verified and len(set(found.why_not.values())) == 1:
        return [_line(False, "nothing", next(iter(found.why_not.values())))]
    return [_line(each in found.verified, each, found.why_not.get(each, "")) for each in (*GUARANTEES, KERNEL)]


def _line(holds: bool, what: str, otherwise: str) -> str:
    return f"  {'ok  ' if holds else 'NO  '}  {what}" + ("" if holds else f": {otherwise}")


def _approvals(findings: Findings) -> str:
    if not findings.approvals_advisory:
        return f"approvals: this user cannot read {findings.state}; an agent that runs as this user cannot forge one."
    return (
        f"approvals: ADVISORY for an agent that runs as this user (uid {os.geteuid()}): whoever has this uid can read "
        f"{findings.state}\n  and forge a person's decision. Run the gateway as a user of its own, or the agent in a "
        "sandbox or as another user."
    )


def _is_open(state: Path) -> bool:
    """Whether this uid owns the state or may read it; one that is yet to be made will be this uid's."""
    try:
        return state.stat().st_uid == os.geteuid() or os.access(state, os.R_OK | os.X_OK)
    except PermissionError:
        return False
    except FileNotFoundError:
        return True
