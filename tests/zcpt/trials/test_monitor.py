"""Progress and TensorBoard's event files of trials."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import zcpt
from tests.zcpt.trials.test_run import IMAGES
from tests.zcpt.trials.values import Failing
from zcpt.trials import TrialsProgress, TrialsTensorBoard, run_trials

SPACE = zcpt.get_space("nasbench201")


def test_tensorboard_shows_values_the_best_and_the_scores(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    options: dict[str, Any] = {"batches": IMAGES, "batch_size": 8, "channels": 2, "layers": 1, "proxy": "hashed"}
    options |= {"move": True, "algorithm": "random", "move_samples": 2, "run_dir": tmp_path / "run"}
    callbacks = [TrialsProgress(), TrialsTensorBoard(tmp_path / "run" / "tensorboard")]
    run_trials(SPACE, Failing(0.3), trials=3, callbacks=callbacks, **options)
    result = run_trials(SPACE, Failing(0.3), trials=6, resume=True, callbacks=callbacks, **options)
    (file,) = (tmp_path / "run" / "tensorboard").glob("events*")  # the replay has replaced that of the first run
    events = EventAccumulator(str(file.parent)).Reload()
    values = {event.step: event.value for event in events.Scalars("trials/value")}
    assert values == {t.number + 1: pytest.approx(t.value) for t in result.trials if not t.failure}
    assert [event.step for event in events.Scalars("trials/hashed")] == [1, 2, 3, 4, 5, 6]
    assert events.Scalars("trials/best")[-1].value == pytest.approx(result.best.value)
    assert events.Scalars("report_of_best/test")[-1].value == pytest.approx(result.best.report["test"])
    assert len(events.Scalars("trials/per_minute")) == 3
    assert events.Images("result/value against hashed")
