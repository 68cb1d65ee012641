"""From scores after removal to what is kept."""

from __future__ import annotations

import math

from zcpt.scoring import argmax_importance, convert_to_importances


def test_larger_importance_means_keep_in_both_directions() -> None:
    assert convert_to_importances([3.0, 1.0, 2.0], higher_is_better=True) == [-3, -1, -2]
    assert convert_to_importances([3.0, 1.0, 2.0], higher_is_better=False) == [3, 1, 2]


def test_what_is_not_finite_ranks_last() -> None:
    scores = [math.nan, 5.0, -math.inf, math.inf]
    for higher in (True, False):
        ranked = convert_to_importances(scores, higher)
        assert argmax_importance(ranked) == 1
        assert [ranked[i] for i in (0, 2, 3)] == [-math.inf] * 3


def test_the_published_way_lets_a_singular_kernel_win_and_ignores_nan() -> None:
    ranked = convert_to_importances([math.nan, 5.0, -math.inf], higher_is_better=True, compare_infinite=True)
    assert ranked == [-math.inf, -5.0, math.inf]


def test_the_first_of_equals_wins() -> None:
    assert argmax_importance([1.0, 2.0, 2.0]) == 1
