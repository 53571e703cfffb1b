"""Prefixed UUIDv7 (RFC 9562, 5.7): sortable by time, unguessable in the rest."""

import os
import time


def new_id(prefix: str) -> str:
    """A fresh id such as `act_01938c0c5c6f7a3e9f0d2b1c4e5f6a7b`; prefixes: task agt tok act apr evt ses."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    high, low = random >> 62 & 0xFFF, random & ((1 << 62) - 1)
    return f"{prefix}_{milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low:032x}"
