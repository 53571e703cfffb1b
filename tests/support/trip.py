"""The travel agent's day with many faces: worlds of offers and meetings, and an agent that means no harm.

`gateway/demo` plays one day, with a gullible agent and two attackers. Here nobody attacks, and the day varies: whom it
flies with, what it looks up beforehand, how it writes, over which route and in which era it speaks, and when the person
answers.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from gateway.demo.servers import bank, calendar, flights, mail
from gateway.demo.servers.serving import open_database
from support.scene import iban

Tool: TypeAlias = Callable[..., Awaitable[dict[str, Any]]]
"""`await call("bank", "pay", to=...)`: the structured result."""

USER = "alice@home.example"
AIRLINES = {"Meridian Air": "DE89370400440532013000", "Orbis": iban(41), "Condor Nova": iban(42)}
PLACES = ("LIS", "MAD", "CDG", "OSL", "VIE", "DUB", "ATH", "RIX", "PRG", "ZRH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """One day to play."""

    number: int
    title: str
    airline: str = "Meridian Air"
    mode: str = "auto"
    per_server: bool = False
    """Through `/mcp/NAME` rather than `/mcp`."""
    holds: bool = True
    """Whether the call waits for the person, or is answered `pending` and made again."""
    looks_around: bool = False
    """Balance, two searches and the payees before anything is booked."""
    together: bool = False
    """Independent reads at once."""
    price_cents: int = 41_250
    passenger: str = "Alice Martin"
    memo: str = "Booking {reference}"
    body: str = "{flight}, {memo}, paid."
    stumbles: bool = False
    """A first search that the schema refuses."""

    @property
    def day(self) -> str:
        return f"2027-{5 + self.number // 25:02d}-{2 + self.number % 25:02d}"

    @property
    def eve(self) -> str:
        return f"2027-{5 + self.number // 25:02d}-{1 + self.number % 25:02d}"

    @property
    def place(self) -> str:
        return PLACES[self.number % len(PLACES)]

    @property
    def iban(self) -> str:
        return AIRLINES[self.airline]

    @property
    def allow(self) -> tuple[str, ...]:
        """What the user confirmed."""
        return (
            "calendar.list_events",
            "flights.search",
            f'flights.book(passenger = "{self.passenger}")',
            "bank.list_payees",
            "bank.balance",
            f'bank.pay(to = "{self.iban}", amount_cents <= 80000, currency in ["EUR"])',
            f'mail.send(to = "{USER}")',
        )


def trips(count: int) -> list[Trip]:
    """Ten ways to spend the day, again and again with other dates, places and prices."""
    ways: list[dict[str, Any]] = [
        {"title": "as in the demo"},
        {"title": "a legacy client", "mode": "legacy"},
        {"title": "a route per server", "per_server": True},
        {"title": "asked again after `pending`", "holds": False},
        {"title": "everything looked up first", "looks_around": True},
        {"title": "reads at once", "together": True, "airline": "Orbis"},
        {"title": "exactly the budget", "price_cents": 80_000, "airline": "Condor Nova"},
        {"title": "another alphabet", "passenger": "Zoë Müller-Łuk", "memo": "Flug für Zoë, {reference} ✈"},
        {
            "title": "a long receipt",
            "body": "Dear me,\n{flight} on {eve} to {place}: {memo}, EUR {cents} cents.\n" * 40,
        },
        {"title": "a first search that is refused", "stumbles": True, "mode": "legacy", "per_server": True},
    ]
    return [Trip(**{"price_cents": 41_250 + 100 * n, **ways[n % len(ways)], "number": n}) for n in range(count)]


def make_world(parent: Path, days: list[Trip]) -> None:
    """The servers' files, with an offer by each airline for each day, and money for all of them."""
    for module in (bank, calendar, flights, mail):
        name = module.__name__.rpartition(".")[2]
        with closing(open_database(parent / name, name, module.SCHEMA)) as db:
            if module is bank:
                db.execute("UPDATE account SET balance_cents = 100000000")
                db.execute("DELETE FROM payees")
                db.executemany("INSERT INTO payees VALUES (?, ?)", AIRLINES.items())
            if module is calendar:
                db.execute("DELETE FROM events")
                rows = [(f"ev-{t.number}", t.day, "10:00", "Board meeting", t.place, "Be early.") for t in days]
                db.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", rows)
            if module is flights:
                db.execute("DELETE FROM flights")
                offers = [
                    (
                        f"{a[:2].upper()}-{t.number:04d}",
                        a,
                        "BER",
                        t.place,
                        t.eve,
                        "16:05",
                        t.price_cents + dearer,
                        "EUR",
                        "",
                    )
                    for t in days
                    for a, dearer in ((a, 0 if a == t.airline else 1_000) for a in AIRLINES)
                ]
                db.executemany("INSERT INTO flights VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", offers)


async def travel(trip: Trip, call: Tool) -> None:
    """The day, as an agent that means no harm spends it."""
    if trip.looks_around:
        await call("bank", "balance")
        await call("bank", "list_payees")
    if trip.stumbles:
        await call("flights", "search", origin="Berlin", destination=trip.place, date=trip.eve)
    if trip.together:
        diary, saved = await asyncio.gather(call("calendar", "list_events", day=trip.day), call("bank", "list_payees"))
    else:
        diary = await call("calendar", "list_events", day=trip.day)
        saved = await call("bank", "list_payees")
    place = diary["events"][0]["place"]
    if trip.looks_around:
        await call("flights", "search", origin="BER", destination=place, date=trip.day)
    found = await call("flights", "search", origin="BER", destination=place, date=trip.eve)
    payees = {payee["name"]: payee["iban"] for payee in saved["payees"]}
    offer = min(found["flights"], key=lambda one: int(one["price_cents"]))
    booking = await call("flights", "book", flight_id=offer["id"], passenger=trip.passenger)
    memo = trip.memo.format(reference=booking["reference"])
    cents = booking["amount_cents"]
    await call("bank", "pay", to=payees[booking["payee"]], amount_cents=cents, currency=booking["currency"], memo=memo)
    receipt = trip.body.format(flight=offer["id"], eve=trip.eve, place=place, memo=memo, cents=cents)
    await call("mail", "send", to=USER, subject=f"Your flight to {place}", body=receipt)
