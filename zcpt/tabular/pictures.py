"""Pictures of measurements."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, SymmetricalLogLocator
from numpy.typing import NDArray

_LONG = 24  # letters


def scatter(accuracies: Sequence[float], scores: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """A panel for each proxy: scores against accuracies in percent. What is not finite is left out.

    Scores of proxies such as synflow span tens of powers of ten, and may be 0: those that do are drawn on a logarithmic
    axis, around 0 on a linear one.
    """
    columns = min(4, len(scores))
    rows = math.ceil(len(scores) / columns)
    figure = Figure(figsize=(3.2 * columns, 2.8 * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, (name, values) in zip(axes, scores.items(), strict=False):
        x, y = np.array(values, dtype=np.float64), np.array(accuracies)
        finite = np.isfinite(x)
        x, y = x[finite], y[finite]
        axis.scatter(x, y, s=5, alpha=0.5, linewidths=0, color="#2b5c8a", rasterized=True)
        _scale(axis, x)
        axis.set_title(_wrapped(name), fontsize=10 if len(name) <= _LONG else 7)
        axis.tick_params(labelsize=7)
    for axis in list(figure.axes)[len(scores) :]:
        axis.set_axis_off()
    figure.supylabel("accuracy in %", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def _scale(axis: Axes, x: NDArray[np.float64]) -> None:
    sizes = np.abs(x[x != 0])
    typical = np.median(sizes) if len(sizes) and (x < 0).any() else sizes.min(initial=np.inf)
    if len(sizes) and sizes.max() > 1e3 * typical:
        axis.set_xscale("log") if x.min() > 0 else axis.set_xscale("symlog", linthresh=typical)
        numbers = SymmetricalLogLocator(base=10, linthresh=typical) if x.min() <= 0 else LogLocator()
        numbers.set_params(numticks=4)
        axis.xaxis.set_major_locator(numbers)
    else:
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.ticklabel_format(axis="x", scilimits=(-3, 4))


def _wrapped(name: str) -> str:
    """The name of an aggregate in several lines."""
    return textwrap.fill(name.replace("+", "+ "), _LONG).replace("+ ", "+")


def bars(results: Mapping[str, Mapping[str, Any]], title: str = "") -> Figure:
    """Spearman's and Kendall's correlation of each proxy, the best one first, with their 95 % intervals."""
    names = by_correlation(results)
    figure = Figure(figsize=(6.5, 1.2 + 0.42 * len(names)), layout="constrained")
    axis = figure.subplots()
    for offset, (measure, colour) in enumerate((("spearman", "#2b5c8a"), ("kendall", "#d08a2e"))):
        for place, name in enumerate(names):
            value, low, high = (_number(results[name][measure][key]) for key in ("value", "low", "high"))
            height = place + 0.38 * offset - 0.19
            axis.barh(height, value, 0.36, color=colour, label=measure if place == 0 else None)
            axis.plot([low, high], [height, height], color="black", linewidth=1.2, marker="|", markersize=5)
    axis.set_yticks(range(len(names)), map(_wrapped, names), fontsize=8)
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel("rank correlation with trained accuracy,\nsigned by the declared direction", fontsize=8)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def by_correlation(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names of the proxies, the highest Spearman first and those without one last."""
    found = {name: _number(result["spearman"]["value"]) for name, result in results.items()}
    return sorted(found, key=lambda name: -found[name] if math.isfinite(found[name]) else math.inf)


def heat_maps(
    values: Mapping[str, Mapping[str, Sequence[float]]], candidates: Mapping[str, Sequence[str]], title: str = ""
) -> Figure:
    """A panel for each score of operations: a row for each choice, a column for each candidate.

    Each row shows the differences to its own mean, scaled by the largest of them: green is to be kept.
    """
    columns = list(dict.fromkeys(name for names in candidates.values() for name in names))
    across = min(3, len(values))
    down = math.ceil(len(values) / across)
    height = 1.5 + 0.28 * len(candidates)
    figure = Figure(figsize=(1 + across * (1.2 + 0.5 * len(columns)), down * height + 0.3), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False)
    for axis in list(axes.flat)[len(values) :]:
        axis.set_axis_off()
    for axis, (name, rows) in zip(axes.flat, values.items(), strict=False):
        image = np.full((len(candidates), len(columns)), np.nan)
        for row, choice in enumerate(candidates):
            numbers = np.array([_number(value) for value in rows[choice]])
            finite = np.isfinite(numbers)
            difference = numbers - (numbers[finite].mean() if finite.any() else 0)
            scaled = difference / max(np.abs(difference[finite]).max(initial=0), 1e-12)
            for candidate, value in zip(candidates[choice], scaled, strict=True):
                image[row, columns.index(candidate)] = value if np.isfinite(value) else np.nan
        axis.imshow(image, cmap="RdYlGn", vmin=-1, vmax=1, aspect="auto")
        axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right", fontsize=7)
        axis.set_yticks(range(len(candidates)), list(candidates), fontsize=7)
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def _number(value: float | None) -> float:
    return math.nan if value is None else value
