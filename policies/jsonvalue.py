"""JSON as the corridor carries it: a value, not a model, and one canonical spelling of it for digests."""

from hashlib import sha256
from typing import Any, TypeAlias

import msgspec

JSON: TypeAlias = Any
"""None, bool, int, float, str, a list of these or a dict of them by str; whoever reads one checks which."""
JSONObject: TypeAlias = dict[str, JSON]
"""Never changed in place once it has entered an action or a result."""

_encoder = msgspec.json.Encoder(order="deterministic")


def canonical(value: object) -> bytes:
    """`value` with its keys sorted and no white space: equal values give equal bytes."""
    return _encoder.encode(value)


def digest(value: object) -> str:
    """SHA-256 of the canonical bytes, in hex."""
    return sha256(canonical(value)).hexdigest()


def pointer(*steps: str | int) -> str:
    """A JSON pointer (RFC 6901) from its steps."""
    return "".join(["/" + _escaped(str(step)) for step in steps])


def _escaped(step: str) -> str:
    return step.replace("~", "~0").replace("/", "~1") if "~" in step or "/" in step else step
