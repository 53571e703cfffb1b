"""Keys and notes: in everybody's format, and refused in any other."""

import base64
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.checkpoint import Checkpoint, open_checkpoint
from audit.errors import KeyFileError, NoteError
from audit.keys import MAX_NOTE_BYTES, Verifier, generate, open_key, open_note

# the example of the Go package golang.org/x/mod/sumdb/note
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_NOTE = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


def test_a_note_that_go_signed_opens_here() -> None:
    text = open_note(GO_NOTE.encode(), (Verifier.parse(GO_VKEY),))
    assert text.endswith("what your problem is.\n")


def test_a_note_opens_under_its_key_and_no_other() -> None:
    signer, stranger = generate("a.example/log"), generate("a.example/log")
    note = signer.sign("one\n\ntwo\n")
    assert open_note(note.encode(), (signer.verifier,)) == "one\n\ntwo\n"
    with pytest.raises(NoteError, match="no key that is trusted"):
        open_note(note.encode(), (stranger.verifier,))


def test_signatures_of_unknown_keys_are_passed_over_and_a_wrong_one_of_a_known_key_is_not() -> None:
    signer, witness = generate("log"), generate("witness")
    note = signer.sign("text\n")
    cosigned = note + witness.sign("text\n").split("\n\n")[1]
    forged = note + witness.sign("other\n").split("\n\n")[1]

    assert open_note(cosigned.encode(), (signer.verifier,)) == "text\n"
    assert open_note(cosigned.encode(), (witness.verifier,)) == "text\n"
    assert open_note(forged.encode(), (signer.verifier,)) == "text\n"
    with pytest.raises(NoteError, match="the signature of witness is wrong"):
        open_note(forged.encode(), (signer.verifier, witness.verifier))


@given(data=st.data())
@settings(max_examples=80)
def test_no_byte_of_a_checkpoint_can_change(data: st.DataObject) -> None:
    signer = generate("log")
    note = bytearray(Checkpoint(origin="log", size=300, root=bytes(32)).sign(signer).encode())
    at = data.draw(st.integers(0, len(note) - 1))
    note[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(NoteError):
        open_checkpoint(bytes(note), (signer.verifier,))


@pytest.mark.parametrize(
    "note",
    [
        b"\xff\n\n",
        b"no signatures\n",
        b"text\n\n",
        b"text\twith tab\n\n\xe2\x80\x94 log AAAA\n",
        "text\n\n— log AAAA".encode(),
        b"text\n\n- log AAAAAAAA\n",
        "text\n\n— log *\n".encode(),
        "text\n\n— log AAAA\n".encode(),
        b"x" * (MAX_NOTE_BYTES + 1),
    ],
)
def test_what_is_not_a_note_is_refused(note: bytes) -> None:
    with pytest.raises(NoteError):
        open_note(note, (generate("log").verifier,))


@pytest.mark.parametrize(
    "text",
    ["log\n1\n", "log\n01\nAAAA\n", "log\n1\nnot base64\n", "log\n1\nAAAA\n", "log\n\n1\nAAAA\n", "log\n²\nAAAA\n"],
)
def test_a_signed_note_that_is_no_checkpoint_is_refused(text: str) -> None:
    signer = generate("log")
    with pytest.raises(NoteError):
        open_checkpoint(signer.sign(text).encode(), (signer.verifier,))


def test_extension_lines_are_signed_and_passed_over() -> None:
    signer = generate("log")
    root = base64.b64encode(bytes(32)).decode()
    note = signer.sign(f"log\n7\n{root}\nextension\n").encode()
    assert open_checkpoint(note, (signer.verifier,)) == Checkpoint(origin="log", size=7, root=bytes(32))


def test_a_verifier_key_survives_its_text() -> None:
    verifier = generate("a.example/log").verifier
    assert Verifier.parse(verifier.vkey) == verifier
    assert Verifier.parse(GO_VKEY).vkey == GO_VKEY


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "name+00000000+AAAA",
        GO_VKEY.replace("c74f20a3", "c74f20a4"),
        GO_VKEY.replace("c74f20a3", "C74F20A3"),
        GO_VKEY.replace("PeterNeumann", "Peter Neumann"),
        GO_VKEY.replace("+ARpc", "+ApRc"),
        GO_VKEY + "=",
    ],
)
def test_what_is_not_a_verifier_key_is_refused(vkey: str) -> None:
    with pytest.raises(KeyFileError):
        Verifier.parse(vkey)


def test_a_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    old = os.umask(0)
    try:
        first = open_key(path, "log")
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert open_key(path, "log").vkey == first.vkey
    assert [file.name for file in tmp_path.iterdir()] == ["log.key"]


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    open_key(path, "log")
    path.chmod(0o640)
    with pytest.raises(KeyFileError, match="can be read by others"):
        open_key(path, "log")


def test_a_key_of_another_name_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.key"
    open_key(path, "log")
    with pytest.raises(KeyFileError, match="the key of 'log'"):
        open_key(path, "other")
    words = path.read_text().split("+", 4)
    path.write_text("+".join([*words[:3], "00000000", words[4]]))
    with pytest.raises(KeyFileError, match="damaged"):
        open_key(path, "log")
    with pytest.raises(KeyFileError, match="No such file"):
        open_key(tmp_path / "nowhere" / "log.key", "log")
    path.write_text("nonsense")
    with pytest.raises(KeyFileError, match="not a signing key"):
        open_key(path, "log")


@pytest.mark.parametrize("name", ["", "two words", "a+b"])
def test_a_key_has_a_name_that_a_note_can_carry(name: str) -> None:
    with pytest.raises(KeyFileError):
        generate(name)


def test_a_signer_does_not_show_its_key() -> None:
    assert "Ed25519" not in repr(generate("log"))
