"""S7, the sandbox's half: a passport number, encoded, written to a file, applied by a person who does not recognise it,
and read by another agent the next day, is still a passport number.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.scene import PACK, STRANGER, Agent, Said, answering, grant, recorded, scene, till
from support.strangers import NODE, package

from gateway.bootstrap import Running
from gateway.options import Access, Mount, ServerOptions
from gateway.stores.files import FileLabels
from gateway.stores.tickets import Ticket

PASSPORT = "C01X00T47"
ENCODED = base64.b64encode(PASSPORT.encode()).decode()
FLOW = """
vault = ["files", "post"]
files = ["post"]
passport = ["files"]
"""
"""The class `passport` is declared for the files, and for nothing else."""


def servers(root: Path) -> Sequence[ServerOptions]:
    """A vault that holds the passport, a real server-filesystem that writes to a copy, a post office."""
    pack = PACK.partition("[flow]")[0] + "[flow]" + FLOW
    box = root / "box"
    box.mkdir(exist_ok=True)
    files = ServerOptions(
        name="files",
        command=(NODE, package("server-filesystem"), str(box)),
        mounts=(Mount(path=box, access=Access.REVIEW),),
        pack="filesystem",
    )
    return till(root / "vault", name="vault", pack=pack), files, till(root / "post", name="post", pack=pack)


async def write_it_down(gateway: Running, root: Path) -> None:
    """The first day: an agent may read the passport, and writes it into a file; a person says yes to both steps."""
    (root / "vault" / "p.json").write_text(f'{{"passport": "{PASSPORT}"}}')
    note = root / "box" / "note.txt"
    rules = ("vault.read", f'files.write_file(path = "{note}")')
    granted = await grant(gateway, *rules, agent="clerk")
    agent = Agent(gateway.url, granted.token)
    assert (await agent.call("vault__read", what="p")).result == {"passport": PASSPORT}
    async with answering(gateway, lambda _: True) as asked:
        assert not (await agent.call("files__write_file", path=str(note), content=f"minutes: {ENCODED}\n")).code
    assert [ticket.tool for ticket in asked] == ["files.write_file"]
    assert not note.exists()
    shown = await gateway.workspaces.shown(granted.task.id)
    assert shown["workspaces"][0]["changes"][0]["diff"] == ["@@ -0,0 +1 @@", f"+minutes: {ENCODED}"]
    await gateway.workspaces.apply(granted.task.id, None, (), digest=shown["digest"], by="test:operator")
    assert ENCODED in note.read_text()


async def send_it(gateway: Running, root: Path) -> tuple[Said, list[Ticket]]:
    """The next day: another agent, which has read nothing yet, reads the file and sends what it says."""
    note = root / "box" / "note.txt"
    rules = ("files.read_text_file", f'post.note(to = "{STRANGER}")')
    agent = Agent(gateway.url, (await grant(gateway, *rules, agent="poster")).token)
    said = await agent.call("files__read_text_file", path=str(note))
    assert not said.code
    async with answering(gateway, lambda _: False) as asked:
        sent = await agent.call("post__note", to=STRANGER, text=base64.b64decode(ENCODED).decode()[::-1])
    return sent, asked


@pytest.mark.promise("file-labels-last")
async def test_a_passport_that_went_through_a_file_is_not_sent_the_next_day(tmp_path: Path) -> None:
    async with scene(tmp_path / "state", *servers(tmp_path)) as gateway:
        await write_it_down(gateway, tmp_path)
    async with scene(tmp_path / "state", *servers(tmp_path)) as gateway:
        sent, asked = await send_it(gateway, tmp_path)

    assert sent.code == "denied_by_person"
    assert recorded(tmp_path / "post") == []
    (ticket,) = asked
    assert any("passport" in ask["detail"] for ask in ticket.card["asks"])


async def test_without_the_labels_of_files_it_is_sent_and_nobody_is_asked(tmp_path: Path) -> None:
    async with scene(tmp_path / "state", *servers(tmp_path)) as gateway:
        await write_it_down(gateway, tmp_path)
    async with scene(tmp_path / "state", *servers(tmp_path)) as gateway:
        gateway.memory.files = FileLabels()
        sent, asked = await send_it(gateway, tmp_path)

    assert (sent.code, asked) == ("", [])
    assert [one["text"] for one in recorded(tmp_path / "post")] == [PASSPORT[::-1]]
