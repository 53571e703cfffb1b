"""Workspaces through a real gateway: a server writes to its task's copy, and a person's yes makes it real."""

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.desks import ALLOW, Desk, desk, scribe
from support.operators import Shop
from support.scene import STRANGER, Agent, events, grant, scene, till

from gateway.errors import Unrecordable
from gateway.options import Access, Mount
from policies.label import CLEAN, Integrity
from policies.pack import Form
from sandbox.errors import SandboxError
from sandbox.workspace import Prepared, diff, load, prepare

API = "/api/v1"


@pytest.fixture
async def papers(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as made:
        yield made


def socket(made: Desk) -> httpx.AsyncClient:
    return Shop(made.gateway, made.granted, made.papers).socket()


def browser(made: Desk, **how: Any) -> httpx.AsyncClient:
    return Shop(made.gateway, made.granted, made.papers).browser(**how)


@pytest.mark.promise("rw-needs-a-yes")
async def test_what_a_server_writes_is_real_once_a_person_applies_exactly_what_was_shown(papers: Desk) -> None:
    assert (await papers.does("write", "a.txt", text="one\n2\n")).result == {"said": "done"}
    assert (await papers.does("write", "notes/b.txt", text="b\n")).result == {"said": "done"}
    assert (await papers.does("link", "out", text="/etc/passwd")).result == {"said": "done"}
    assert (await papers.does("read", "a.txt")).result == {"said": "one\n2\n"}
    assert (papers.papers / "a.txt").read_text() == "one\ntwo\n"
    assert os.listdir(papers.papers) == ["a.txt"]

    where = f"{API}/workspaces/{papers.task}"
    async with socket(papers) as operator:
        listed = (await operator.get(f"{API}/workspaces")).json()
        shown = (await operator.get(where)).json()
        stale = await operator.post(f"{where}/apply", json={"digest": "0" * 64})
        applied = await operator.post(f"{where}/apply", json={"digest": shown["digest"]})
        again = await operator.post(f"{where}/apply", json={"digest": shown["digest"]})
        after = (await operator.get(where)).json()

    assert listed == {"workspaces": [{"task": papers.task, "servers": {"scribe": 3}}]}
    (workspace,) = shown["workspaces"]
    said = {change["path"]: (change["action"], change["diff"]) for change in workspace["changes"]}
    root = str(papers.papers)
    assert said == {
        f"{root}/a.txt": ("changed", ["@@ -1,2 +1,2 @@", " one", "-two", "+2"]),
        f"{root}/notes": ("added", None),
        f"{root}/notes/b.txt": ("added", ["@@ -0,0 +1 @@", "+b"]),
    }
    assert [left["path"] for left in workspace["left_out"]] == [f"{root}/out"]
    assert (stale.status_code, applied.status_code, again.status_code) == (409, 200, 409)
    assert applied.json() == {"applied": list(said), "left": []}
    assert (papers.papers / "a.txt").read_text() == "one\n2\n"
    assert sorted(os.listdir(papers.papers)) == ["a.txt", "notes"]
    assert after["changes"] == 0
    (event,) = events(papers.gateway, kind="workspace.applied")
    assert event.payload is not None
    assert (event.payload["by"].startswith("control:uid="), event.payload["digest"]) == (True, shown["digest"])
    assert [change["path"] for change in event.payload["changes"]] == list(said)


async def test_the_scribe_of_another_task_sees_nothing_of_it(papers: Desk) -> None:
    await papers.does("write", "a.txt", text="changed")
    other = Desk(papers.gateway, await grant(papers.gateway, *ALLOW), papers.papers)
    assert (await other.does("read", "a.txt")).result == {"said": "one\ntwo\n"}


@pytest.mark.promise("rw-needs-a-yes")
async def test_looking_needs_an_operator_and_applying_one_who_decides(papers: Desk) -> None:
    await papers.does("write", "a.txt", text="changed")
    where = f"{API}/workspaces/{papers.task}"
    async with socket(papers) as operator:
        digest = (await operator.get(where)).json()["digest"]
        agent = {"authorization": f"Bearer {papers.granted.token}"}
        for method, path in (
            ("GET", where),
            ("POST", f"{where}/apply"),
            ("POST", f"{where}/drop"),
            ("GET", f"{API}/files"),
        ):
            assert (await operator.request(method, path, json={"digest": digest}, headers=agent)).status_code == 403
    async with browser(papers, key=False) as looker:
        assert (await looker.get(where)).status_code == 200
        for deed in ("apply", "drop"):
            assert (await looker.post(f"{where}/{deed}", json={"digest": digest})).status_code == 403
    assert (papers.papers / "a.txt").read_text() == "one\ntwo\n"


async def test_a_copy_outlives_its_server_and_its_gateway(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        granted = made.granted
        await made.does("write", "a.txt", text="changed")
    async with desk(tmp_path, granted) as made:
        assert (await made.does("read", "a.txt")).result == {"said": "changed"}
        assert (await made.gateway.workspaces.shown(made.task))["changes"] == 1


async def test_what_is_dropped_is_gone_and_the_next_call_gets_a_fresh_copy(papers: Desk) -> None:
    await papers.does("write", "a.txt", text="changed")
    async with browser(papers) as operator:
        where = f"{API}/workspaces/{papers.task}"
        digest = (await operator.get(where)).json()["digest"]
        assert (await operator.post(f"{where}/drop", json={"digest": "0" * 64})).status_code == 409
        assert (await operator.post(f"{where}/drop", json={"digest": digest})).status_code == 200
        assert (await operator.get(where)).status_code == 404
        assert (await operator.post(f"{where}/drop", json={})).status_code == 404
    assert (papers.papers / "a.txt").read_text() == "one\ntwo\n"
    assert (await papers.does("read", "a.txt")).result == {"said": "one\ntwo\n"}
    assert [event.server for event in events(papers.gateway, kind="workspace.dropped")] == ["scribe"]


@pytest.mark.promise("original-moved-refuses")
async def test_an_original_that_a_person_changed_meanwhile_is_a_conflict_on_record(papers: Desk) -> None:
    await papers.does("write", "a.txt", text="theirs")
    await papers.does("write", "notes/b.txt", text="theirs")
    (papers.papers / "a.txt").write_text("mine")
    where = f"{API}/workspaces/{papers.task}"
    async with socket(papers) as operator:
        shown = (await operator.get(where)).json()
        refused = await operator.post(f"{where}/apply", json={"digest": shown["digest"]})
        unknown = await operator.post(f"{where}/apply", json={"digest": shown["digest"], "paths": ["/etc/passwd"]})
        path = f"{papers.papers}/notes/b.txt"
        chosen = await operator.post(f"{where}/apply", json={"digest": shown["digest"], "paths": [path]})

    first = shown["workspaces"][0]["changes"][0]
    assert first["clash"] == "the original changed since it was copied"
    assert (refused.status_code, refused.json()["code"], "a.txt" in refused.json()["detail"]) == (409, "conflict", True)
    assert (unknown.status_code, chosen.status_code) == (422, 200)
    assert chosen.json()["applied"] == [f"{papers.papers}/notes", path]
    assert (papers.papers / "a.txt").read_text() == "mine"
    (event,) = events(papers.gateway, kind="workspace.conflict")
    assert event.payload is not None
    assert [left["path"] for left in event.payload["left"]] == [f"{papers.papers}/a.txt"]


@pytest.mark.promise("apply-survives-kill")
async def test_an_apply_that_a_crash_interrupted_is_finished_at_the_next_start_under_its_label(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        granted = made.granted
        await made.does("write", "a.txt", text="changed")
    staged = load(tmp_path / "state" / "workspaces" / granted.task.id / "scribe" / "0")
    assert staged is not None
    assert isinstance(prepare(staged, diff(staged).changes, {"by": "ann", "digest": "d"}), Prepared)
    async with desk(tmp_path, granted) as made:
        assert (made.papers / "a.txt").read_text() == "changed"
        assert os.listdir(made.papers) == ["a.txt"]
        (event,) = events(made.gateway, kind="workspace.applied")
        assert event.payload is not None
        assert (event.payload["by"], event.payload["resumed"]) == ("ann", True)
        assert [row.path for row in made.gateway.workspaces.register.labelled()] == [f"{made.papers}/a.txt"]


@pytest.mark.promise("rw-needs-a-yes")
async def test_what_cannot_be_recorded_is_not_applied(papers: Desk) -> None:
    await papers.does("write", "a.txt", text="changed")
    workspaces = papers.gateway.workspaces
    digest = (await workspaces.shown(papers.task))["digest"]
    await papers.gateway.ledger.stop()
    with pytest.raises(Unrecordable):
        await workspaces.apply(papers.task, None, (), digest=digest, by="ann")
    assert (papers.papers / "a.txt").read_text() == "one\ntwo\n"
    assert os.listdir(papers.papers) == ["a.txt"]


async def test_copies_of_ended_tasks_that_hold_nothing_new_go_at_the_next_start(tmp_path: Path) -> None:
    async with desk(tmp_path) as made:
        idle = Desk(made.gateway, await grant(made.gateway, *ALLOW), made.papers)
        await idle.does("read", "a.txt")
        await made.does("write", "a.txt", text="changed")
        for one in (made, idle):
            await made.gateway.control.revoke(one.task, by="ann")
        kept = made.granted
    async with desk(tmp_path, kept) as made:
        assert [one["task"] for one in await made.gateway.workspaces.listed()] == [kept.task.id]
        assert os.listdir(tmp_path / "state" / "workspaces" / idle.task) in ([], ["scribe"])
        assert load(tmp_path / "state" / "workspaces" / idle.task / "scribe" / "0") is None


async def test_one_file_is_a_workspace_too(tmp_path: Path) -> None:
    paper = tmp_path / "paper.txt"
    paper.write_text("one")
    async with scene(tmp_path / "state", scribe(paper)) as gateway:
        made = Desk(gateway, await grant(gateway, *ALLOW), paper)
        assert (await made.does("write", "a.txt", text="two")).result == {"said": "done"}
        assert paper.read_text() == "one"
        shown = await gateway.workspaces.shown(made.task)
        await gateway.workspaces.apply(made.task, "scribe", (), digest=shown["digest"], by="ann")
    assert paper.read_text() == "two"


async def test_a_mount_inside_a_copy_is_refused(tmp_path: Path, papers: Desk) -> None:
    server = scribe(papers.papers)
    inner = Mount(path=papers.papers / "notes", access=Access.READ)
    (papers.papers / "notes").mkdir()
    with pytest.raises(SandboxError, match="it could put a link there"):
        await papers.gateway.workspaces.mounts(replace(server, mounts=(*server.mounts, inner)), papers.task)


# ---- labels --------------------------------------------------------------------------------------------------------


async def test_what_a_server_applied_lowers_what_every_other_says_of_it(tmp_path: Path) -> None:
    papers = tmp_path / "papers"
    papers.mkdir()
    (papers / "passport.json").write_text('{"passport": "X1"}')
    reader = till(tmp_path / "till")
    shared = (*reader.mounts, Mount(path=papers))
    async with scene(tmp_path / "state", scribe(papers), replace(reader, mounts=shared)) as gateway:
        memory = gateway.memory
        assert memory.files.carried("till").label == CLEAN
        made = Desk(gateway, await grant(gateway, *ALLOW), papers)
        assert (await made.does("write", "a.txt", text="x")).result == {"said": "done"}
        assert memory.files.carried("till").label == CLEAN
        shown = await gateway.workspaces.shown(made.task)
        await gateway.workspaces.apply(made.task, None, (), digest=shown["digest"], by="ann")
        carried = memory.files.carried("till")
        assert (carried.label.integrity, carried.label.readers) == (Integrity.UNTRUSTED, {"user"})
        assert (carried.label.classes, carried.is_foreign) == ({"scribe"}, True)
        assert memory.files.carried("scribe").is_foreign is False

        (tmp_path / "till" / "id.json").write_text('{"id": "F1"}')
        other = await grant(gateway, "till.read")
        assert (await Agent(gateway.url, other.token).call("till__read", what="id")).result == {"id": "F1"}
        assert {"scribe"} <= memory.mark(other.task.agent).classes
        assert [one.path for one in gateway.workspaces.register.labelled()] == [f"{papers}/a.txt"]

        assert await gateway.workspaces.register.cleared(str(papers), by="ann") == [f"{papers}/a.txt"]
        assert memory.files.carried("till").label == CLEAN


@pytest.mark.promise("file-labels-last")
async def test_a_direct_mount_remembers_what_its_writers_had_read(tmp_path: Path) -> None:
    papers = tmp_path / "papers"
    papers.mkdir()
    (papers / "a.txt").write_text("x")
    server = scribe(papers, Access.DIRECT)
    async with scene(tmp_path / "state", server) as gateway:
        made = Desk(gateway, await grant(gateway, *ALLOW), papers)
        assert (await made.does("write", "notes/b.txt", text="")).result == {"said": "done"}
        assert gateway.workspaces.register.labelled() == [], "the holder had read nothing when it was called"
        assert (await made.does("read", "a.txt")).result == {"said": "x"}
        assert gateway.workspaces.register.labelled() == [], "reading writes nothing"
        assert (await made.does("write", "notes/b.txt", text="")).result == {"said": "done"}
        (row,) = gateway.workspaces.register.labelled()
        assert (row.path, row.label.classes, row.task) == (str(papers), {"scribe"}, made.task)
    async with scene(tmp_path / "state", server) as gateway:
        carried = gateway.memory.files.carried("scribe")
        assert (carried.label.classes, carried.label.readers, carried.is_foreign) == ({"scribe"}, {"user"}, False)


@pytest.mark.promise("file-labels-last")
async def test_what_a_read_is_given_may_stand_in_a_direct_mount_too(tmp_path: Path) -> None:
    papers = tmp_path / "papers"
    papers.mkdir()
    (papers / "a.txt").write_text("x")
    async with scene(tmp_path / "state", scribe(papers, Access.DIRECT)) as gateway:
        made = Desk(gateway, await grant(gateway, "scribe.read"), papers)
        assert (await made.does("read", "a.txt")).result == {"said": "x"}
        assert gateway.workspaces.register.labelled() == [], "the holder had read nothing when it was called"
        assert (await made.does("read", "a.txt")).result == {"said": "x"}
        (row,) = gateway.workspaces.register.labelled()
        assert (row.path, row.label.classes, row.task) == (str(papers), {"scribe"}, made.task)


@pytest.mark.promise("shared-direct-mounts-prove-nothing")
async def test_what_another_server_may_have_written_directly_proves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "till"
    for others, is_believed in (((), True), ((scribe(folder, Access.DIRECT),), False)):
        async with scene(tmp_path / f"state-{is_believed}", till(folder), *others) as gateway:
            (folder / "account.json").write_text(f'{{"payee": "{STRANGER}"}}')
            granted = await grant(gateway, "till.read")
            said = await Agent(gateway.url, granted.token).call("till__read", what="account")
            assert said.result == {"payee": STRANGER}
            memory = gateway.memory.task(granted.task.id)
            assert memory is not None
            assert (memory.proofs.find(Form.IBAN, STRANGER) is not None) is is_believed
            assert ("scribe" in gateway.memory.mark(granted.task.agent).classes) is not is_believed
