"""A call is labelled at its request's last byte: what was read while its body was on its way, it may carry.

An agent that could fix the label at the first byte would open a request, read a secret, and write it into the rest.
Over real sockets; the last byte is held back until another result has landed.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from support.scene import Agent, beside, events, grant, recorded, request, scene, till

from gateway.ports import Archive
from policies.action import Action
from policies.case import Snapshot

GRANT = ('till.note(to = "me")', "till.read")
PASSPORT = "C01X00T47"


@dataclass(frozen=True)
class FirstByte:
    """An archive that answers with what stood when the request began: the control, off."""

    then: Snapshot

    async def snapshot(self, action: Action) -> Snapshot:
        return self.then


@dataclass(frozen=True)
class Held:
    """An archive that shows what it answered."""

    archive: Archive
    seen: list[Snapshot]

    async def snapshot(self, action: Action) -> Snapshot:
        self.seen.append(await self.archive.snapshot(action))
        return self.seen[-1]


@pytest.mark.promise("label-at-last-byte")
@pytest.mark.parametrize("cut", [1, 40])
async def test_a_request_held_back_carries_what_was_read_meanwhile(tmp_path: Path, cut: int) -> None:
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder), hold_s=0.0) as gateway:
        (folder / "secret.json").write_text(json.dumps({"passport": PASSPORT}))
        token = (await grant(gateway, *GRANT)).token
        slow, quick = Agent(gateway.url, token), Agent(gateway.url, token)
        clean = await quick.call("till__note", to="me", text="nothing was read yet")
        note = request(token, "till__note", {"to": "me", "text": f"the number is {PASSPORT}"})

        await slow.send(note[:-cut])
        assert (await quick.call("till__read", what="secret")).result == {"passport": PASSPORT}
        await slow.send(note[-cut:])
        late = await slow.answer()

        assert not clean.code
        assert late.code == "pending"
        assert [one["text"] for one in recorded(folder)] == ["nothing was read yet"]
        (asked,) = events(gateway, kind="approval.requested")
        assert asked.payload is not None
        assert {ask["detail"] for ask in asked.payload["card"]["asks"]} == {"passport"}


async def test_labelled_at_the_first_byte_it_would_have_left(tmp_path: Path) -> None:
    """The same attack with that one control off: the label is fixed before the passport is read."""
    folder = tmp_path / "till"
    async with scene(tmp_path / "state", till(folder), hold_s=0.0) as gateway:
        (folder / "secret.json").write_text(json.dumps({"passport": PASSPORT}))
        token = (await grant(gateway, *GRANT)).token
        begun = Held(gateway.pipeline.archive, [])
        async with beside(gateway, replace(gateway.pipeline, archive=begun)) as url:
            agent = Agent(url, token)
            await agent.call("till__note", to="me", text="nothing was read yet")
            await agent.call("till__read", what="secret")
        early = replace(gateway.pipeline, archive=FirstByte(begun.seen[0]))
        async with beside(gateway, early) as url:
            agent = Agent(url, token)
            assert not (await agent.call("till__note", to="me", text=f"the number is {PASSPORT}")).code
        assert PASSPORT in recorded(folder)[-1]["text"]
