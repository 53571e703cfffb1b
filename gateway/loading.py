"""What the composition root reads before anything runs: packs, bundles, the ledger; and the record that it did."""

import contextlib
import sqlite3
import time
from collections.abc import Mapping
from typing import Any

from audit.errors import AuditError
from audit.event import Event
from audit.log import AuditLog
from gateway.errors import ConfigError, StoreError
from gateway.ids import new_id
from gateway.options import Options, ServerOptions
from gateway.ports import Done
from gateway.stores.database import Database
from gateway.stores.ledger import Ledger
from gateway.upstreams.launch import Record
from policies.bundle import Bundle
from policies.bundle import load as load_bundle
from policies.engine import PolicyError
from policies.pack import NO_PACK, Pack
from policies.packs import PackError, load_pack


def is_fresh(database: Database) -> bool:
    """Whether no gateway has run on this store: each writes to its log before anything else."""
    with contextlib.closing(database.reader()) as reader:
        return reader.execute("SELECT 1 FROM leaves LIMIT 1").fetchone() is None


async def open_ledger(database: Database, log: AuditLog) -> Ledger:
    ledger = Ledger(connect=database.writer, log=log, free_bytes=database.free_bytes)
    try:
        await ledger.start()
    except AuditError as error:
        raise StoreError(f"{error}: restore a copy, and keep this one as evidence") from error
    return ledger


def read_bundle(options: Options) -> Bundle:
    try:
        return load_bundle(options.bundles, without=options.unsafe_without)
    except PolicyError as error:
        raise ConfigError(str(error)) from error


def read_pack(server: ServerOptions) -> Pack:
    if server.pack is None:
        return NO_PACK
    try:
        return load_pack(server.pack)
    except PackError as error:
        raise ConfigError(f"server '{server.name}': {error}") from error


async def policy_in_force(ledger: Ledger, revision: str, options: Options) -> None:
    """Write which policy decides from now on: commits compare it with what was judged."""
    without = sorted(options.unsafe_without)
    event = Event(
        id=new_id("evt"),
        kind="policy.activated",
        time=time.time(),
        payload={"revision": revision, "without": without},
    )

    def unit(db: sqlite3.Connection) -> Done[None]:
        db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES ('policy', ?)", (revision,))
        return Done(value=None, events=(event,))

    await ledger.run(unit)


async def packs_in_force(ledger: Ledger, packs: Mapping[str, Pack]) -> None:
    record = recorder(ledger)
    for name, pack in packs.items():
        await record("pack.activated", {"pack": pack.name, "digest": pack.digest}, server=name)


def recorder(ledger: Ledger) -> Record:
    async def record(kind: str, payload: dict[str, Any], *, server: str, task: str = "") -> None:
        event = Event(id=new_id("evt"), kind=kind, time=time.time(), payload=payload, server=server, task=task)
        await ledger.run(lambda _db: Done(value=None, events=(event,)))

    return record
