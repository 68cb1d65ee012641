"""Importances of candidates, from the scores after removing each."""

from __future__ import annotations

import math
from collections.abc import Sequence


def convert_to_importances(
    scores: Sequence[float], higher_is_better: bool, *, compare_infinite: bool = False
) -> list[float]:
    """Convert scores after removal into importances: larger = keep.

    Args:
        scores: Score of the supernet without each candidate.
        higher_is_better: Direction of the proxy.
        compare_infinite: Compare infinite scores as numbers, as the published code does.

    Returns:
        Minus the scores, or the scores where lower is better. A score that is not finite is no evidence for its
        candidate, so it ranks last (-inf): otherwise the -inf of a singular kernel would win every decision.
    """
    sign = -1.0 if higher_is_better else 1.0
    is_comparable = [not math.isnan(s) if compare_infinite else math.isfinite(s) for s in scores]
    return [sign * score if ok else -math.inf for score, ok in zip(scores, is_comparable, strict=True)]


def argmax_importance(importances: Sequence[float]) -> int:
    """Return the index of the largest importance, the first one of equals."""
    return max(range(len(importances)), key=lambda index: (importances[index], -index))
