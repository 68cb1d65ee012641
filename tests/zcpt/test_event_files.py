"""Event files: what TensorBoard reads in them, and what happens where they cannot be written."""

from __future__ import annotations

import errno
import logging
import re
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from zcpt.event_files import EventFiles
from zcpt.figures import Picture


def read(folder: Path) -> Any:
    return EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0}).Reload()


def test_tensorboard_reads_curves_pictures_texts_charts_and_settings(tmp_path: Path) -> None:
    files = EventFiles(tmp_path / "board", "Nothing is lost.")
    threads = threading.active_count()
    for step in range(3):
        files.add_scalar("loss", 1 / (step + 1), step)
        files.add_scalar("curve", step, step, "lines/one")
    files.add_picture("picture", Picture(2, 1), 7)
    files.add_text("text", "*words*", 0)
    files.add_charts("page", {"a chart": "curve"})
    files.add_settings(
        {"rate": 0.1, "name": "x", "none": None, "huge": 10**400, "list": [1, 2], "flag": True}, ["loss"]
    )
    assert threading.active_count() == threads
    # Nothing waits in a buffer: all of it can be read before the files are closed.
    board = read(tmp_path / "board")
    files.close()
    assert [event.value for event in board.Scalars("loss")] == [1, 0.5, pytest.approx(1 / 3)]
    assert [event.value for event in read(tmp_path / "board" / "lines" / "one").Scalars("curve")] == [0, 1, 2]
    (image,) = board.Images("picture")
    assert (image.width, image.height, image.step) == (200, 100, 7)
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert board.Tags()["tensors"] == ["text/text_summary", "custom_scalars__config__"]
    assert any("hparams" in tag for tag in board.summary_metadata)


def test_events_from_the_first_step_on_hide_earlier_ones(tmp_path: Path) -> None:
    for first_step, value in ((None, 1.0), (2, 5.0)):
        files = EventFiles(tmp_path, "", first_step)
        for step in range(first_step or 0, 4):
            files.add_scalar("loss", value, step)
        files.close()
    assert [event.value for event in read(tmp_path).Scalars("loss")] == [1, 1, 5, 5]


def fill_disk(files: EventFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zcpt.event_files._append", fail)


def delete_folder(files: EventFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(files.folder)


def delete_file(files: EventFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in files.folder.glob("events*"):
        path.unlink()


def replace_run_by_file(files: EventFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    (files.folder / "lines").write_text("")


def replace_run_by_link(files: EventFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = files.folder.parent / "elsewhere"
    elsewhere.mkdir()
    (files.folder / "lines").symlink_to(elsewhere)


def replace_folder_by_link(files: EventFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = files.folder.parent / "elsewhere"
    files.folder.rename(elsewhere)
    (elsewhere / "before").write_text("")
    files.folder.symlink_to(elsewhere)


@pytest.mark.parametrize(
    ("break_files", "reason"),
    [
        (fill_disk, "No space left"),
        (delete_folder, "deleted"),
        (delete_file, "deleted"),
        (replace_run_by_file, "exists|directory"),
        (replace_run_by_link, "symbolic link"),
        (replace_folder_by_link, "symbolic link"),
    ],
)
def test_files_that_cannot_be_written_give_one_warning_and_the_run_goes_on(
    break_files: Any, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = EventFiles(tmp_path / "board", "The search goes on.")
    files.add_scalar("loss", 1, 0)
    break_files(files, monkeypatch)
    outside = list((tmp_path / "elsewhere").glob("*"))
    with caplog.at_level(logging.WARNING):
        for step in range(5):
            files.add_scalar("curve", step, step, "lines/one")
            files.add_scalar("loss", step, step)
            files.add_picture("picture", Picture(1, 1), step)
        files.close()
    (message,) = [record.getMessage() for record in caplog.records]
    assert "board cannot be written" in message
    assert message.endswith("The search goes on.")
    assert re.search(reason, message)
    assert list((tmp_path / "elsewhere").glob("*")) == outside


def test_only_own_files_in_the_runs_of_the_search_are_removed(tmp_path: Path) -> None:
    for run in ("", "mine", "lines/one"):
        files = EventFiles(tmp_path / run, "")
        files.add_scalar("loss", 1, 0)
        files.close()
        writer = SummaryWriter(tmp_path / run)
        writer.add_scalar("mine", 1, 0)
        writer.close()
    (tmp_path / "lines" / "one" / "notes").write_text("")
    (tmp_path / "lines" / "one" / "events.out.tfevents.2").write_text("")
    (tmp_path / "lines" / "one" / "events.out.tfevents.3").symlink_to(next((tmp_path / "mine").glob("events*")))
    (tmp_path / "lines" / "two").symlink_to(tmp_path / "mine")
    EventFiles(tmp_path, "").remove_earlier(["", "lines/one", "lines/two", "lines/three"])
    counts = {run: len(list((tmp_path / run).glob("events*"))) for run in ("", "mine", "lines/one")}
    assert counts == {"": 1, "mine": 2, "lines/one": 3}
    assert (tmp_path / "lines" / "one" / "notes").exists()
    assert read(tmp_path).Tags()["scalars"] == ["mine"]
