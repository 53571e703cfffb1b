"""A sealed snapshot is its owner's, whole and unchanged, or it is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmcore.errors import SnapshotError
from llmcore.seal import SEAL_VERSION, seal, unseal

KEY = b"k" * 32
texts = st.text(max_size=20)
bodies = st.binary(max_size=60)


@given(st.binary(min_size=1, max_size=64), bodies, texts, texts)
def test_what_was_sealed_comes_back(key: bytes, body: bytes, owner: str, name: str) -> None:
    assert unseal(key, seal(key, body, owner, name), owner, name) == body


@pytest.mark.promise("llm.snapshot-sealed")
@given(bodies, texts, texts, st.data())
def test_any_changed_bit_is_refused(body: bytes, owner: str, name: str, data: st.DataObject) -> None:
    sealed = bytearray(seal(KEY, body, owner, name))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8

    with pytest.raises(SnapshotError):
        unseal(KEY, bytes(sealed), owner, name)


@pytest.mark.promise("llm.snapshot-sealed")
@given(bodies, texts, st.data())
def test_any_other_length_is_refused(body: bytes, owner: str, data: st.DataObject) -> None:
    sealed = seal(KEY, body, owner)
    cut = sealed[: data.draw(st.integers(0, len(sealed) - 1))]

    with pytest.raises(SnapshotError):
        unseal(KEY, cut, owner)
    with pytest.raises(SnapshotError):
        unseal(KEY, sealed + data.draw(st.binary(min_size=1, max_size=9)), owner)


@given(st.binary(max_size=200))
def test_what_was_never_sealed_is_refused(body: bytes) -> None:
    with pytest.raises(SnapshotError):
        unseal(KEY, body, "")


@pytest.mark.promise("llm.snapshot-sealed")
@given(bodies, texts, texts, texts)
def test_a_snapshot_is_of_one_owner_and_name(body: bytes, owner: str, name: str, other: str) -> None:
    sealed = seal(KEY, body, owner, name)

    for asked_owner, asked_name in (
        (other, name),
        (owner, other),
        (name, owner),
        (owner + name, ""),
        ("", owner + name),
    ):
        if (asked_owner, asked_name) != (owner, name):
            with pytest.raises(SnapshotError):
                unseal(KEY, sealed, asked_owner, asked_name)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda sealed: b"xx" + sealed[2:], "this is no snapshot"),
        (lambda sealed: sealed[:3], "is cut"),
        (lambda sealed: sealed[:9], "is cut"),
        (lambda sealed: sealed[:-1], "is cut or altered: it has"),
        (lambda sealed: sealed[:4] + bytes([SEAL_VERSION + 1]) + sealed[5:], f"version {SEAL_VERSION + 1}, and"),
        (lambda sealed: sealed.replace(b"body", b"BODY"), "was altered, or another gateway's key"),
        (lambda sealed: seal(b"another key", b"body", "ann"), "another gateway's key"),
        (lambda sealed: seal(KEY, b"body", "bob"), "belongs to another owner"),
        (lambda sealed: seal(KEY, b"body", "ann", "act_1"), "under another name"),
    ],
)
def test_the_refusal_says_what_is_wrong(spoil: object, sentence: str) -> None:
    assert callable(spoil)

    with pytest.raises(SnapshotError, match=sentence):
        unseal(KEY, spoil(seal(KEY, b"body", "ann")), "ann")


def test_an_owner_of_a_page_is_an_error() -> None:
    with pytest.raises(ValueError, match="65535 bytes"):
        seal(KEY, b"", "x" * 70_000)
