"""Settings, bundles, stores, ports and disks that are not as they should be: one sentence, and nothing half done."""

import asyncio
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.mortal import nursery
from support.scene import SERVERS, Agent, grant, recorded, scene, till, until

from gateway.cli.client import operator
from gateway.errors import ConfigError, OperatorError, StoreError
from gateway.options import Mount, ServerOptions

TABLE = '[server.bank]\ncommand = ["true"]\n'


def serve(place: Path, settings: str) -> subprocess.CompletedProcess[str]:
    """`pratique serve` with these settings, which is expected to end by itself."""
    (place / "pratique.toml").write_text(settings)
    return subprocess.run(
        [sys.executable, "-P", "-m", "gateway", "serve", "--state", str(place / "state")],
        cwd=place,
        env={"PATH": "/usr/bin:/bin", "HOME": str(place)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def bad_rego(place: Path) -> str:
    (place / "rules.rego").write_text(
        "package operator\n\nimport rego.v1\n\n"
        'deny contains "no" if {\n\tnet.cidr_contains("10.0.0.0/8", input.agent)\n}\n'
    )
    return '[gateway]\nlisten = "127.0.0.1:0"\n[policy]\nbundles = ["rules.rego"]\n'


def broken_rego(place: Path) -> str:
    (place / "rules.rego").write_text('package operator\n\ndeny contains "no" if {\n')
    return '[gateway]\nlisten = "127.0.0.1:0"\n[policy]\nbundles = ["rules.rego"]\n'


def newer_store(place: Path) -> str:
    (place / "state").mkdir()
    with closing(sqlite3.connect(place / "state" / "pratique.db")) as db:
        db.execute("CREATE TABLE alembic_version (version_num TEXT)")
        db.execute("INSERT INTO alembic_version VALUES ('9999')")
        db.commit()
    return ""


@pytest.mark.promise("bad-settings-named")
@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        (
            lambda _: TABLE + 'sandbx = "strict"\n',
            2,
            "unknown key server.bank.sandbx; did you mean server.bank.sandbox?",
        ),
        (lambda _: TABLE + TABLE, 2, "Cannot declare ('server', 'bank') twice"),
        (bad_rego, 2, "rules.rego:6: "),
        (broken_rego, 2, "rules.rego:"),
        (newer_store, 1, "was written by a newer Pratique (schema 9999"),
    ],
    ids=["unknown key", "a server named twice", "unknown builtin", "no Rego at all", "a newer database"],
)
def test_what_cannot_be_used_is_named_in_one_sentence(
    tmp_path: Path, settings: Callable[[Path], str], code: int, said: str
) -> None:
    ended = serve(tmp_path, settings(tmp_path))
    assert said in ended.stderr
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("pratique: ")
    assert ended.stdout == ""


@pytest.mark.promise("one-owner")
async def test_a_second_gateway_on_one_store_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder)) as gateway:
        with pytest.raises(StoreError, match=f"in use by another gateway .process {os.getpid()}.*--state"):
            async with scene(tmp_path / "state", till(folder)):
                pass
        agent = Agent(gateway.url, (await grant(gateway, 'till.note(to = "me")')).token)
        assert not (await agent.call("till__note", to="me", text="still here")).code


async def test_a_taken_port_is_named_and_the_store_let_go(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as squatter:
        port = squatter.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port {port} is taken: stop what listens there, or set `listen`"):
            async with scene(tmp_path / "state", till(tmp_path / "till"), port=port):
                pass
    async with scene(tmp_path / "state", till(tmp_path / "till"), port=port) as gateway:
        assert gateway.port == port


@pytest.mark.promise("others-live")
async def test_a_server_that_does_not_start_shows_its_last_words_and_the_others_live(tmp_path: Path) -> None:
    script, mounts = str(SERVERS / "hostile.py"), (Mount(path=SERVERS),)
    dies = ServerOptions(name="dies", command=(sys.executable, "-P", "-S", script, "--dies"), mounts=mounts)
    absent = ServerOptions(name="absent", command=("/no/such/program",))
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", dies, absent, till(folder)) as gateway:
        shown = {one["name"]: one for one in gateway.servers.listed()}
        assert "cannot open accounts.db: no such file" in shown["dies"]["error"]
        assert "/no/such/program" in shown["absent"]["error"]
        assert (shown["till"]["state"], shown["till"]["error"]) == ("ready", "")
        agent = Agent(gateway.url, (await grant(gateway, "dies.*", "absent.*", 'till.note(to = "me")')).token)
        assert not (await agent.call("till__note", to="me", text="alive")).code
        assert (await agent.call("dies__plain")).code == "unknown_tool"
        assert (await agent.call("absent__plain")).code == "unknown_tool"
    assert len(recorded(folder)) == 1


# ---- the disk ----------------------------------------------------------------------------------------------------

DISK_MB = 40


@pytest.mark.promise("full-disk-denies")
async def test_a_full_disk_denies_says_so_and_recovers_without_a_restart(tmp_path: Path) -> None:
    """A real file system of 40 MB, in a mount namespace of its own, filled while the gateway runs."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size={DISK_MB}m tmpfs "$0" && exec "$@"'
    inside = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, str(disk))
    async with nursery(*inside) as parent:
        mortal = await parent.start(disk / "state", disk / "till", hold_s=0.0)
        url = await mortal.url
        here = Path(f"/proc/{mortal.pid}/root{disk}")
        office = operator(here / "state")
        body = {"text": "Write.", "allow": ['till.note(to = "me")', "till.tick"]}
        token = (await asyncio.to_thread(office.post, "/tasks", body))["token"]
        agent, slow = Agent(url, token), Agent(url, token)
        assert not (await agent.call("till__note", to="me", text="before")).code

        running = asyncio.create_task(slow.call("till__tick", seconds=1))
        await until(lambda: office.get("/audit", kind="effect.intent", tool="till.tick")["events"])
        fill(here / "filler", leave_mb=8)
        said = await agent.call("till__note", to="me", text="while full")
        assert said.code == "unavailable"
        with pytest.raises(OperatorError, match="disk is almost full"):
            await asyncio.to_thread(office.post, "/tasks", body)
        assert (await running).result == {"ticked": True}, "the outcome of what had begun still fits"

        fill(here / "filler-2", leave_mb=0)
        assert (await agent.call("till__note", to="me", text="while quite full")).code == "unavailable"

        (here / "filler").unlink()
        (here / "filler-2").unlink()
        assert not (await agent.call("till__note", to="me", text="after")).code
        assert [one["text"] for one in recorded(here / "till")] == ["before", "after"]
        await mortal.kill()


def fill(path: Path, *, leave_mb: int) -> None:
    """Take what is free but so much."""
    with path.open("wb", buffering=0) as file:
        while (free := os.statvfs(path).f_bavail * os.statvfs(path).f_frsize) > leave_mb << 20:
            file.write(b"\0" * min(1 << 20, free - (leave_mb << 20)))
