"""Trials on tables: values, curves that are worked out by hand, and measurements that are resumed."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zcpt
from tests.zcpt.tabular.conftest import cells, write_csv
from zcpt.tabular import TabularBenchmark, read_table
from zcpt.tabular._trials_section import render_trials
from zcpt.tabular.report import write_report
from zcpt.tabular.trial_curves import (
    count_trials,
    find_best_reported,
    follow_best,
    measure_trials,
    read_trial_variants,
    summarize_runs,
)
from zcpt.tabular.trials import TableValue

NAN, INF = math.nan, math.inf
COLUMNS = ["arch_str", "c100_valid_acc_200ep_pct", "c100_test_acc_200ep_pct", "c10_test_acc_200ep_pct"]


@pytest.fixture
def table(tmp_path: Path) -> TabularBenchmark:
    """Return thirty cells whose validation and test accuracies differ in their order."""
    rows = [[cell, 60 + i % 7 + i / 100, 60 + i % 5 + i / 100, 90] for i, cell in enumerate(cells(30))]
    return read_table(write_csv(tmp_path / "table.csv", COLUMNS, *rows), "nasbench201")


@pytest.fixture
def scores(table: TabularBenchmark, tmp_path: Path) -> Path:
    """Return the folder of a measurement, whose scores are the validation accuracies."""
    (tmp_path / "scores").mkdir()
    accuracies = table.get_accuracies("cifar100", "valid").tolist()
    rows = [[i, table.space.format(a), 0, accuracies[i]] for i, a in enumerate(table.architectures)]
    write_csv(tmp_path / "scores" / "scores.csv", ["index", "architecture", "accuracy", "synflow"], *rows)
    return tmp_path / "scores"


def test_a_table_guides_by_validation_and_reports_test(table: TabularBenchmark) -> None:
    value = TableValue(table, "cifar100")
    measured = value.measure(table.architectures[8], 0)
    assert (measured.value, measured.report) == (61.08, {"test": 63.08})
    assert value.describe()["metric"] == "valid"
    with pytest.raises(zcpt.DataError, match=r"table.csv has no accuracy of it"):
        value.measure(find_missing(table), 0)
    with pytest.raises(zcpt.ConfigError, match="no validation accuracies of cifar10, .* --guide, such as test"):
        TableValue(table, "cifar10")
    assert TableValue(table, "cifar10", "test").measure(table.architectures[0], 0).value == 90
    with pytest.raises(zcpt.ConfigError, match="did you mean 'cifar100'"):
        TableValue(table, "cifar1000")


def find_missing(table: TabularBenchmark) -> zcpt.Architecture:
    return next(a for a in map(table.space.parse, cells(40)) if table.lookup(a, "cifar100") is None)


def test_the_curve_follows_the_best_guiding_value_and_not_the_reported_one() -> None:
    values = np.array([[1.0, 3, 2, 3, 4], [NAN, -INF, 1, INF, 2]])
    reported = np.array([[9.0, 5, 7, 8, 6], [9, 9, 1, 9, 2]])
    followed = follow_best(values, reported)
    np.testing.assert_array_equal(followed, [[9, 5, 5, 5, 6], [NAN, NAN, 1, 1, 2]])
    assert count_trials(followed, 6) == [1, None]
    assert count_trials(followed, 2) == [1, 5]


def test_the_target_is_what_a_perfect_search_finds(table: TabularBenchmark, tmp_path: Path) -> None:
    # Cell 27 has the best validation accuracy, 66.27, and a test accuracy of 62.27; cell 29 has the best test accuracy.
    assert find_best_reported(TableValue(table, "cifar100")) == 62.27
    assert table.get_accuracies("cifar100", "test").max() == 64.29
    assert measure(table, None, tmp_path / "c", variants={"random": {"trials": 1}})["protocol"]["target"] == 62.17


def make_run(values: list[float], reported: list[float]) -> dict[str, Any]:
    return {"values": values, "reported": reported}


def test_runs_are_summarised_with_what_the_baseline_saves() -> None:
    slow = [
        {"values": [1.0, 2, 3, 4], "reported": [1.0, 2, 3, 4]},
        {"values": [4.0, 1, 1, 1], "reported": [2.0, 4, 4, 4]},
    ]
    quick = [
        {"values": [4.0, 1, 1, 1], "reported": [4.0, 0, 0, 0]},
        {"values": [1.0, 4, 1, 1], "reported": [1.0, 4, 0, 0]},
    ]
    runs = {"slow": slow, "other": quick, "quick": quick}
    results = summarize_runs(runs, {"slow": "local", "other": "random", "quick": "local"}, target=4)
    assert results["slow"]["curve"]["mean"] == [1.5, 2, 2.5, 3]
    assert results["slow"]["optimistic"]["mean"] == [1.5, 3, 3.5, 4]
    assert results["slow"]["trials_needed"] == [4, None]
    assert results["slow"]["successful"] == 0.5
    assert results["slow"]["mean_trials"]["mean"] == 4.5  # a run without success counts as five
    assert results["quick"]["trials_needed"] == [1, 2]
    assert results["slow"]["reached"] == {"curve": None, "optimistic": 4}
    assert results["quick"]["reached"] == {"curve": 2, "optimistic": 2}
    saved = results["quick"]["saved"]
    assert (saved["baseline"], saved["mean"], saved["ratio"]) == ("slow", 3, 3)
    assert "saved" not in results["slow"]
    assert "saved" not in results["other"]  # the first with its algorithm


def measure(table: TabularBenchmark, scores: Path | None, folder: Path, **options: Any) -> dict[str, Any]:
    variants = {"random": {"algorithm": "random", "trials": 8}, "warm": {"algorithm": "random", "trials": 8}}
    variants["warm"] |= {"proxy": "synflow", "warmup": 30}
    arguments: dict[str, Any] = {"variants": variants, "scores": scores, "seeds": (0, 1, 2), "table_only": True}
    return measure_trials(TableValue(table, "cifar100"), folder, **{**arguments, **options})


def test_a_measurement_is_resumed_and_extended_and_reported(
    table: TabularBenchmark, scores: Path, tmp_path: Path
) -> None:
    whole = measure(table, scores, tmp_path / "a")
    # A perfect proxy: the first trial has the best validation accuracy.
    best = table.get_accuracies("cifar100", "test")[table.get_accuracies("cifar100", "valid").argmax()]
    assert whole["results"]["warm"]["curve"]["mean"] == [best] * 8
    journal = tmp_path / "a" / "journal" / "trials.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 6
    journal.write_text("".join(lines[4:0:-1]) + lines[5][:20])
    assert without_date(measure(table, scores, tmp_path / "a")) == without_date(whole)
    more = measure(table, scores, tmp_path / "a", seeds=(0, 1, 2, 3))
    assert len(more["results"]["random"]["trials_needed"]) == 4
    with pytest.raises(zcpt.ConfigError, match="another measurement: its table_only"):
        measure(table, scores, tmp_path / "a", seeds=(0, 1, 2, 3), table_only=False)
    easier = measure(table, scores, tmp_path / "a", seeds=(0, 1, 2, 3), target=0)
    assert easier["results"]["random"]["trials_needed"] == [1] * 4
    assert easier["protocol"]["target"] == 0
    text = write_report(tmp_path / "a").read_text()
    assert "# Trials on NAS-Bench-201, cifar100" in text
    assert "| warm |" in text
    assert (tmp_path / "a" / "trials.png").stat().st_size < 100_000
    for measures in more["results"].values():
        del measures["curve"]["low"]
    assert render_trials(more, tmp_path / "a").pictures == {"trials": None}  # as the results of this repository


def without_date(result: dict[str, Any]) -> str:
    return json.dumps({**result, "protocol": {**result["protocol"], "date": ""}})


def test_variants_are_read_from_a_file(table: TabularBenchmark, scores: Path, tmp_path: Path) -> None:
    file = tmp_path / "variants.yaml"
    file.write_text("plain:\nmove: {move: true, proxy: synflow, max_params: 1M}\n")
    assert read_trial_variants(file, table) == {
        "plain": {},
        "move": {"move": True, "proxy": "synflow", "max_params": 1e6},
    }
    file.write_text("plain: {trails: 3}\n")
    with pytest.raises(zcpt.ConfigError, match="variant 'plain': unknown option .* did you mean 'trials'"):
        read_trial_variants(file, table)
    with pytest.raises(zcpt.ConfigError, match="proxy 'synflow' needs scores: give --scores"):
        measure(table, None, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_the_journal_has_a_line_for_each_run(table: TabularBenchmark, scores: Path, tmp_path: Path) -> None:
    measure(table, scores, tmp_path / "a", seeds=(5,))
    record = json.loads((tmp_path / "a" / "journal" / "trials.jsonl").read_text().splitlines()[0])
    with open(table.path) as file:
        rows = {row["arch_str"]: row for row in csv.DictReader(file)}
    row = rows[record["architecture"]]
    best = record["values"].index(max(record["values"]))
    assert float(row["c100_valid_acc_200ep_pct"]) == record["values"][best]
    assert float(row["c100_test_acc_200ep_pct"]) == record["reported"][best]
