"""What a thief with the database would try: change one byte of the log, in a copy, and see who notices."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from audit.verify import describe, verify
from gateway.demo.agent import EVIL_IBAN


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The log as it is, and a copy with one byte flipped."""

    is_whole: bool
    says: str
    """The verifier's last line about the untouched copy."""
    copy: Path
    """The copy, left damaged so that it can be looked at."""
    flipped: int
    """The leaf whose payload lost a bit."""
    named: int | None
    """The first bad leaf that the verifier names."""
    complaint: str


def verify_and_tamper(database: Path, copy: Path) -> Verification:
    """Copy the running gateway's log, verify the copy, flip one bit of the refused payment in it, verify it again."""
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as running,
        closing(sqlite3.connect(copy)) as here,
    ):
        running.backup(here)
    whole = verify(copy)
    flipped = _flip(copy)
    damaged = verify(copy)
    return Verification(
        is_whole=whole.ok,
        says=describe(whole)[-1],
        copy=copy,
        flipped=flipped,
        named=damaged.first_bad,
        complaint=damaged.problems[0].sentence if damaged.problems else "",
    )


def _flip(copy: Path) -> int:
    """Flip one bit of the attacker's account number where the log first holds it; the leaf's index."""
    with closing(sqlite3.connect(copy)) as db:
        wanted = EVIL_IBAN.encode()
        query = "SELECT idx, body FROM payloads WHERE instr(body, ?) > 0 ORDER BY idx LIMIT 1"
        index, body = db.execute(query, (wanted,)).fetchone() or (
            0,
            db.execute("SELECT body FROM payloads").fetchone()[0],
        )
        place = max(bytes(body).find(wanted), 0)
        changed = bytes(body[:place]) + bytes([body[place] ^ 1]) + bytes(body[place + 1 :])
        db.execute("UPDATE payloads SET body = ? WHERE idx = ?", (changed, index))
        db.commit()
    return int(index)
