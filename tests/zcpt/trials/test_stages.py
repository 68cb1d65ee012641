"""Trainings in stages: checkpoints, resume, replay and the best of those that are complete."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import zcpt
from zcpt import ConfigError
from zcpt.architecture import Architecture
from zcpt.errors import StorageError
from zcpt.journal import Journal
from zcpt.seeding import derive_seed
from zcpt.trials import (
    Measurement,
    Trial,
    TrialsCallback,
    TrialsResult,
    configure_trials,
    find_best_trial,
    plan_trials,
    replay_trials,
    run_trials,
)
from zcpt.trials.run_folder import CHECKPOINTS

SPACE = zcpt.get_space("nasbench-macro")
OPTIONS: dict[str, Any] = {"algorithm": "hierarchy", "trials": 60, "initial": 5, "promote": "3,2", "parents": "2,2,1"}


@dataclass
class Staged:
    """Value that rises with the share, and leaves a checkpoint."""

    name: str = "staged"
    is_full: bool = False
    """Whether the disk is full."""

    def measure(self, architecture: Architecture, seed: int) -> Measurement:
        return self.measure_share(architecture, seed, 1.0)

    def measure_share(
        self, architecture: Architecture, seed: int, share: float, checkpoint: Path | None = None
    ) -> Measurement:
        if self.is_full:
            raise StorageError("the disk is full.")
        began = float(checkpoint.read_text()) if checkpoint and checkpoint.exists() else 0.0
        if checkpoint:
            checkpoint.write_text(str(share))
        noise = derive_seed(seed, SPACE.format(architecture)) / 2**63
        return Measurement(noise - 5 * share if noise < 0.5 else noise + share, {"began": began})

    def describe(self) -> Mapping[str, Any]:
        return {}


class Stop(TrialsCallback):
    """Callback that ends the run after some trials."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_trial(self, trial: Trial, best: Trial | None, replayed: bool) -> None:
        if trial.number == self.after and not replayed:
            raise KeyboardInterrupt


def simplify(result: TrialsResult) -> list[tuple[Any, ...]]:
    return [(t.architecture, t.reason, t.value, t.share) for t in result.trials]


def run(run_dir: Path | None = None, value: Staged | None = None, **options: Any) -> TrialsResult:
    return run_trials(SPACE, value or Staged(), run_dir=run_dir, **{**OPTIONS, **options})


def test_each_stage_goes_on_from_the_checkpoint_of_the_one_before(tmp_path: Path) -> None:
    result = run(tmp_path / "run")
    for trial in result.trials:
        assert trial.report["began"] == pytest.approx(trial.share - 1 / 3)
    assert {round(3 * trial.share) for trial in result.trials} == {1, 2, 3}
    left = [path.read_text() for path in (tmp_path / "run" / CHECKPOINTS).iterdir()]
    assert left
    assert not {"1.0"} & {*left}  # a complete training does not go on
    assert simplify(run()) == simplify(result)  # without a folder


def test_the_best_is_a_complete_training() -> None:
    result = run()
    assert result.best.share == 1.0
    assert result.best.value == max(trial.value for trial in result.trials if trial.share == 1.0)
    half, whole = Trial(0, result.architecture, "", 9.0, share=0.5), Trial(1, result.architecture, "", 1.0)
    assert find_best_trial([half, whole]) is whole


@pytest.mark.parametrize("after", [2, 7, 8, 23, 41])
@pytest.mark.parametrize("loses_checkpoints", [False, True])
def test_a_resumed_run_has_the_same_trials(tmp_path: Path, after: int, loses_checkpoints: bool) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", callbacks=[Stop(after)])
    if loses_checkpoints:
        shutil.rmtree(tmp_path / "run" / CHECKPOINTS)
    result = run(tmp_path / "run", resume=True)
    assert simplify(result) == simplify(run())
    records = Journal(tmp_path / "run" / "journal").records("trials")
    assert [record["share"] for record in records] == [trial.share for trial in result.trials]


def test_the_size_of_batches_changes_no_trial() -> None:
    expected = simplify(run())
    assert simplify(run(trial_batch=4)) == simplify(run(trial_batch=100)) == expected


@pytest.mark.slow
def test_the_number_of_processes_changes_no_trial(tmp_path: Path) -> None:
    assert simplify(run(tmp_path / "run", trial_batch=8, workers=2)) == simplify(run())


@pytest.mark.parametrize("measure", [False, True])
def test_a_run_is_replayed(tmp_path: Path, measure: bool) -> None:
    run(tmp_path / "run")
    plan = plan_trials(SPACE, Staged(), *configure_trials(SPACE, **OPTIONS))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    replay = replay_trials(plan, tmp_path / "run", measure=measure)
    assert (replay.difference, replay.trials, replay.largest_gap) == ("", 60, 0.0)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_a_full_disk_is_no_failed_trial(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        run(tmp_path / "run", Staged(is_full=True))
    assert not (tmp_path / "run").exists()


def test_a_link_in_place_of_the_checkpoints_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / CHECKPOINTS)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / CHECKPOINTS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="symbolic link"):
        run(tmp_path / "run", resume=True)


class Plain:
    """Value without stages."""

    name = "plain"

    def measure(self, architecture: Architecture, seed: int) -> Measurement:
        return Measurement(0.0)

    def describe(self) -> Mapping[str, Any]:
        return {}


def test_a_value_without_stages_is_refused() -> None:
    with pytest.raises(ConfigError, match="algorithm 'hierarchy' trains networks in stages"):
        run_trials(SPACE, Plain(), **OPTIONS)
    one = {**OPTIONS, "stages": 1, "promote": "", "parents": "4", "trials": 9}
    assert len(run_trials(SPACE, Plain(), **one).trials) == 9
