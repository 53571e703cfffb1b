"""The checks: is this log what its checkpoints vouch for, and which leaf is the first that is not?

    each leaf   index without gaps; canonical; payload against commitment; columns against both; stored hash
    the tree    tiles against leaf hashes, level by level; the root at the size of every checkpoint against its note

One pass, in memory that does not grow with the log (besides intents that still wait for their outcome).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from heapq import merge

from audit.checkpoint import Checkpoint, open_checkpoint
from audit.errors import KeyFileError, NoteError, Unreadable
from audit.keys import Verifier
from audit.merkle import HASH_SIZE, Frontier, leaf_hash
from audit.report import MOST, Problem, Report
from audit.rowcheck import look
from audit.sources import Row, Source
from audit.tiles import WIDTH, Tile, Tiler, span


def check(source: Source, trusted: Sequence[Verifier] = (), outside: bytes | None = None) -> Report:
    """Check everything. Without `trusted` keys the recorded ones are used, which proves little: the report says so.

    `outside` is a checkpoint that was kept elsewhere: the log must contain it.
    """
    return _Check(source=source, trusted=tuple(trusted)).run(outside)


@dataclass(slots=True, kw_only=True)
class _Check:
    """One pass over one log."""

    source: Source
    trusted: tuple[Verifier, ...]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tree: Frontier = field(default_factory=Frontier)
    tiler: Tiler = field(default_factory=Tiler)
    tiles: int = 0
    """Tiles that were where they should be."""
    holding: int = 0
    signed: int = 0
    """The size of the last checkpoint whose root holds."""
    origin: str | None = None
    is_shifted: bool = False
    """A row is missing or out of place: no later hash stands where it was."""
    is_broken: bool = False
    """The tree cannot be what was signed: later roots say nothing new."""
    fork: tuple[int, str] | None = None
    """The first checkpoint that has another root: its size, and what to call it."""
    erased: int = 0
    waiting: dict[str, int] = field(default_factory=dict)
    """Intents without an outcome yet: action to leaf."""

    def run(self, outside: bytes | None) -> Report:
        if not self.trusted:
            self._trust_recorded()
        heads = merge(self._stored(), self._outside(outside), key=lambda head: head[0].size)
        head = next(heads, None)
        try:
            for row in self.source.rows():
                while head is not None and head[0].size <= self.tree.size:
                    self._head(*head)
                    head = next(heads, None)
                self._leaf(row)
            while head is not None:
                self._head(*head)
                head = next(heads, None)
            self._end()
        except Unreadable as error:
            self._fault(f"leaf {self.tree.size}", str(error), self.tree.size)
        if self.fork is not None:
            self._name_fork(*self.fork)
        return Report(
            size=self.tree.size,
            checkpoints=self.holding,
            signed=self.signed,
            erased=self.erased,
            problems=tuple(sorted(self.problems, key=_first)[:MOST]),
            notes=tuple(self.notes),
        )

    # ---- leaves -------------------------------------------------------------------------------------------------

    def _leaf(self, row: Row) -> None:
        index = self.tree.size
        if row.index != index:
            self._misplaced(row.index, index)
        found = look(row)
        for what in found.faults:
            self._fault(f"leaf {index}", what, index)
        digest = leaf_hash(row.leaf) if isinstance(row.leaf, bytes) else bytes(HASH_SIZE)
        self.tree.append(digest)
        self.tiler.add(digest)
        for tile in self.tiler.take():
            self._tile(tile)
        self.erased += found.is_erased
        if found.kind == "effect.intent":
            self.waiting[found.action] = index
        elif found.kind in {"effect.outcome", "unknown.settled"}:
            self.waiting.pop(found.action, None)

    def _misplaced(self, stored: object, index: int) -> None:
        if type(stored) is int and stored > index:
            missing = f"leaf {index} is" if stored == index + 1 else f"leaves {index} to {stored - 1} are"
            self._fault(f"leaf {index}", f"{missing} missing", index)
        else:
            self._fault(f"leaf {index}", f"it is filed under the index {stored!r}", index)
        self.is_shifted = self.is_broken = True

    def _tile(self, tile: Tile) -> None:
        stored = self.source.tile(tile.level, tile.n)
        if stored is None:
            return  # judged at the end, once the last checkpoint is known
        self.tiles += 1
        if stored == tile.hashes or self.is_shifted:
            return
        where, reach = f"tile {tile.level}/{tile.n}", span(tile.level)
        if not isinstance(stored, bytes) or len(stored) != len(tile.hashes):
            self._fault(where, f"it does not hold {WIDTH} hashes", tile.n * WIDTH * reach)
            return
        place = next(at for at in range(len(stored)) if stored[at] != tile.hashes[at]) // HASH_SIZE
        first = (tile.n * WIDTH + place) * reach
        self._fault(where, f"the hash of {_leaves(first, first + reach)} is another one here", first)

    # ---- checkpoints --------------------------------------------------------------------------------------------

    def _trust_recorded(self) -> None:
        try:
            self.trusted = tuple(Verifier.parse(key.decode("utf-8", "replace")) for key in self.source.recorded_keys())
        except (KeyFileError, Unreadable) as error:
            self._fault("checkpoints", f"the recorded key cannot be used: {error}", None)
        known = ", ".join(key.vkey for key in self.trusted) or "none"
        self.notes.append(
            f"no key was given; signatures were checked with the key recorded in the log itself ({known}), which "
            "proves nothing against whoever could write the log: compare it with the one you were given"
        )

    def _stored(self) -> Iterator[tuple[Checkpoint, str]]:
        keys = {key.vkey.encode(): key for key in self.trusted}
        try:
            for signed in self.source.checkpoints():
                where = f"checkpoint {signed.size}"
                if (key := keys.get(signed.key)) is None:
                    self._fault(where, "it was signed with a key that is not trusted here", None)
                elif (head := self._open(signed.note, (key,), where)) is None:
                    continue
                elif head.size != signed.size or head.size == 0:
                    self._fault(where, f"its note is for {head.size} leaves", None)
                else:
                    yield head, where
        except Unreadable as error:
            self._fault("checkpoints", str(error), None)

    def _outside(self, note: bytes | None) -> Iterator[tuple[Checkpoint, str]]:
        where = "the checkpoint given"
        if note is not None and (head := self._open(note, self.trusted, where)) is not None:
            yield head, where

    def _open(self, note: bytes, trusted: tuple[Verifier, ...], where: str) -> Checkpoint | None:
        try:
            return open_checkpoint(note, trusted)
        except NoteError as error:
            self._fault(where, str(error), None)
            return None

    def _head(self, head: Checkpoint, where: str) -> None:
        """A checkpoint, once the tree has its size or there are no more leaves."""
        self.origin = self.origin or head.origin
        if head.origin != self.origin:
            self._fault(where, f"it is of the log {head.origin!r}, not {self.origin!r}", None)
        elif head.size > self.tree.size:
            what = f"truncated: {head.size} leaves were signed, {self.tree.size} are here"
            self._fault(where, what, self.tree.size)
            self.is_broken = True
        elif self.is_broken:
            return
        elif head.root == self.tree.root():
            self.holding += 1
            self.signed = head.size
        else:
            self.fork = (head.size, where)  # named at the end, when every leaf and tile has been looked at
            self.is_broken = True

    def _name_fork(self, size: int, where: str) -> None:
        """Say which leaf is not what was signed: one that some check has named, else one since the last that holds."""
        known = [p.leaf for p in self.problems if p.leaf is not None and self.signed <= p.leaf < size]
        first = min(known, default=self.signed)
        which = f"leaf {first}" if known else f"among {_leaves(first, size)} one"
        self._fault(where, f"its root is another one: {which} is not what was signed", first)

    # ---- the whole ----------------------------------------------------------------------------------------------

    def _end(self) -> None:
        size = self.tree.size
        if self.signed == 0 and size and not self.problems:
            self._fault("checkpoints", "nothing is signed: no checkpoint covers any leaf", 0)
        elif size > self.signed and not self.is_broken:
            self.notes.append(f"{_leaves(self.signed, size)} not signed yet: nothing proves them")
        self._count_tiles()
        if (stray := self.source.stray_payload()) is not None:
            leaf = stray if type(stray) is int and stray >= 0 else None
            self._fault(f"payload {stray!r}", "it belongs to no leaf", leaf)
        if broken := self.source.broken_indices():
            self._fault("database", f"queries do not see what the tables hold: {broken}", None)
        if self.erased:
            self.notes.append(f"{self.erased} payloads were erased; their leaves still hold")
        for action, index in list(self.waiting.items())[:MOST]:
            self.notes.append(f"the intent of {action} (leaf {index}) has no outcome")

    def _count_tiles(self) -> None:
        """Tiles are written with the checkpoint that covers them: no fewer, and none beyond it."""
        stored = self.source.count_tiles()
        if stored is None or self.is_broken:
            return
        expected, level = 0, 1
        while span(level) <= self.signed:
            expected += self.signed // span(level)
            level += 1
        if stored != expected or self.tiles != expected:
            self._fault("tiles", f"the checkpoints cover {expected} full tiles, {stored} are here", None)

    def _fault(self, where: str, what: str, leaf: int | None) -> None:
        self.problems.append(Problem(where, what, leaf))


def _leaves(first: int, end: int) -> str:
    return f"leaf {first}" if end == first + 1 else f"leaves {first} to {end - 1}"


def _first(problem: Problem) -> tuple[bool, int]:
    return (problem.leaf is None, problem.leaf or 0)
