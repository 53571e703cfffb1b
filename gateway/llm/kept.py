"""What is kept of generations: suspended ones and checkpoints, sealed for their owner, under the id of their action."""

import json
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gateway.stores.codec import decode_label, label_document
from llmcore.errors import SnapshotError
from llmcore.snapshot import Snapshot, decode_snapshot
from llmcore.snapshot_store import Kept, SnapshotStore
from policies.jsonvalue import JSONObject, canonical
from policies.label import Label


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the gateway writes into a request, so that a snapshot says it after a restart."""

    label: Label
    chat: bool
    task: str
    agent: str

    def text(self) -> str:
        document = {
            "label": label_document(self.label),
            "chat": self.chat,
            "task": self.task,
            "agent": self.agent,
        }
        return canonical(document).decode()

    @staticmethod
    def read(text: str) -> "About":
        found: dict[str, Any] = json.loads(text)
        label = decode_label(canonical(found["label"]).decode())
        return About(label=label, chat=found["chat"], task=found["task"], agent=found["agent"])


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptGeneration:
    """One that can be gone on with."""

    about: About
    snapshot: Snapshot
    body: bytes
    """As the engine takes it back."""

    @property
    def said(self) -> int:
        """Output tokens so far, of all samples."""
        return self.snapshot.output_tokens

    @property
    def remaining(self) -> int:
        """The most that it can still say: what its owner pays again, whatever was paid before."""
        request = self.snapshot.request
        left = [request.max_tokens - len(one.output) for one in self.snapshot.sequences if one.finish is None]
        if request.beam_width > 1:  # what has ended of a beam search takes nothing from the beams that go on
            left = [max(left, default=0)] * request.beam_width
        return max(1, sum(left))


@dataclass(frozen=True, slots=True, kw_only=True)
class Generations:
    """The folder of them. Every call touches the disk: not for the event loop's thread."""

    store: SnapshotStore

    def save(self, owner: str, id: str, body: bytes) -> None:
        """
        Raises:
            SnapshotError: there is no room for it.
        """
        self.store.save(owner, id, body)

    def load(self, owner: str, id: str) -> KeptGeneration:
        """
        Raises:
            SnapshotError: there is none of this owner's, or it is not what was written.
        """
        return _read(self.store.load(owner, id))

    def has(self, owner: str, id: str) -> bool:
        """Whether it is there to be gone on with."""
        try:
            self.load(owner, id)
        except SnapshotError:
            return False
        return True

    def forget(self, owner: str, id: str) -> bool:
        return self.store.delete(owner, id)

    def owner_of(self, id: str) -> str | None:
        """For operators: whose it is; None: nothing is kept of it."""
        return next((owner for owner, kept in self.store.everyones() if kept.id == id), None)

    def listed(self, owner: str, running: Collection[str]) -> list[JSONObject]:
        """What is kept of one owner's generations, oldest first."""
        return self._documents(((owner, kept) for kept in reversed(self.store.list(owner))), running)

    def everyone(self, running: Collection[str]) -> list[JSONObject]:
        """For operators: what is kept of every generation, oldest first."""
        kept = sorted(self.store.everyones(), key=lambda one: (one[1].saved, one[1].id))
        return self._documents(kept, running)

    def _documents(self, kept: Iterable[tuple[str, Kept]], running: Collection[str]) -> list[JSONObject]:
        documents = []
        for owner, one in kept:
            with suppress(SnapshotError):  # it has ended meanwhile, or is not what was written
                documents.append(self._document(owner, one, running))
        return documents

    def _document(self, owner: str, kept: Kept, running: Collection[str]) -> JSONObject:
        found = self.load(owner, kept.id)
        return {
            "id": kept.id,
            "kind": "chat" if found.about.chat else "text",
            "task": found.about.task,
            "agent": found.about.agent,
            "state": "running" if kept.id in running else "suspended",
            "tokens": found.said,
            "created": kept.saved,
        }


def _read(body: bytes) -> KeptGeneration:
    snapshot = decode_snapshot(body)
    return KeptGeneration(about=About.read(snapshot.request.label), snapshot=snapshot, body=body)
