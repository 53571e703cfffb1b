"""The instance's secrets: made once, and never silently anew."""

from pathlib import Path

import pytest

from gateway.errors import StoreError
from gateway.keyring import AUDIT, EQUALITY, FOLDER, INSTANCE, TOKENS, open_keyring


def test_secrets_are_made_once_for_one_pair_of_eyes(tmp_path: Path) -> None:
    first, again = open_keyring(tmp_path, fresh=True), open_keyring(tmp_path, fresh=False)
    assert (first.instance, first.equality, first.signer.vkey) == (again.instance, again.equality, again.signer.vkey)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / FOLDER).iterdir()} == {0o600}


@pytest.mark.promise("lost-keys-stop-the-start")
@pytest.mark.parametrize("lost", [INSTANCE, TOKENS, AUDIT, EQUALITY])
def test_a_secret_that_a_used_store_has_lost_stops_the_start_and_is_not_made_anew(tmp_path: Path, lost: str) -> None:
    open_keyring(tmp_path, fresh=True)
    (tmp_path / FOLDER / lost).unlink()
    with pytest.raises(StoreError, match=lost):
        open_keyring(tmp_path, fresh=False)
    assert not (tmp_path / FOLDER / lost).exists()


def test_a_secret_that_others_can_read_or_that_is_cut_stops_the_start(tmp_path: Path) -> None:
    open_keyring(tmp_path, fresh=True)
    equality = tmp_path / FOLDER / EQUALITY
    equality.chmod(0o644)
    with pytest.raises(StoreError, match="readable by nobody else"):
        open_keyring(tmp_path, fresh=False)
    equality.chmod(0o600)
    equality.write_bytes(b"")
    with pytest.raises(StoreError, match="damaged"):
        open_keyring(tmp_path, fresh=False)
