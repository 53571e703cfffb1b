"""What a program sees: what it was given, where it was told to find it, and nothing of the gateway or its host."""

import asyncio
import contextlib
import json
import os
import sqlite3
import stat
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from conformance.nature import NATURE
from conformance.running import CAT, python, ran, shared, shell

from sandbox.driver import Driver
from sandbox.errors import SandboxError
from sandbox.mounts import ENVIRONMENT
from sandbox.runtime import runtime_mounts
from sandbox.spec import Mount, Spec

pytestmark = pytest.mark.promise("conformance-view")

LOOKING = Path(__file__).with_name("looking.py").read_text()
OWNER = 4711
"""Whom the writable folder belongs to."""
ODD = ("", " ", "a b", "$(id)", "`id`", "'", '"', "*", "-x", "ü\u202e", "new\nline", "\\")
"""Words that a shell on the way would not leave alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One sandbox with mounts of every kind, from within and from without."""

    seen: dict[str, Any]
    spec: Spec
    place: Path


@pytest.fixture(scope="module")
def look(driver: Driver, tmp_path_factory: pytest.TempPathFactory) -> Look:
    place = tmp_path_factory.mktemp("view")
    place.chmod(0o755)
    for name in ("given", "private", "work"):
        (place / name).mkdir()
    (place / "given" / "note").write_text("given")
    (place / "given" / "note").chmod(0o666)
    (place / "work" / "old").write_text("old")
    (place / "private" / "note").write_text("mine")
    (place / "canary").write_text("untouched")
    (place / "canary").chmod(0o666)
    for owned in (place / "work", place / "work" / "old", place / "private", place / "private" / "note"):
        os.chown(owned, OWNER, OWNER)
    (place / "private" / "note").chmod(0o600)
    (place / "private").chmod(0o700)
    mounts = (
        shared(place / "work"),
        Mount(source=str(place / "given"), target="/given"),
        Mount(source=str(place / "private"), target="/private"),
        Mount(source=str(place / "canary"), target="/single"),
    )
    program = python(LOOKING, str(place / "canary"), *ODD, mounts=mounts)
    program = replace(program, env={"GIVEN": "g1ven\n'$x'", "LANG": "C"}, cwd="/desk")
    with pytest.MonkeyPatch.context() as gateway:
        gateway.setenv("GATEWAY_SECRET", "s3cret")
        ended = asyncio.run(ran(driver, program))
    assert (ended.status, ended.err) == (0, ""), ended
    assert "s3cret" not in ended.out
    return Look(seen=json.loads(ended.out), spec=program, place=place)


def test_its_environment_is_what_the_spec_says_and_what_every_sandbox_has(look: Look, driver: Driver) -> None:
    own = NATURE[driver.name].environment
    assert look.seen["environment"] == {**ENVIRONMENT, "GIVEN": "g1ven\n'$x'", "LANG": "C", **own}


def test_its_first_process_says_nothing_of_the_gateway(look: Look) -> None:
    first = {entry.partition("=")[0] for entry in look.seen["first"].split("\0") if "=" in entry}
    assert first <= {*ENVIRONMENT, "PWD", "GIVEN", "TERM", "HOSTNAME", "SHLVL"}
    for said in (look.seen["environments"], look.seen["commands"]):
        assert "s3cret" not in said
        assert "GATEWAY" not in said
        assert str(look.place.parent) not in said.replace(str(look.place / "canary"), "")  # it was told that one
    assert "g1ven" not in look.seen["commands"]


def test_its_arguments_arrive_as_they_are(look: Look) -> None:
    assert look.seen["argv"] == list(ODD)


def test_it_starts_where_the_spec_says(look: Look) -> None:
    assert look.seen["cwd"] == "/desk"


def test_it_is_no_root_and_in_no_roots_group(look: Look) -> None:
    assert look.seen["uid"] == OWNER
    assert 0 not in look.seen["groups"]


def test_it_was_left_no_descriptor(look: Look) -> None:
    assert [name for name in look.seen["descriptors"] if not name.startswith("/proc/")] == []


def test_what_was_mounted_is_read_also_what_its_owner_alone_may_read(look: Look) -> None:
    assert (look.seen["given"], look.seen["private"], look.seen["one"]) == ("given", "mine", "untouched")


def test_nothing_is_written_but_what_was_mounted_for_it_and_tmp(look: Look) -> None:
    written = look.seen["written"]
    assert [path for path, refused in written.items() if not refused] == ["/desk/new", "/tmp/new"]
    for path in ("/given/new", "/given/note", "/single", "/new", "/usr/new", "/etc/passwd"):
        assert written[path] in {"Read-only file system", "Permission denied"}, path
    assert (look.place / "canary").read_text() == "untouched"
    assert os.listdir(look.place / "given") == ["note"]
    assert (look.place / "given" / "note").read_text() == "given"
    assert not os.path.exists("/new")
    assert not os.path.exists("/usr/new")
    assert not os.path.exists("/tmp/new")


def test_what_is_written_is_on_the_host_and_belongs_to_the_folders_owner(look: Look) -> None:
    work = look.place / "work"
    assert look.seen["renamed"] == "old"
    assert sorted(os.listdir(work)) == ["folder", "moved", "new"]
    for path in (work / "new", work / "folder", work / "folder" / "deep", work / "moved"):
        found = os.stat(path)
        assert (found.st_uid, found.st_gid) == (OWNER, OWNER), path
    assert (work / "new").read_text() == "written"
    assert stat.S_IMODE(os.stat(work / "new").st_mode) == 0o644


def test_of_the_host_it_sees_programs_and_no_files(look: Look, driver: Driver) -> None:
    assert not look.seen["host file"]
    system = {"bin", "sbin", "usr", "lib", "lib32", "lib64", "libx32", "etc", "proc", "sys", "dev", "tmp"}
    mounted = {Path(mount.target).parts[1] for mount in look.spec.mounts}
    assert set(look.seen["root"]) <= system | mounted | NATURE[driver.name].root_entries
    runtimes = {Path(mount.target) for mount in look.spec.mounts}
    for home in look.seen["homes"]:  # the way to an interpreter that lives in one, and nothing beside it
        assert any(runtime.is_relative_to(home) for runtime in runtimes), home


async def test_a_program_that_does_not_exist_is_named(driver: Driver) -> None:
    with pytest.raises(SandboxError, match="no-such-program") as refused:
        await driver.start(Spec(argv=("no-such-program",)))
    assert refused.value.part == "program"
    assert refused.value.mend


async def test_a_mount_that_does_not_exist_is_named(driver: Driver, tmp_path: Path) -> None:
    gone = Mount(source=str(tmp_path / "gone"), target="/gone")
    with pytest.raises(SandboxError, match="gone does not exist") as refused:
        await driver.start(replace(CAT, mounts=(gone,)))
    assert refused.value.part == "mount"


async def test_two_sandboxes_never_draw_the_same_random_bytes(driver: Driver) -> None:
    draw = shell("head -c 32 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/uuid")
    drawn = await asyncio.gather(*(ran(driver, draw) for _ in range(3)))
    words = [line for one in drawn for line in one.out.splitlines()]
    assert all(one.status == 0 for one in drawn), drawn
    assert len(words) == len(set(words)) == 9


async def test_a_database_in_a_shared_folder_is_written_and_locked(driver: Driver, folder: Path) -> None:
    source = (
        "import sqlite3\n"
        "one, other = (sqlite3.connect('/desk/x.db', timeout=0) for _ in range(2))\n"
        "one.execute('create table t(a)'); one.execute('insert into t values (42)'); one.commit()\n"
        "one.execute('begin exclusive')\n"
        "try: other.execute('begin exclusive')\n"
        "except sqlite3.OperationalError as locked: print(locked)\n"
        "one.rollback(); print(other.execute('select a from t').fetchone()[0])\n"
    )
    ended = await ran(driver, python(source, mounts=(shared(folder),)))
    assert (ended.status, ended.out, ended.err) == (0, "database is locked\n42\n", "")
    with contextlib.closing(sqlite3.connect(folder / "x.db")) as database:
        assert database.execute("select a from t").fetchall() == [(42,)]


async def test_a_server_of_this_environment_runs_from_a_home_that_nobody_may_enter(driver: Driver) -> None:
    argv = (sys.executable, "-P", "-c", "import msgspec; print(msgspec.json.decode(b'[1]'))")
    ended = await ran(driver, Spec(argv=argv, mounts=runtime_mounts(argv)))
    assert (ended.status, ended.out, ended.err) == (0, "[1]\n", "")


async def test_node_runs_with_limits_on(driver: Driver) -> None:
    argv = ("node", "-e", "console.log([1,2,3].map(x => x * 2).join())")
    ended = await ran(driver, Spec(argv=argv, mounts=runtime_mounts(argv)))
    assert (ended.status, ended.out, ended.err) == (0, "2,4,6\n", "")
