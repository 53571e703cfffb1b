"""The four servers by themselves: real state, schemas that hold, and every tool named by its pack."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from gateway.demo import agent
from gateway.demo.servers import bank, calendar, flights, mail
from gateway.demo.servers.serving import open_database, rows, server_of
from policies.packs import load_pack

MODULES = {"bank": bank, "calendar": calendar, "flights": flights, "mail": mail}


@pytest.fixture
def accounts(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_database(tmp_path, "bank", bank.SCHEMA)) as connection:
        yield connection


async def call(connection: sqlite3.Connection, tool: str, arguments: dict[str, Any]) -> Any:
    async with Client(server_of("bank", bank.TOOLS, connection)) as client:
        return await client.call_tool(tool, arguments)


async def test_a_payment_moves_money_once(accounts: sqlite3.Connection) -> None:
    payment = {"to": "DE89 3704 0044 0532 0130 00", "amount_cents": 41_250, "currency": "EUR", "memo": "fare"}

    paid = (await call(accounts, "pay", payment)).structured_content

    assert paid["to"] == agent.PAYEE_IBAN
    assert (await call(accounts, "balance", {})).structured_content["balance_cents"] == 150_000 - 41_250
    assert rows(accounts, "SELECT memo FROM payments") == [{"memo": "fare"}]


@pytest.mark.parametrize(
    "change", [{"amount_cents": 150_001}, {"currency": "USD"}, {"amount_cents": 0}, {"memo": 3}, {"urgent": True}]
)
async def test_a_payment_that_cannot_be_made_changes_nothing(
    accounts: sqlite3.Connection, change: dict[str, Any]
) -> None:
    payment = {"to": agent.PAYEE_IBAN, "amount_cents": 1, "currency": "EUR", "memo": ""}

    assert (await call(accounts, "pay", payment | change)).is_error

    assert rows(accounts, "SELECT balance_cents FROM account") == [{"balance_cents": 150_000}]
    assert rows(accounts, "SELECT * FROM payments") == []


@pytest.mark.parametrize("name", sorted(MODULES))
async def test_the_pack_of_a_server_names_each_of_its_tools_and_arguments(name: str, tmp_path: Path) -> None:
    pack = load_pack(name)

    for tool in MODULES[name].TOOLS:
        assert tool.name in pack.tools
        assert set(tool.arguments) <= set(pack.tools[tool.name].arguments)
        assert tool.read_only == (pack.tools[tool.name].effect == "read")


def test_two_processes_may_open_a_new_file_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(4)
    counts: list[int] = []

    def open_it() -> None:
        together.wait()
        with closing(open_database(tmp_path, "flights", flights.SCHEMA)) as connection:
            counts.append(len(rows(connection, "SELECT id FROM flights")))

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert counts == [3, 3, 3, 3]
