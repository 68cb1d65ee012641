"""Disks that fail, and run folders that are deleted or changed while a search runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import TensorDataset

import zcpt
from tests.zcpt.search.conftest import run_small_search
from zcpt.errors import StorageError

OPTIONS: dict[str, Any] = {
    "proxy": "hashed", "proposals": 2, "batch_size": 4, "validation_batches": 2, "validation_inits": 1,
    "validation_batch_size": 4, "channels": 2, "layers": 1, "num_classes": 10,
}  # fmt: skip


class Meddles(zcpt.Callback):
    """Does something to the run folder after the second decision, as another program might."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        self.meddle = meddle
        self.count = 0

    def on_decision(self, *args: Any, **kwargs: Any) -> None:
        self.count += 1
        if self.count == 2:
            self.meddle()


def append_line(path: Path) -> None:
    with path.open("a") as file:
        file.write("{}\n")


MEDDLING: list[tuple[Callable[[Path], object], str]] = [
    (shutil.rmtree, "it, or its folder, is missing"),
    (lambda run: run.rename(run.with_name("moved")), "it, or its folder, is missing"),
    (lambda run: shutil.rmtree(run / "journal"), "it, or its folder, is missing"),
    (lambda run: (run / "journal" / "proposal_000.jsonl").unlink(), "it, or its folder, is missing"),
    (lambda run: append_line(run / "journal" / "proposal_000.jsonl"), "was changed by another program"),
    (lambda run: (run / "journal" / "proposal_000.jsonl").write_text(""), "was changed by another program"),
]


@pytest.mark.parametrize(("meddle", "complaint"), MEDDLING)
def test_a_run_folder_that_is_changed_while_it_is_in_use_ends_the_search(
    meddle: Callable[[Path], object], complaint: str, pictures: TensorDataset, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with pytest.raises(StorageError, match=complaint) as caught:
        zcpt.search("nasbench201", pictures, callbacks=[Meddles(lambda: meddle(run))], run_dir=run, **OPTIONS)
    assert str(run) in str(caught.value)


@pytest.mark.parametrize("number", [1, 2, 7, 15])
@pytest.mark.parametrize(("error", "reason"), [(28, "the disk is full"), (5, "the disk reports an error")])
def test_a_disk_that_fails_costs_nothing_that_was_finished(
    number: int, error: int, reason: str, pictures: TensorDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fail at the first file of the run folder, in stage 1, in stage 2 and at the result."""
    run, calls = tmp_path / "run", []

    def sync(file: int) -> None:
        calls.append(file)
        if len(calls) == number:
            raise OSError(error, os.strerror(error))

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", sync)
        with pytest.raises(StorageError, match=f"cannot be written: {reason}"):
            run_small_search(zcpt.get_space("nasbench201"), pictures, run_dir=run, proxy="hashed", proposals=2)
    assert run.exists() == (number > 1)
    result = run_small_search(
        zcpt.get_space("nasbench201"), pictures, run_dir=run, resume=run.exists(), proxy="hashed", proposals=2
    )[0]
    whole = run_small_search(zcpt.get_space("nasbench201"), pictures, proxy="hashed", proposals=2)[0]
    assert (result.architecture, result.candidates) == (whole.architecture, whole.candidates)
