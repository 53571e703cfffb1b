"""A stranger's tools read our log: Go's own transparency-log packages, and nothing of ours, check what we sign."""

import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from audit.event import Event
from audit.keys import open_key
from audit.log import AuditLog
from audit.merkle import consistency_proof, inclusion_proof, leaf_hash
from audit.schema import metadata

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "go"
ORIGIN = "pratique.test/stranger"
OLDER, NEWER, INDEX = 257, 700, 300

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, built."""
    program = tmp_path_factory.mktemp("stranger") / "stranger"
    settings = {
        "GOCACHE": str(CACHE / "build"),
        "GOMODCACHE": str(CACHE / "mod"),
        "GOFLAGS": "-modcacherw -buildvcs=false",
    }
    subprocess.run(
        ["go", "build", "-o", str(program), "."],
        cwd=HERE / "strangers" / "go_tlog",
        env={**os.environ, **settings},
        check=True,
        timeout=110,
    )
    return program


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("log")
    engine = create_engine(f"sqlite:///{folder / 'log.db'}")
    metadata.create_all(engine)
    engine.dispose()
    connection = sqlite3.connect(folder / "log.db", isolation_level=None)
    signer = open_key(folder / "log.key", ORIGIN)
    log = AuditLog(ORIGIN, signer)
    log.rebuild(connection)
    for first, end in ((0, OLDER), (OLDER, NEWER)):
        connection.execute("BEGIN IMMEDIATE")
        log.append(connection, [Event(id=f"evt_{n}", kind="decision", time=float(n)) for n in range(first, end)])
        log.checkpoint(connection, float(end))
        connection.execute("COMMIT")
        log.committed()
    leaves = [leaf for (leaf,) in connection.execute("SELECT leaf FROM leaves ORDER BY idx")]
    older, newer = (note for (note,) in connection.execute("SELECT note FROM checkpoints ORDER BY size"))
    (tile,) = connection.execute("SELECT hashes FROM tiles WHERE level = 0 AND n = 0").fetchone()
    connection.close()
    hashes = [leaf_hash(leaf) for leaf in leaves]
    return {
        "vkey": log.vkey,
        "older": older,
        "newer": newer,
        "leaf": leaves[INDEX].decode(),
        "index": INDEX,
        "inclusion": [step.hex() for step in inclusion_proof(hashes, INDEX)],
        "consistency": [step.hex() for step in consistency_proof(hashes, OLDER)],
        "tile": tile.hex(),
        "tile_leaves": [leaf.decode() for leaf in leaves[:256]],
    }


def shown_to(stranger: Path, evidence: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(stranger)], input=json.dumps(evidence), capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.promise("log-strangers")
def test_go_accepts_our_checkpoints_proofs_and_tiles(stranger: Path, evidence: dict[str, Any]) -> None:
    ran = shown_to(stranger, evidence)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "leaf 300 is in the tree of 700, which grew from 257\n"


@pytest.mark.promise("log-strangers")
@pytest.mark.parametrize(
    ("member", "old", "new"),
    [
        ("newer", "\n700\n", "\n701\n"),
        ("leaf", "evt_300", "evt_301"),
        ("vkey", ORIGIN, "pratique.test/other"),
    ],
)
def test_go_refuses_what_was_changed(stranger: Path, evidence: dict[str, Any], member: str, old: str, new: str) -> None:
    assert old in evidence[member]
    ran = shown_to(stranger, {**evidence, member: evidence[member].replace(old, new)})
    assert ran.returncode == 1


def test_go_refuses_a_proof_of_another_place(stranger: Path, evidence: dict[str, Any]) -> None:
    assert shown_to(stranger, {**evidence, "index": INDEX + 1}).returncode == 1
    assert shown_to(stranger, {**evidence, "consistency": evidence["inclusion"]}).returncode == 1
    assert shown_to(stranger, {**evidence, "tile_leaves": [*evidence["tile_leaves"][1:], "x"]}).returncode == 1
