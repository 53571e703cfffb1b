"""The Merkle tree of RFC 6962: hashes, a frontier that grows leaf by leaf, and proofs.

Indices count from zero. A proof is a list of hashes, deepest first, as RFC 6962 section 2.1 orders them, so that any
verifier of transparency logs can check it.
"""

from collections.abc import Sequence
from hashlib import sha256

HASH_SIZE = 32

EMPTY_ROOT = sha256(b"").digest()
"""The root of a tree without leaves."""


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Frontier:
    """The roots of the perfect subtrees that a growing tree consists of: all that the next root needs."""

    __slots__ = ("_roots", "size")

    def __init__(self) -> None:
        self.size = 0
        self._roots: list[bytes] = []
        """Largest subtree first: one for each bit set in `size`."""

    def append(self, digest: bytes, height: int = 0) -> None:
        """Add a leaf's hash, or a perfect subtree's root (of `2**height` leaves; the size is a multiple of that)."""
        roots, count = self._roots, self.size >> height
        while count & 1:
            digest = node_hash(roots.pop(), digest)
            count >>= 1
        roots.append(digest)
        self.size += 1 << height

    def root(self) -> bytes:
        if not self._roots:
            return EMPTY_ROOT
        *rest, digest = self._roots
        for left in reversed(rest):
            digest = node_hash(left, digest)
        return digest


def root(hashes: Sequence[bytes]) -> bytes:
    """The root over leaf hashes."""
    tree = Frontier()
    for digest in hashes:
        tree.append(digest)
    return tree.root()


# ---- proofs -----------------------------------------------------------------------------------------------------


def inclusion_proof(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """That leaf `index` is in the tree over `hashes` (RFC 6962, 2.1.1).

    Raises:
        ValueError: there is no such leaf.
    """
    if not 0 <= index < len(hashes):
        raise ValueError(f"no leaf {index} in a tree of {len(hashes)}")
    if len(hashes) == 1:
        return []
    split = _split(len(hashes))
    left, right = hashes[:split], hashes[split:]
    if index < split:
        return [*inclusion_proof(left, index), root(right)]
    return [*inclusion_proof(right, index - split), root(left)]


def consistency_proof(hashes: Sequence[bytes], old: int) -> list[bytes]:
    """That the tree over `hashes` only added to its own first `old` leaves (RFC 6962, 2.1.2).

    Raises:
        ValueError: `old` is not a size that this tree has had, or is zero.
    """
    if not 0 < old <= len(hashes):
        raise ValueError(f"a tree of {len(hashes)} never had {old} leaves")
    return _subproof(hashes, old, whole=True)


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes) -> bool:
    """Whether the leaf hash is at `index` of the tree of `size` leaves whose root is expected (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    place, last, digest = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            digest = node_hash(step, digest)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            digest = node_hash(digest, step)
        place, last = place >> 1, last >> 1
    return last == 0 and digest == expected


def verify_consistency(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a tree of `new` leaves is one of `old` leaves that grew (RFC 9162, 2.1.4.2)."""
    if not 0 < old <= new:
        return False
    if old == new:
        return not proof and old_root == new_root
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    place, last = old - 1, new - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    before = after = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            before, after = node_hash(step, before), node_hash(step, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, step)
        place, last = place >> 1, last >> 1
    return last == 0 and before == old_root and after == new_root


def _subproof(hashes: Sequence[bytes], old: int, *, whole: bool) -> list[bytes]:
    if old == len(hashes):
        return [] if whole else [root(hashes)]
    split = _split(len(hashes))
    left, right = hashes[:split], hashes[split:]
    if old <= split:
        return [*_subproof(left, old, whole=whole), root(right)]
    return [*_subproof(right, old - split, whole=False), root(left)]


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
