"""Measuring in a process that does not see the files of the run: checkpoints travel with the tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.zcpt.trials.values import Staged
from zcpt.trials import measuring, run_trials
from zcpt.workers import WorkerPool


def test_checkpoints_travel_where_files_are_not_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"algorithm": "hierarchy", "initial": 4, "promote": "2,1", "parents": "2,1,1"}
    options |= {"trials": 16, "trial_batch": 3}
    paths: list[Path | None] = []
    measure = measuring._measure

    def record_path(value: Any, task: measuring.MeasuringTask) -> Any:
        paths.append(task.checkpoint)
        return measure(value, task)

    monkeypatch.setattr(measuring, "_measure", record_path)
    kept = []
    for name in ("seen", "not seen"):
        monkeypatch.setattr(WorkerPool, "has_same_files", name == "seen")
        result = run_trials("nasbench201", Staged(), run_dir=tmp_path / name, **options)
        # The number of stages counts the checkpoints that a trial went on from.
        assert [trial.report["stages"] for trial in result.trials] == [round(3 * t.share) for t in result.trials]
        files = (tmp_path / name / "checkpoints").iterdir()
        kept.append((result.trials, {path.name: path.read_bytes() for path in files}))
    assert kept[0][1] == kept[1][1]
    assert [trial.value for trial in kept[0][0]] == [trial.value for trial in kept[1][0]]
    folders = [path.parent for path in paths if path is not None]
    assert folders[0] == tmp_path / "seen" / "checkpoints"
    assert folders[-1] != tmp_path / "not seen" / "checkpoints"
