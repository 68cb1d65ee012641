"""Rank correlations against their definitions; intervals and top lists."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from zcpt.tabular.measures import (
    Measure,
    bootstrap_interval,
    compare_rankings,
    compute_mean_interval,
    kendall,
    spearman,
    weigh_top,
)


def count_pairs(x: list[float], y: list[float]) -> float:
    """Return Kendall's tau-b, pair by pair as it is defined."""
    pairs = [(np.sign(a - b), np.sign(c - d)) for (a, c), (b, d) in itertools.combinations(zip(x, y, strict=True), 2)]
    not_tied = math.sqrt(sum(a != 0 for a, _ in pairs) * sum(b != 0 for _, b in pairs))
    return float(sum(a * b for a, b in pairs) / not_tied)


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("size", [2, 3, 17, 64])
def test_correlations_equal_their_definitions_with_and_without_ties(size: int, levels: int) -> None:
    generator = np.random.default_rng(size * levels)
    x, y = generator.integers(levels, size=(2, size)).astype(float)
    y += x * generator.integers(2)
    if len({*x}) == 1 or len({*y}) == 1:
        assert math.isnan(spearman(x, y))
        assert math.isnan(kendall(x, y))
        return
    ranks = [[(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values] for values in (x, y)]
    assert spearman(x, y) == pytest.approx(np.corrcoef(ranks)[0, 1], abs=1e-12)
    assert kendall(x, y) == pytest.approx(count_pairs(list(x), list(y)), abs=1e-12)


@pytest.mark.parametrize("measure", [spearman, kendall])
def test_bootstrap_draws_pairs_from_its_seed(measure: Measure) -> None:
    generator = np.random.default_rng(0)
    x = generator.integers(4, size=30).astype(float)
    y = x + generator.normal(size=30)
    generator = np.random.default_rng(7)
    resamples = [generator.integers(30, size=30) for _ in range(250)]
    expected = np.percentile([measure(x[indices], y[indices]) for indices in resamples], [2.5, 97.5])
    assert bootstrap_interval(measure, x, y, 250, seed=7) == pytest.approx(tuple(expected), abs=1e-12)


def test_resamples_without_a_correlation_are_left_out() -> None:
    x = np.array([1.0, 1.0, 1.0, 2.0])
    low, high = bootstrap_interval(spearman, x, np.array([1.0, 2.0, 3.0, 4.0]), 100, seed=0)
    assert -1 <= low < high <= 1


def test_correlations_worked_out_by_hand() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]
    assert kendall(x, y) == pytest.approx((5 - 1) / 6)
    assert spearman(x, y) == pytest.approx(1 - 6 * 2 / (4 * 15))
    # One tie in x: of the 5 other pairs all agree; tau-b = 5 / sqrt(5 * 6)
    assert kendall([1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]) == pytest.approx(5 / math.sqrt(30))


def test_nothing_to_correlate_is_nan() -> None:
    for measure in (spearman, kendall):
        for x in ([], [1.0], [1.0, 1.0]):
            assert math.isnan(measure(x, x))


def test_intervals_hold_the_value_shrink_with_the_sample_and_repeat() -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=800)
    y = x + generator.normal(size=800)
    few, many = (bootstrap_interval(spearman, x[:n], y[:n], 200, seed=3) for n in (50, 800))
    assert few == bootstrap_interval(spearman, x[:50], y[:50], 200, seed=3)
    assert few != bootstrap_interval(spearman, x[:50], y[:50], 200, seed=4)
    assert many[1] - many[0] < 0.5 * (few[1] - few[0])
    for (low, high), n in ((few, 50), (many, 800)):
        assert low < spearman(x[:n], y[:n]) < high
    assert all(map(math.isnan, bootstrap_interval(spearman, x, y, 0, seed=0)))


def test_places_among_the_best_add_up_and_equals_share_one() -> None:
    assert weigh_top(np.array([3.0, 1.0, 2.0]), 2).tolist() == [1, 0, 1]
    assert weigh_top(np.array([3.0, 1.0, 1.0, 1.0]), 2).tolist() == [1, *[1 / 3] * 3]
    assert weigh_top(np.zeros(4), 3).sum() == 3


def test_a_perfect_and_a_reversed_ranking() -> None:
    accuracies = np.arange(100.0)
    measures = compare_rankings(accuracies**3, accuracies)
    assert measures["spearman"]["value"] == pytest.approx(1)
    assert measures["in_best"] == {"spearman": pytest.approx(1), "kendall": pytest.approx(1)}
    assert (measures["best_found"], measures["of_64"], measures["argmax_accuracy"]) == (1, 5, 99)
    measures = compare_rankings(-accuracies, accuracies)
    assert measures["kendall"]["value"] == pytest.approx(-1)
    assert (measures["best_found"], measures["of_64"], measures["argmax_accuracy"]) == (0, 0, 0)


def test_constant_scores_select_at_random() -> None:
    measures = compare_rankings(np.zeros(100), np.arange(100.0), resamples=3)
    assert math.isnan(measures["spearman"]["value"])
    assert math.isnan(measures["kendall"]["low"])
    assert measures["best_found"] == pytest.approx(0.1)
    assert measures["argmax_accuracy"] == pytest.approx(49.5)


def test_no_scores_at_all() -> None:
    measures = compare_rankings([], [], resamples=3)
    assert math.isnan(measures["spearman"]["value"])
    assert math.isnan(measures["argmax_accuracy"])


def test_the_interval_of_a_mean_equals_scipys() -> None:
    values = [93.34, 94.36, 94.30, 94.00]
    measures = compute_mean_interval(values)
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (measures["low"], measures["high"]) == pytest.approx(expected, abs=1e-4)
    assert (round(measures["mean"], 2), round(measures["sd"], 2)) == (94.0, 0.47)  # as published
    assert math.isnan(compute_mean_interval([94.0])["low"])
    assert math.isnan(compute_mean_interval([])["mean"])
