"""Rank correlations against SciPy and against pairs counted by hand; intervals and top lists."""

import math

import numpy as np
import pytest
from scipy import stats

from zcpt.tabular.measures import (
    agreement,
    among_best,
    bootstrap,
    inversions,
    kendall,
    mean_interval,
    spearman,
    student,
)


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("size", [2, 3, 17, 64, 500])
def test_correlations_equal_scipys_with_and_without_ties(size, levels):
    generator = np.random.default_rng(size * levels)
    x, y = generator.integers(levels, size=(2, size)).astype(float)
    y += x * generator.integers(2)
    if len({*x}) == 1 or len({*y}) == 1:
        assert math.isnan(spearman(x, y))
        assert math.isnan(kendall(x, y))
        return
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-12)


def test_correlations_worked_out_by_hand():
    x, y = [1.0, 2.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]
    assert kendall(x, y) == pytest.approx((5 - 1) / 6)
    assert spearman(x, y) == pytest.approx(1 - 6 * 2 / (4 * 15))
    # One tie in x: of the 5 other pairs all agree; tau-b = 5 / sqrt(5 * 6)
    assert kendall([1.0, 1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]) == pytest.approx(5 / math.sqrt(30))


def test_inversions_equal_counting_every_pair():
    values = np.random.default_rng(0).integers(40, size=200)
    assert inversions(values) == sum(values[i] > values[j] for i in range(200) for j in range(i + 1, 200))


def test_nothing_to_correlate_is_nan():
    for measure in (spearman, kendall):
        for x in ([], [1.0], [1.0, 1.0]):
            assert math.isnan(measure(x, x))


def test_intervals_hold_the_value_shrink_with_the_sample_and_repeat():
    generator = np.random.default_rng(0)
    x = generator.normal(size=800)
    y = x + generator.normal(size=800)
    few, many = (bootstrap(spearman, x[:n], y[:n], 200, seed=3) for n in (50, 800))
    assert few == bootstrap(spearman, x[:50], y[:50], 200, seed=3)
    assert few != bootstrap(spearman, x[:50], y[:50], 200, seed=4)
    assert many[1] - many[0] < 0.5 * (few[1] - few[0])
    for (low, high), n in ((few, 50), (many, 800)):
        assert low < spearman(x[:n], y[:n]) < high
    assert all(map(math.isnan, bootstrap(spearman, x, y, 0, seed=0)))


def test_places_among_the_best_add_up_and_equals_share_one():
    assert among_best(np.array([3.0, 1.0, 2.0]), 2).tolist() == [1, 0, 1]
    assert among_best(np.array([3.0, 1.0, 1.0, 1.0]), 2).tolist() == [1, *[1 / 3] * 3]
    assert among_best(np.zeros(4), 3).sum() == 3


def test_a_perfect_and_a_reversed_ranking():
    accuracies = np.arange(100.0)
    found = agreement(accuracies**3, accuracies)
    assert found["spearman"]["value"] == pytest.approx(1)
    assert found["in_best"] == {"spearman": pytest.approx(1), "kendall": pytest.approx(1)}
    assert (found["best_found"], found["of_64"], found["argmax_accuracy"]) == (1, 5, 99)
    found = agreement(-accuracies, accuracies)
    assert found["kendall"]["value"] == pytest.approx(-1)
    assert (found["best_found"], found["of_64"], found["argmax_accuracy"]) == (0, 0, 0)


def test_constant_scores_find_what_luck_finds():
    found = agreement(np.zeros(100), np.arange(100.0), resamples=3)
    assert math.isnan(found["spearman"]["value"])
    assert math.isnan(found["kendall"]["low"])
    assert found["best_found"] == pytest.approx(0.1)
    assert found["argmax_accuracy"] == pytest.approx(49.5)


def test_no_scores_at_all():
    found = agreement([], [], resamples=3)
    assert math.isnan(found["spearman"]["value"])
    assert math.isnan(found["argmax_accuracy"])


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 6, 9, 30, 1000])
def test_students_quantile(degrees):
    assert student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), abs=2e-3)


def test_the_interval_of_a_mean_equals_scipys():
    values = [93.34, 94.36, 94.30, 94.00]
    found = mean_interval(values)
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found["low"], found["high"]) == pytest.approx(expected, abs=1e-4)
    assert (round(found["mean"], 2), round(found["sd"], 2)) == (94.0, 0.47)  # as published
    assert math.isnan(mean_interval([94.0])["low"])
    assert math.isnan(mean_interval([])["mean"])
