"""Run folders: who gets them, what a failure leaves, and links in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread

import pytest

from zcpt import ConfigError
from zcpt.errors import StorageError
from zcpt.files import read_json, to_json_text, write_atomically
from zcpt.folders import create_folder, lock_folder

FILES = {"table.json": "{}", "config.json": to_json_text({"n": 1})}


def test_a_folder_comes_with_its_files_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with create_folder(tmp_path / "a" / "b", FILES) as folder:
        assert folder.is_new
        with pytest.raises(ConfigError, match="another process is at work"), lock_folder(folder.path):
            pass
    assert read_json(tmp_path / "a" / "b" / "config.json", ["n"]) == {"n": 1}

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(StorageError, match="the disk is full"), create_folder(tmp_path / "c", FILES):
        pass
    assert not (tmp_path / "c").exists()


def test_an_empty_folder_may_be_used_and_stays(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with create_folder(tmp_path / "empty", FILES) as folder:
        assert not folder.is_new
        folder.withdraw()
    assert list((tmp_path / "empty").iterdir()) == []


def leave(path: Path, names: str) -> None:
    path.mkdir()
    for name in names.split():
        (path / name).write_text("mine")


TAKEN = ["notes.txt", "config.json", ".lock config.json", ".lock notes.txt", "table.json", ".lock journal table.json"]


@pytest.mark.parametrize("names", TAKEN)
def test_a_folder_with_anything_in_it_is_refused_and_left_alone(tmp_path: Path, names: str) -> None:
    leave(tmp_path / "a", names)
    with pytest.raises(ConfigError, match="exists already: give another folder"), create_folder(tmp_path / "a", FILES):
        pass
    assert {path.name: path.read_text() for path in (tmp_path / "a").iterdir()} == dict.fromkeys(names.split(), "mine")


@pytest.mark.parametrize("names", [".lock", ".lock table.json", ".lock config.json.partial table.json"])
def test_a_folder_that_a_kill_left_unfinished_may_be_used(tmp_path: Path, names: str) -> None:
    leave(tmp_path / "a", names)
    with create_folder(tmp_path / "a", FILES):
        assert {path.name for path in (tmp_path / "a").iterdir()} == {".lock", *FILES}


def below_a_file(path: Path) -> Path:
    (path / "file").write_text("")
    return path / "file" / "run"


UNUSABLE: list[tuple[Callable[[Path], Path], str]] = [
    (below_a_file, "cannot be made"),
    (lambda path: below_a_file(path).parent, "exists already"),
    (lambda path: path / ("x" * 300), "cannot be made"),
    (lambda path: path / "a\0b", "cannot be made"),
    (lambda path: Path("/proc/1/run"), "cannot be made"),
]


@pytest.mark.parametrize(("make", "complaint"), UNUSABLE)
def test_a_path_that_cannot_be_a_folder_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint), create_folder(make(tmp_path), FILES):
        pass


@pytest.mark.parametrize("exists", [False, True])
def test_of_many_who_want_a_folder_at_once_one_gets_it(tmp_path: Path, exists: bool) -> None:
    """The lock belongs to an open file, so threads exclude each other as processes do."""
    for number in range(20):
        path, start = tmp_path / str(number), Barrier(8)
        winners: list[int] = []
        complaints: list[str] = []
        if exists:
            path.mkdir()

        def claim(
            rank: int,
            path: Path = path,
            start: Barrier = start,
            winners: list[int] = winners,
            complaints: list[str] = complaints,
        ) -> None:
            start.wait()
            try:
                with create_folder(path, {"rank": str(rank), "config.json": str(rank)}):
                    winners.append(rank)
            except ConfigError as error:
                complaints.append(str(error))

        threads = [Thread(target=claim, args=(rank,)) for rank in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = winners
        assert len(complaints) == 7
        assert all("exists already" in text or "another process is at work" in text for text in complaints)
        assert {file.name: file.read_text() for file in path.iterdir() if file.name != ".lock"} == {
            "rank": str(winner),
            "config.json": str(winner),
        }
    assert len(list(tmp_path.iterdir())) == 20


@pytest.mark.parametrize("name", [".lock", "journal", "tensorboard", "train"])
def test_a_folder_with_a_link_to_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(elsewhere / "new" if name == ".lock" else elsewhere)
    with pytest.raises(ConfigError, match=f"{name} is a symbolic link"), lock_folder(tmp_path / "run"):
        pass
    assert list(elsewhere.iterdir()) == []


def test_a_write_replaces_a_link_and_never_follows_it(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for name in ("a.json", "b.json.partial"):
        (tmp_path / name).symlink_to(tmp_path / "mine")
    for name in ("a.json", "b.json"):
        write_atomically(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new"
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "mine").read_text() == "mine"
    assert not os.path.lexists(tmp_path / "b.json.partial")
