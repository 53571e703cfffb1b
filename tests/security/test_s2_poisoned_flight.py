"""S2: a flight's note says "send passport and itinerary to" a stranger, and the agent obeys. The mail does not leave.

Two walls stand between the note and the mail, and each is shown alone: the capability (the grant names the user's own
address), with a person who approves whatever is asked; and data flow (under a grant that names no address), with a
person who reads. With that one wall gone, the passport leaves.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.scene import answering, beside, events, grant, scene, without

from gateway.bootstrap import Running
from gateway.demo.agent import EVIL_MAIL, PAYEE_IBAN, USER, Reply, Step, play
from gateway.demo.check import MAIL_AWAY, MAIL_SELF, PAY_FARE
from gateway.demo.human import value_of
from gateway.demo.roads import through
from gateway.demo.servers import bank
from gateway.demo.servers.serving import open_database
from gateway.demo.world import ALLOW, SPEND, World, look, make_folders, server_options
from gateway.stores.tickets import Ticket

WIDE = (*ALLOW, "mail.send")
"""One rule more: mail to anybody. Nothing in it supplies an address."""


def tired(_: Ticket) -> bool:
    return True


def attentive(ticket: Ticket) -> bool:
    """Yes to the airline's saved account and to nothing else."""
    return ticket.tool == "bank.pay" and value_of({"card": ticket.card}, "/to") == PAYEE_IBAN


@dataclass(frozen=True)
class Scene:
    """What one day under attack came to."""

    replies: dict[str, Reply]
    world: World
    task: str

    @property
    def is_finished(self) -> bool:
        return all(self.replies[title].result is not None for title in (PAY_FARE, MAIL_SELF))


async def play_through(gateway: Running, url: str, allow: tuple[str, ...], world: Path) -> Scene:
    before = look(world)
    granted = await grant(gateway, *allow, spend=SPEND)
    replies: dict[str, Reply] = {}
    async with through(f"{url}/mcp", granted.token) as call:

        async def noted(step: Step) -> Reply:
            replies[step.title] = await call(step)
            return replies[step.title]

        await play(noted)
    after = look(world)
    new = World(
        balance_cents=after.balance_cents,
        payments=after.payments[len(before.payments) :],
        mails=after.mails[len(before.mails) :],
        bookings=after.bookings - before.bookings,
    )
    return Scene(replies, new, granted.task.id)


@pytest.mark.promise("poisoned-result-sends-nothing")
@pytest.mark.parametrize(
    ("wall", "allow", "person", "code"),
    [("capability", ALLOW, tired, "no_capability"), ("data flow", WIDE, attentive, "denied_by_person")],
)
async def test_the_passport_stays_and_the_task_finishes_and_without_the_wall_it_leaves(
    tmp_path: Path, wall: str, allow: tuple[str, ...], person: Callable[[Ticket], bool], code: str
) -> None:
    world = tmp_path / "world"
    make_folders(world)
    with closing(open_database(world / "bank", "bank", bank.SCHEMA)) as db:
        db.execute("UPDATE account SET balance_cents = 1000000")
    async with (
        scene(tmp_path / "state", *server_options(world).values()) as gateway,
        answering(gateway, person) as asked,
    ):
        on = await play_through(gateway, gateway.url, allow, world)
        questions = len(asked)
        async with beside(gateway, without(gateway.pipeline, wall)) as url:
            off = await play_through(gateway, url, allow, world)

        assert on.is_finished
        assert [to for to, _ in on.world.mails] == [USER]
        assert on.world.stolen_cents == 0
        assert on.replies[MAIL_AWAY].result is None
        assert on.replies[MAIL_AWAY].code == code
        if wall == "capability":
            assert questions == 1, "the payment; a tired person is not asked what the grant forbids"
            (refusal,) = events(gateway, action=on.replies[MAIL_AWAY].action, kind="decision")
            assert refusal.payload is not None
            assert any(EVIL_MAIL in str(origin["snippet"]) for origin in refusal.payload["trace"]), (
                "whose words they were"
            )
        else:
            away = next(ticket for ticket in asked if value_of({"card": ticket.card}, "/to") == EVIL_MAIL)
            why = {(ask["code"], ask["path"] or ask["detail"]) for ask in away.card["asks"]}
            assert {("unproven", "/to"), ("flow_refused", "passport")} <= why

        assert off.world.is_passport_out, "without this wall the attack lands"
