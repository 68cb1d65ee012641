"""The comparison of the hierarchical strategy with evolution: both spend the same epochs, and are paired by seed."""

from __future__ import annotations

from pathlib import Path

import pytest

import zcpt
from benchmarks import hierarchy
from train.data import load_data
from train.reduced import prepare_training


def test_both_ways_spend_the_same_epochs(tmp_path: Path) -> None:
    space = zcpt.get_space(hierarchy.SPACE)
    training = prepare_training(space, load_data("digits"), str(hierarchy.RECIPE), epochs=3, samples=0.05)
    final = hierarchy.prepare_final(training, epochs=1, samples=0.05)
    assert len(final.held_back) == len(load_data("digits").test)
    rows = hierarchy.measure_seed(training, final, seed=0, trainings=4)
    assert [(row["way"], row["epochs"]) for row in rows] == [("hierarchy", 12), ("evolution", 12)]
    assert rows[0]["networks"] > rows[1]["networks"] == 4
    hierarchy.write_report(rows, tmp_path)
    assert hierarchy.read_rows(tmp_path) == rows
    assert "hierarchy minus evolution" in (tmp_path / "report.md").read_text()


def test_the_difference_is_paired_by_seed() -> None:
    accuracies = {"hierarchy": [90.0, 80.0, 97.0], "evolution": [89.0, 78.0, 97.0]}
    rows = [
        {"way": way, "seed": seed, "test accuracies": [value - 1, value + 1]}
        for way, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    result = hierarchy.compare_ways(rows)
    assert result["means"] == {"hierarchy": pytest.approx(89.0), "evolution": pytest.approx(88.0)}
    assert result["difference"]["value"] == pytest.approx(1.0)
    assert (result["difference"]["low"], result["difference"]["high"]) == (0.0, 2.0)
    assert result["difference"]["student"] == pytest.approx([1 - 2.484, 1 + 2.484], abs=1e-3)  # 4.303 / sqrt(3)
