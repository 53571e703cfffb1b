"""What one leaf says, checked against its own row: spelling, stored hash, payload, columns."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from audit import leaf as leaves
from audit.merkle import leaf_hash
from audit.sources import Row


@dataclass(slots=True)
class Found:
    """What a row turned out to hold."""

    faults: list[str] = field(default_factory=list)
    kind: str = ""
    """Empty where the payload does not say whose event it was: damaged, or erased."""
    action: str = ""
    is_erased: bool = False


def look(row: Row) -> Found:
    """Check one row by itself."""
    found = Found()
    if not isinstance(row.leaf, bytes):
        found.faults.append("the leaf is not bytes")
        return found
    if row.digest is not None and row.digest != leaf_hash(row.leaf):
        found.faults.append("the stored hash is not the leaf's")
    try:
        fields = leaves.decode(row.leaf)
        if row.has_payload and row.nonce is None and row.payload is None:
            found.is_erased = True
            names = dict.fromkeys(leaves.NAMES, "")
        else:
            names = _opened(row, fields)
            found.kind, found.action = fields["kind"], names["action"]
    except ValueError as error:
        found.faults.append(str(error))
        return found
    found.faults += _column_faults(row, fields, names)
    return found


def _opened(row: Row, fields: dict[str, Any]) -> dict[str, str]:
    """What the payload says of its event.

    Raises:
        ValueError: it is not what the leaf commits to.
    """
    if not row.has_payload:
        raise ValueError("the payload is missing (an erased one leaves an empty row)")
    if not isinstance(row.nonce, bytes) or not isinstance(row.payload, bytes) or len(row.nonce) != leaves.NONCE_BYTES:
        raise ValueError("the payload or its nonce is malformed or half erased")
    if leaves.commitment(row.nonce, row.payload).hex() != fields["commitment"]:
        raise ValueError("the payload is not what the leaf commits to")
    names = leaves.names(row.payload)
    if fields.get("not_sent", False) != leaves.is_not_sent(fields["kind"], names["verdict"]):
        raise ValueError("the leaf and its payload differ on whether anything was sent")
    return names


def _column_faults(row: Row, fields: dict[str, Any], names: dict[str, str]) -> Iterator[str]:
    if row.columns is None:
        return
    recorded = {**names, "id": fields["id"], "kind": fields["kind"], "time": leaves.seconds(fields["time"])}
    for name, value in row.columns.items():
        if value != recorded[name] or type(value) is not type(recorded[name]):
            yield f"the column {name} is {value!r}, recorded was {recorded[name]!r}"
