"""Importances follow from the scores after removal."""

from __future__ import annotations

import math

from zcpt.scoring import argmax_importance, convert_to_importances


def test_a_larger_importance_means_keep_for_both_directions_of_a_proxy() -> None:
    assert convert_to_importances([3.0, 1.0, 2.0], higher_is_better=True) == [-3, -1, -2]
    assert convert_to_importances([3.0, 1.0, 2.0], higher_is_better=False) == [3, 1, 2]


def test_scores_that_are_not_finite_rank_last() -> None:
    scores = [math.nan, 5.0, -math.inf, math.inf]
    for higher in (True, False):
        ranked = convert_to_importances(scores, higher)
        assert argmax_importance(ranked) == 1
        assert [ranked[i] for i in (0, 2, 3)] == [-math.inf] * 3


def test_compared_as_published_a_singular_kernel_ranks_first_and_nan_last() -> None:
    ranked = convert_to_importances([math.nan, 5.0, -math.inf], higher_is_better=True, compare_infinite=True)
    assert ranked == [-math.inf, -5.0, math.inf]


def test_the_first_of_equal_importances_is_returned() -> None:
    assert argmax_importance([1.0, 2.0, 2.0]) == 1
