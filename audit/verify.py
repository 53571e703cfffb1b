"""The offline verifier: `python -m audit.verify PATH [--key VKEY]... [--checkpoint FILE]`.

Takes a copied database or an export and needs nothing of the gateway: this package's `check`, the standard library, and
`cryptography` for Ed25519. Exit 0: everything holds. 1: something does not, and it is named. 2: it could not be read.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from audit.check import check
from audit.errors import AuditError, Unreadable
from audit.keys import Verifier
from audit.report import Problem, Report
from audit.sources import open_source

__all__ = ["Problem", "Report", "describe", "main", "verify"]


def verify(path: Path, *, keys: Sequence[str] = (), checkpoint: Path | None = None) -> Report:
    """Check the log at `path` against these verifier keys, and a checkpoint that was kept elsewhere.

    Raises:
        Unreadable: `path` is no log, or the checkpoint's file cannot be read.
        KeyFileError: a key is not one.
    """
    trusted = [Verifier.parse(key.strip()) for key in keys]
    outside = _read(checkpoint) if checkpoint else None
    with open_source(path) as (source, notes):
        report = check(source, trusted, outside)
    return replace(report, notes=(*notes, *report.notes))


def describe(report: Report) -> list[str]:
    """The report in sentences, the verdict last."""
    lines = [f"note: {note}" for note in report.notes]
    lines += [problem.sentence for problem in report.problems]
    count = f"{report.size} leaves, {report.checkpoints} checkpoints hold, {report.signed} leaves are signed"
    if report.ok:
        return [*lines, f"verified: {count}"]
    first = "" if report.first_bad is None else f", first bad leaf {report.first_bad}"
    return [*lines, f"NOT verified{first}: {count}"]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m audit.verify", description="Verify a copied audit log offline.")
    parser.add_argument("path", type=Path, help="a copied database, or an export")
    parser.add_argument("--key", action="append", default=[], help="the verifier key you were given (name+id+base64)")
    parser.add_argument("--checkpoint", type=Path, help="a file with a checkpoint that was kept elsewhere")
    given = parser.parse_args(arguments)
    try:
        report = verify(given.path, keys=given.key, checkpoint=given.checkpoint)
    except AuditError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write("\n".join(describe(report)) + "\n")
    return 0 if report.ok else 1


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
