"""Figures of measurements."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, SymmetricalLogLocator
from numpy.typing import NDArray
from PIL import Image

from zcpt.files import write_atomically

MAX_BYTES = 100_000
"""Largest size of a picture file."""
_LINE_WIDTH = 24
"""Letters in a line of a long name."""


def save_picture(figure: Figure, path: Path) -> None:
    """Write a PNG file of 32 colours, with fewer pixels if it would exceed ``MAX_BYTES``.

    Pictures lie beside their results in repositories, where matplotlib's true colours make them five times as large.
    """
    for dpi in (120, 90, 72, 60, 48):
        image = io.BytesIO()
        figure.savefig(image, dpi=dpi)
        compressed = io.BytesIO()
        Image.open(image).convert("RGB").quantize(32, dither=Image.Dither.NONE).save(compressed, "PNG", optimize=True)
        if len(compressed.getvalue()) <= MAX_BYTES:
            break
    write_atomically(path, compressed.getvalue())


def draw_scatter_plots(accuracies: Sequence[float], scores: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """Draw a panel for each proxy: scores against accuracies in percent, without values that are not finite.

    Scores that span more than three powers of ten, as those of synflow do, are drawn on a logarithmic axis; if some are
    0 or negative, the axis is linear around 0.
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
        _set_scale(axis, x)
        axis.set_title(_wrap(name), fontsize=10 if len(name) <= _LINE_WIDTH else 7)
        axis.tick_params(labelsize=7)
    for axis in list(figure.axes)[len(scores) :]:
        axis.set_axis_off()
    figure.supylabel("accuracy in %", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def _set_scale(axis: Axes, x: NDArray[np.float64]) -> None:
    """Make the axis logarithmic if the values span more than three powers of ten."""
    sizes = np.abs(x[x != 0])
    # With both signs the smallest absolute value may be almost 0, so the largest one is compared with the median.
    typical = np.median(sizes) if len(sizes) and (x < 0).any() else sizes.min(initial=np.inf)
    if len(sizes) and sizes.max() > 1e3 * typical:
        axis.set_xscale("log") if x.min() > 0 else axis.set_xscale("symlog", linthresh=typical)
        locator = SymmetricalLogLocator(base=10, linthresh=typical) if x.min() <= 0 else LogLocator()
        locator.set_params(numticks=4)
        axis.xaxis.set_major_locator(locator)
    else:
        axis.xaxis.set_major_locator(MaxNLocator(4))
        axis.ticklabel_format(axis="x", scilimits=(-3, 4))


def _wrap(name: str) -> str:
    """Return the name of an aggregate in several lines."""
    return textwrap.fill(name.replace("+", "+ "), _LINE_WIDTH).replace("+ ", "+")


def draw_correlations(results: Mapping[str, Mapping[str, Any]], title: str = "") -> Figure:
    """Draw bars of Spearman's and Kendall's correlation of each proxy, the best first, with 95 % intervals."""
    names = sort_by_correlation(results)
    figure = Figure(figsize=(6.5, 1.2 + 0.42 * len(names)), layout="constrained")
    axis = figure.subplots()
    for offset, (measure, colour) in enumerate((("spearman", "#2b5c8a"), ("kendall", "#d08a2e"))):
        for place, name in enumerate(names):
            value, low, high = (_to_float(results[name][measure][key]) for key in ("value", "low", "high"))
            height = place + 0.38 * offset - 0.19
            axis.barh(height, value, 0.36, color=colour, label=measure if place == 0 else None)
            axis.plot([low, high], [height, height], color="black", linewidth=1.2, marker="|", markersize=5)
    axis.set_yticks(range(len(names)), map(_wrap, names), fontsize=8)
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel("rank correlation with trained accuracy,\nsigned by the declared direction", fontsize=8)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def sort_by_correlation(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of the proxies, the highest Spearman first and those without one last."""
    values = {name: _to_float(result["spearman"]["value"]) for name, result in results.items()}
    return sorted(values, key=lambda name: -values[name] if math.isfinite(values[name]) else math.inf)


def draw_heat_maps(
    values: Mapping[str, Mapping[str, Sequence[float]]], candidates: Mapping[str, Sequence[str]], title: str = ""
) -> Figure:
    """Draw a panel for each score of operations: a row for each choice, a column for each candidate.

    A row shows the differences to its mean, scaled by the largest of them; green means keep.
    """
    columns = list(dict.fromkeys(name for names in candidates.values() for name in names))
    panel_columns = min(3, len(values))
    panel_rows = math.ceil(len(values) / panel_columns)
    height = 1.5 + 0.28 * len(candidates)
    width = 1 + panel_columns * (1.2 + 0.5 * len(columns))
    figure = Figure(figsize=(width, panel_rows * height + 0.3), layout="constrained")
    axes = figure.subplots(panel_rows, panel_columns, squeeze=False)
    for axis in list(axes.flat)[len(values) :]:
        axis.set_axis_off()
    for axis, (name, rows) in zip(axes.flat, values.items(), strict=False):
        image = np.full((len(candidates), len(columns)), np.nan)
        for row, choice in enumerate(candidates):
            numbers = np.array([_to_float(value) for value in rows[choice]])
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


def _to_float(value: float | None) -> float:
    return math.nan if value is None else value
