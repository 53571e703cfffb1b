"""A message of the engine's as JSON: objects, lists and scalars, and no tuple among them."""

from typing import Any

import msgspec


def as_json(message: Any) -> Any:
    return msgspec.json.decode(msgspec.json.encode(message))
