"""The benchmark of the training loops: each trains the same network, and what is measured becomes a table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import training, training_report

SETTINGS = training.Settings(torch.device("cpu"), "float32", channels=4, layers=3, batch_size=4, batches=2, workers=0)


def test_all_loops_are_measured_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = training.measure_training(SETTINGS, rounds=1)
    assert list(measured) == list(training.LOOPS) == list(training_report.LOOPS)
    for result in measured.values():
        low, high = result["range"]
        assert 0 < low <= result["images a second"] <= high
        assert 0 <= result["share of waiting for images"] < 1
    assert measured["zcpt"]["zcpt, times as fast"] == 1
    document = {"cpu float32": {**json.loads(training_report.RESULT.read_text())["cpu float32"], "loops": measured}}
    monkeypatch.setattr(training_report, "RESULT", tmp_path / "training.json")
    training_report.RESULT.write_text(json.dumps(document))
    assert training_report.render_training().count("\n") == 2 + len(measured)


def test_all_loops_train_the_same_network() -> None:
    networks = [training.build_trainer(SETTINGS).network, training.build_network(SETTINGS)]
    shapes = [{name: weight.shape for name, weight in network.named_parameters()} for network in networks]
    assert shapes[0] == shapes[1]


def test_cutout_removes_a_square_around_a_pixel() -> None:
    np.random.seed(0)
    image = training.Cutout(4)(torch.ones(3, 8, 8))
    removed = image == 0
    assert torch.equal(removed[0], removed[1])
    assert 4 <= int(removed[0].sum()) <= 16
