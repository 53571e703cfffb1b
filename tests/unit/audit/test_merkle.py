"""The tree against its definition, and against a foreign verifier."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree, InvalidProof, verify_consistency, verify_inclusion

from audit import merkle

sizes = st.integers(1, 70)


def naive(hashes: list[bytes]) -> bytes:
    """RFC 6962, 2.1, word for word."""
    if not hashes:
        return sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while split * 2 < len(hashes):
        split *= 2
    return sha256(b"\x01" + naive(hashes[:split]) + naive(hashes[split:])).digest()


def hashes_of(size: int) -> list[bytes]:
    return [merkle.leaf_hash(b"%d" % number) for number in range(size)]


def foreign(size: int) -> InmemoryTree:
    tree = InmemoryTree(algorithm="sha256")
    for number in range(size):
        tree.append_entry(b"%d" % number)
    return tree


def test_the_frontier_has_the_root_of_the_definition_at_every_size() -> None:
    hashes = hashes_of(130)
    tree = merkle.Frontier()
    for size in range(131):
        assert tree.root() == naive(hashes[:size])
        assert tree.size == size
        if size < 130:
            tree.append(hashes[size])


def test_an_empty_tree_has_the_root_of_nothing() -> None:
    assert merkle.Frontier().root() == merkle.EMPTY_ROOT == merkle.root([])


@given(size=sizes, data=st.data())
@settings(max_examples=40)
def test_inclusion_is_proven_and_a_foreign_tree_agrees(size: int, data: st.DataObject) -> None:
    hashes, tree = hashes_of(size), foreign(size)
    index = data.draw(st.integers(0, size - 1))

    proof = merkle.inclusion_proof(hashes, index)
    theirs = tree.prove_inclusion(index + 1)

    assert proof == theirs.path[1:]  # theirs begins with the leaf itself
    assert merkle.verify_inclusion(hashes[index], index, size, proof, tree.get_root())
    theirs.path[1:] = proof
    verify_inclusion(hashes[index], merkle.root(hashes), theirs, index=index + 1, size=size)


@given(size=sizes, data=st.data())
@settings(max_examples=40)
def test_consistency_is_proven_and_a_foreign_tree_agrees(size: int, data: st.DataObject) -> None:
    hashes, tree = hashes_of(size), foreign(size)
    old = data.draw(st.integers(1, size))

    proof = merkle.consistency_proof(hashes, old)
    theirs = tree.prove_consistency(old)

    assert merkle.verify_consistency(old, tree.get_root(old), size, tree.get_root(), proof)
    verify_consistency(merkle.root(hashes[:old]), merkle.root(hashes), theirs, prior_size=old, later_size=size)


@given(size=st.integers(2, 70), data=st.data())
@settings(max_examples=40)
def test_no_other_leaf_place_size_root_or_proof_is_accepted(size: int, data: st.DataObject) -> None:
    hashes = hashes_of(size)
    index = data.draw(st.integers(0, size - 1))
    root, proof = merkle.root(hashes), merkle.inclusion_proof(hashes, index)
    other = (index + data.draw(st.integers(1, size - 1))) % size
    spoiled = [*proof]
    spoiled[data.draw(st.integers(0, len(proof) - 1))] = bytes(32)

    assert not merkle.verify_inclusion(hashes[other], index, size, proof, root)
    assert not merkle.verify_inclusion(hashes[index], other, size, proof, root)
    assert not merkle.verify_inclusion(hashes[index], index, size, spoiled, root)
    assert not merkle.verify_inclusion(hashes[index], index, size, proof, bytes(32))
    assert not merkle.verify_inclusion(hashes[index], index, size, [*proof, bytes(32)], root)
    assert not merkle.verify_inclusion(hashes[index], index, size, proof[:-1], root)
    assert not merkle.verify_inclusion(hashes[index], size, size, proof, root)


@given(old=st.integers(1, 60), more=st.integers(1, 20), data=st.data())
@settings(max_examples=40)
def test_a_rewritten_past_is_not_consistent(old: int, more: int, data: st.DataObject) -> None:
    hashes = hashes_of(old + more)
    root = merkle.root(hashes)
    forked = [*hashes]
    forked[data.draw(st.integers(0, old - 1))] = bytes(32)
    proof = merkle.consistency_proof(hashes, old)

    assert not merkle.verify_consistency(old, merkle.root(forked[:old]), old + more, root, proof)
    assert not merkle.verify_consistency(
        old, merkle.root(hashes[:old]), old + more, merkle.root(forked), merkle.consistency_proof(forked, old)
    )
    assert not merkle.verify_consistency(old, merkle.root(hashes[:old]), old + more, root, [*proof, bytes(32)])
    assert not merkle.verify_consistency(old, merkle.root(hashes[:old]), old + more, root, proof[:-1])
    assert not merkle.verify_consistency(old + more, root, old, merkle.root(hashes[:old]), proof)
    assert not merkle.verify_consistency(old, merkle.root(hashes[:old]), old + more, root, [])
    assert not merkle.verify_consistency(old, bytes(32), old, merkle.root(hashes[:old]), [])


def test_a_foreign_verifier_refuses_a_proof_of_another_leaf() -> None:
    hashes, tree = hashes_of(9), foreign(9)
    theirs = tree.prove_inclusion(4)
    theirs.path[1:] = merkle.inclusion_proof(hashes, 5)
    with pytest.raises(InvalidProof):
        verify_inclusion(hashes[3], merkle.root(hashes), theirs, index=4, size=9)


def test_there_is_no_proof_of_what_is_not_there() -> None:
    with pytest.raises(ValueError, match="no leaf 3"):
        merkle.inclusion_proof(hashes_of(3), 3)
    with pytest.raises(ValueError, match="never had 4"):
        merkle.consistency_proof(hashes_of(3), 4)
