"""Agreement of two rankings, and 95 % intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Vector = NDArray[np.float64]
Measure = Callable[[Vector, Vector], float]
TOP_SHARE = 0.1
"""Share of the networks that counts as the best ones."""


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Return Spearman's rank correlation; nan if there are fewer than two values, or one of the two is constant."""
    return _correlate(stats.spearmanr, x, y)


def kendall(x: ArrayLike, y: ArrayLike) -> float:
    """Return Kendall's tau-b, which corrects for ties; nan as for ``spearman``."""
    return _correlate(stats.kendalltau, x, y)


def _correlate(measure: Callable[..., Any], x: ArrayLike, y: ArrayLike) -> float:
    a, b = np.asarray(x), np.asarray(y)
    # SciPy warns or raises here; a constant proxy is an ordinary result of a measurement.
    if len(a) < 2 or (a == a[0]).all() or (b == b[0]).all():
        return math.nan
    return float(measure(a, b).statistic)


def bootstrap_interval(measure: Measure, x: Vector, y: Vector, resamples: int, seed: int) -> tuple[float, float]:
    """Return the 95 % interval of a measure: percentiles over resamples of the pairs, with replacement.

    A resample in which one of the two is constant has no correlation and is left out. The interval is nan if all are
    left out, or there is none.
    """
    if len(x) < 2 or not resamples:
        return math.nan, math.nan
    with warnings.catch_warnings():
        # SciPy's own interval is nan, with a warning, as soon as one resample is; the distribution is what is needed.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        resampled = stats.bootstrap(
            (x, y),
            measure,
            n_resamples=resamples,
            batch=100,  # resamples in memory at a time: tables have up to 15,625 rows
            paired=True,
            vectorized=False,
            method="percentile",
            random_state=np.random.default_rng(seed),
        ).bootstrap_distribution
    finite = resampled[np.isfinite(resampled)]
    if not len(finite):
        return math.nan, math.nan
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def weigh_top(values: Vector, count: int) -> Vector:
    """Return for each value [N] its share of membership in the ``count`` largest.

    It is 1 or 0, except for values that tie for the last places: ``weigh_top([3, 1, 1], 2)`` is ``[1, 0.5, 0.5]``.
    """
    threshold = np.sort(values)[-count]
    above, tied = values > threshold, values == threshold
    return np.asarray(above + tied * ((count - above.sum()) / tied.sum()), dtype=np.float64)


def compare_rankings(scores: ArrayLike, accuracies: ArrayLike, resamples: int = 0, seed: int = 0) -> dict[str, Any]:
    """Measure how well scores rank networks by accuracy.

    Args:
        scores: Finite scores [N]; higher is better.
        accuracies: Accuracies [N] of the same networks.
        resamples: Resamples of the bootstrap that gives the 95 % intervals.
        seed: Seed of the bootstrap.

    Returns:
        ``spearman`` and ``kendall``, each with ``value``, ``low`` and ``high``; both correlations within the best 10 %
        (``in_best``); the share of these best that are among the best 10 % by score (``best_found``); how many of the
        64 best by score are among the best 5 % (``of_64``; nan if there are at most 64 networks); the accuracy of the
        best score (``argmax_accuracy``; the mean if several share it). Undefined values are nan.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(accuracies, dtype=np.float64)
    result: dict[str, Any] = {}
    for name, measure in (("spearman", spearman), ("kendall", kendall)):
        low, high = bootstrap_interval(measure, x, y, resamples, seed)
        result[name] = {"value": measure(x, y), "low": low, "high": high}
    if not len(x):
        return {**result, "in_best": {"spearman": math.nan, "kendall": math.nan}} | dict.fromkeys(
            ("best_found", "of_64", "argmax_accuracy"), math.nan
        )
    count = max(1, math.ceil(TOP_SHARE * len(x)))
    top = weigh_top(y, count)
    is_top = top > 0
    result["in_best"] = {"spearman": spearman(x[is_top], y[is_top]), "kendall": kendall(x[is_top], y[is_top])}
    result["best_found"] = float(top @ weigh_top(x, count)) / count
    best_5_percent = weigh_top(y, max(1, math.ceil(TOP_SHARE / 2 * len(x))))
    result["of_64"] = float(best_5_percent @ weigh_top(x, 64)) if len(x) > 64 else math.nan
    result["argmax_accuracy"] = float(y[x == x.max()].mean())
    return result


def compute_mean_interval(values: Sequence[float]) -> dict[str, float]:
    """Return mean, sample standard deviation and Student's 95 % interval of the mean; nan if values are too few."""
    if len(values) < 2:
        mean = values[0] if values else math.nan
        return {"mean": mean, "sd": math.nan, "low": math.nan, "high": math.nan}
    mean, sd = float(np.mean(values)), float(np.std(values, ddof=1))
    half_width = float(stats.t.ppf(0.975, len(values) - 1)) * sd / math.sqrt(len(values))
    return {"mean": mean, "sd": sd, "low": mean - half_width, "high": mean + half_width}
