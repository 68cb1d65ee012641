"""What removing a candidate costs, from the scores after removing it."""

from __future__ import annotations

import math
from collections.abc import Sequence


def convert_to_importances(
    scores: Sequence[float], higher_is_better: bool, *, compare_infinite: bool = False
) -> list[float]:
    """Turn scores after removal into importances: larger means 'keep'.

    A score that is not finite says nothing about its candidate, so it ranks last (-inf); otherwise the -inf of
    a singular kernel would win every decision. ``compare_infinite`` lets it win, as the published code does.
    """
    sign = -1.0 if higher_is_better else 1.0
    ranked = [not math.isnan(s) if compare_infinite else math.isfinite(s) for s in scores]
    return [sign * score if ok else -math.inf for score, ok in zip(scores, ranked, strict=True)]


def argmax_importance(importances: Sequence[float]) -> int:
    """Index of the largest importance, the first one of equals."""
    return max(range(len(importances)), key=lambda index: (importances[index], -index))
