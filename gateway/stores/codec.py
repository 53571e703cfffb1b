"""How labels stand in a column: canonical JSON, read back to the same value."""

import json
from collections.abc import Mapping
from typing import Any

from policies.jsonvalue import canonical
from policies.label import Integrity, Label, Source

INTEGRITY: Mapping[Integrity, str] = {level: level.name for level in Integrity}
"""An enum looks its own name up in Python, which shows where several labels are written for each call."""


def label_document(label: Label) -> dict[str, Any]:
    """A label as JSON, its sets sorted."""
    return {
        "integrity": INTEGRITY[label.integrity],
        "readers": None if label.readers is None else sorted(label.readers),
        "classes": sorted(label.classes),
        "sources": [[s.server, s.tool, s.action, s.path] for s in sorted(label.sources)],
    }


def encode_label(label: Label) -> str:
    return canonical(label_document(label)).decode()


def decode_label(text: str) -> Label:
    document = json.loads(text)
    readers = document["readers"]
    return Label(
        integrity=Integrity[document["integrity"]],
        readers=None if readers is None else frozenset(readers),
        classes=frozenset(document["classes"]),
        sources=frozenset(Source(*source) for source in document["sources"]),
    )
