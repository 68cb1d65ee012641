"""How well one ranking agrees with another, with intervals; the correlations in O(n log n)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Vector = NDArray[np.float64]
Measure = Callable[[Vector, Vector], float]
TOP = 0.1
"""The share of networks that counts as the best ones."""


def ranks(values: ArrayLike) -> Vector:
    """Ranks [N] from 1 on, smallest first; equal values have the mean of theirs."""
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse.reshape(-1)], dtype=np.float64)


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation; nan where one of the two is constant."""
    a, b = (each - each.mean() if len(each) else each for each in (ranks(x), ranks(y)))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else math.nan


def kendall(x: ArrayLike, y: ArrayLike) -> float:
    """Kendall's tau-b, which makes up for ties; nan where one of the two is constant."""
    a, b = _dense(x), _dense(y)
    pairs = _pairs(np.array([len(a)]))
    tied_a, tied_b = _pairs(np.bincount(a)), _pairs(np.bincount(b))
    both = _pairs(np.unique(a * (b.max(initial=0) + 1) + b, return_counts=True)[1])
    scale = math.sqrt(float(pairs - tied_a) * float(pairs - tied_b))
    # Of equal x in the order of y no pair is an inversion.
    discordant = inversions(b[np.lexsort((b, a))])
    return (pairs - tied_a - tied_b + both - 2 * discordant) / scale if scale else math.nan


def inversions(values: NDArray[np.int64]) -> int:
    """In how many pairs of non-negative integers the first one is larger.

    Bit by bit from the highest one: two numbers that agree in all bits before are an inversion if the first one has
    this bit and the second one has not.
    """
    total = 0
    order = values
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        has = (order >> bit) & 1
        before = np.cumsum(has) - has
        group = order >> (bit + 1)
        first = np.r_[True, group[1:] != group[:-1]]
        base = np.maximum.accumulate(np.where(first, before, 0))
        total += int(((before - base) * (1 - has)).sum())
        order = order[np.argsort(order >> bit, kind="stable")]
    return total


def _dense(values: ArrayLike) -> NDArray[np.int64]:
    return np.unique(np.asarray(values), return_inverse=True)[1].reshape(-1).astype(np.int64)


def _pairs(counts: NDArray[Any]) -> int:
    return int((counts * (counts - 1) // 2).sum())


def bootstrap(measure: Measure, x: Vector, y: Vector, resamples: int, seed: int) -> tuple[float, float]:
    """The 95 % interval of a measure: percentiles over draws of as many pairs, with replacement.

    Draws in which one of the two is constant say nothing; nan where all are such, or there are none.
    """
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        drawn = generator.integers(len(x), size=len(x))
        found.append(measure(x[drawn], y[drawn]))
    finite = [value for value in found if math.isfinite(value)]
    if not finite:
        return math.nan, math.nan
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def among_best(values: Vector, count: int) -> Vector:
    """How much of each value [N] is among the ``count`` largest: 1 or 0, or its share where equals compete."""
    threshold = np.sort(values)[-count]
    above, level = values > threshold, values == threshold
    return np.asarray(above + level * ((count - above.sum()) / level.sum()), dtype=np.float64)


def agreement(scores: ArrayLike, accuracies: ArrayLike, resamples: int = 0, seed: int = 0) -> dict[str, Any]:
    """How well scores, larger = better, rank networks; nan where it cannot be told.

    Args:
        scores: Finite scores [N].
        accuracies: Of the same networks [N].
        resamples: Draws for the 95 % intervals.
        seed: Of these draws.

    Returns:
        ``spearman`` and ``kendall`` with ``low`` and ``high``; both within the best 10 % (``in_best``); the share of
        these best that are among the best by score (``best_found``), and how many of the 64 best by score are in the
        best 5 % (``of_64``; nan where there are no more networks); the accuracy of the best score (``argmax_accuracy``;
        the mean where several share it).
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(accuracies, dtype=np.float64)
    result: dict[str, Any] = {}
    for name, measure in (("spearman", spearman), ("kendall", kendall)):
        low, high = bootstrap(measure, x, y, resamples, seed)
        result[name] = {"value": measure(x, y), "low": low, "high": high}
    if not len(x):
        return {**result, "in_best": {"spearman": math.nan, "kendall": math.nan}} | dict.fromkeys(
            ("best_found", "of_64", "argmax_accuracy"), math.nan
        )
    count = max(1, math.ceil(TOP * len(x)))
    best = among_best(y, count)
    inside = best > 0
    result["in_best"] = {"spearman": spearman(x[inside], y[inside]), "kendall": kendall(x[inside], y[inside])}
    result["best_found"] = float(best @ among_best(x, count)) / count
    few = among_best(y, max(1, math.ceil(TOP / 2 * len(x))))
    result["of_64"] = float(few @ among_best(x, 64)) if len(x) > 64 else math.nan
    result["argmax_accuracy"] = float(y[x == x.max()].mean())
    return result


_QUANTILES = {1: 12.7062, 2: 4.3027, 3: 3.1824, 4: 2.7764}


def student(degrees: int) -> float:
    """The 97.5 % quantile of Student's distribution, to a thousandth."""
    if degrees in _QUANTILES:
        return _QUANTILES[degrees]
    z = 1.959964
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / float(degrees) ** power for power, term in enumerate(terms, 1))


def mean_interval(values: Sequence[float]) -> dict[str, float]:
    """Mean, sample standard deviation and Student's 95 % interval of the mean; nan where there are too few values."""
    if len(values) < 2:
        mean = values[0] if values else math.nan
        return {"mean": mean, "sd": math.nan, "low": math.nan, "high": math.nan}
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    half = student(len(values) - 1) * sd / math.sqrt(len(values))
    return {"mean": mean, "sd": sd, "low": mean - half, "high": mean + half}
