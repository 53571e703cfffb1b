"""Two that start at once, and one that died halfway."""

import threading
from pathlib import Path

import pytest

from llmcore.runner.loading.once import once


def test_two_who_come_at_once_get_one_folder_that_was_made_once(tmp_path: Path) -> None:
    made: list[Path] = []
    found: list[Path] = []
    together = threading.Barrier(2)

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("whole")

    def run() -> None:
        together.wait()
        found.append(once(tmp_path / "cache" / "model", make))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1
    assert found == [tmp_path / "cache" / "model"] * 2
    assert (found[0] / "file").read_text() == "whole"


def test_what_fails_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    folder = tmp_path / "model"

    def fail(part: Path) -> None:
        (part / "half").touch()
        assert not folder.exists(), "nobody sees half of it"
        raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        once(folder, fail)

    assert [path.name for path in tmp_path.iterdir()] == ["model.lock"]
    assert once(folder, lambda part: (part / "file").touch()) == folder
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_what_one_who_was_killed_left_is_swept(tmp_path: Path) -> None:
    (tmp_path / "model.part-dead").mkdir()
    (tmp_path / "model.part-dead" / "half").touch()

    once(tmp_path / "model", lambda part: None)

    assert not (tmp_path / "model.part-dead").exists()
