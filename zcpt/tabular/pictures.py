"""Figures of measurements."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, SymmetricalLogLocator
from numpy.typing import NDArray
from PIL import Image

from zcpt.figures import DIFFERENCES, MISSING, choose_text_colour, encode_png
from zcpt.files import write_atomically
from zcpt.plot import scale_importance
from zcpt.tabular.measures import spearman

MAX_BYTES = 100_000
"""Largest size of a picture file."""
_BLUE, _ORANGE = "#2b5c8a", "#d08a2e"
_LINE_WIDTH = 24
"""Letters in a line of a long name."""


def save_picture(figure: Figure, path: Path) -> None:
    """Write a PNG file of 64 colours, with fewer pixels if it would exceed ``MAX_BYTES``.

    Pictures lie beside their results in repositories, where matplotlib's true colours make them five times as large.
    """
    for dpi in (120, 90, 72, 60, 48):
        compressed = io.BytesIO()
        Image.open(io.BytesIO(encode_png(figure, dpi)), formats=["PNG"]).convert("RGB").quantize(
            64, dither=Image.Dither.NONE
        ).save(compressed, "PNG", optimize=True)
        if len(compressed.getvalue()) <= MAX_BYTES:
            break
    write_atomically(path, compressed.getvalue())


def draw_scatter_plots(
    accuracies: Sequence[float],
    scores: Mapping[str, Sequence[float]],
    title: str = "",
    higher_is_better: Mapping[str, bool] | None = None,
    best: float = 1.0,
) -> Figure:
    """Draw a panel for each proxy: scores against accuracies in percent, and Spearman's correlation as the title.

    All panels have the same range of accuracies. Scores that span more than three powers of ten, as those of synflow
    do, are drawn on a logarithmic axis; if some are 0 or negative, the axis is linear around 0. Networks without a
    finite score are crosses at the left edge.

    Args:
        accuracies: Accuracies [N].
        scores: Scores [N] by the name of the proxy.
        title: Title of the figure.
        higher_is_better: Direction of each proxy, which signs the correlation; without it, higher scores are better.
        best: Share of the networks, those of the highest accuracies, that is drawn: in the whole of a benchmark they
            lie on top of each other.
    """
    columns = min(4, len(scores))
    rows = math.ceil(len(scores) / columns)
    figure = Figure(figsize=(3.2 * columns, 2.8 * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).flat
    every = np.array(accuracies, dtype=np.float64)
    drawn = every >= np.quantile(every, 1 - best)
    size = float(np.clip(1500 / max(1, drawn.sum()), 5, 20))  # a few small points are hard to see
    for axis, (name, values) in zip(axes, scores.items(), strict=False):
        x, y = np.array(values, dtype=np.float64)[drawn], every[drawn]
        finite = np.isfinite(x)
        axis.scatter(x[finite], y[finite], s=size, alpha=0.5, linewidths=0, color=_BLUE, rasterized=True)
        _set_scale(axis, x[finite])
        if not finite.all():
            edge = np.full((~finite).sum(), 0.02)
            axis.scatter(edge, y[~finite], s=12, marker="x", color=_ORANGE, transform=axis.get_yaxis_transform())
        sign, direction = (1, "") if (higher_is_better or {}).get(name, True) else (-1, " (lower is better)")
        axis.set_title(
            f"{_wrap(name)}{direction}\n{_describe_points(sign * x[finite], y[finite], (~finite).sum())}",
            fontsize=9 if len(name) <= _LINE_WIDTH else 7,
        )
        axis.tick_params(labelsize=7, labelleft=True)
        axis.xaxis.get_offset_text().set_fontsize(7)  # the power of ten, which tick_params leaves as it is
    for axis in list(figure.axes)[len(scores) :]:
        axis.set_axis_off()
    figure.supxlabel("score", fontsize=9)
    figure.supylabel("accuracy in %", fontsize=9)
    figure.suptitle(title, fontsize=10)
    return figure


def _describe_points(x: NDArray[np.float64], y: NDArray[np.float64], failed: int) -> str:
    """Return Spearman's correlation, and the number of networks that are drawn as crosses."""
    correlation = spearman(x, y)
    text = "no correlation" if math.isnan(correlation) else f"Spearman {correlation:.2f}"
    return text + (f", {failed} without a score (x)" if failed else "")


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
    labels = [_wrap(name) for name in names]
    # A row has the height of the label with the most lines, so that labels do not overlap.
    row_height = max(0.42, 0.15 * max(label.count("\n") + 1 for label in labels))
    figure = Figure(figsize=(6.5, 1.2 + row_height * len(names)), layout="constrained")
    axis = figure.subplots()
    for offset, (measure, colour) in enumerate((("spearman", _BLUE), ("kendall", _ORANGE))):
        for place, name in enumerate(names):
            value, low, high = (_to_float(results[name][measure][key]) for key in ("value", "low", "high"))
            height = place + 0.38 * offset - 0.19
            axis.barh(height, value, 0.36, color=colour, label=measure.title() if place == 0 else None)
            axis.plot([low, high], [height, height], color="black", linewidth=1.2, marker="|", markersize=5)
    axis.set_yticks(range(len(names)), labels, fontsize=8)
    axis.set_ylabel("proxy", fontsize=8)
    axis.set_ylim(len(names) - 0.4, -0.6)  # the best first
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

    Scores of different choices have different levels and units. A cell therefore shows the difference to the mean of
    its row, divided by the largest difference of the row, as a number and as a colour; ``-`` is no finite score.
    """
    colours = colormaps[DIFFERENCES].with_extremes(bad=MISSING)
    columns = list(dict.fromkeys(name for names in candidates.values() for name in names))
    panel_columns = min(3, len(values))
    panel_rows = math.ceil(len(values) / panel_columns)
    height = 1.5 + 0.28 * len(candidates)
    width = 1.8 + panel_columns * (1.2 + 0.5 * len(columns))
    figure = Figure(figsize=(width, panel_rows * height + 0.3), layout="constrained")
    axes = figure.subplots(panel_rows, panel_columns, squeeze=False)
    for axis in list(axes.flat)[len(values) :]:
        axis.set_axis_off()
    for axis, (name, rows) in zip(axes.flat, values.items(), strict=False):
        image = np.full((len(candidates), len(columns)), np.nan)
        for row, choice in enumerate(candidates):
            scaled = scale_importance([_to_float(value) for value in rows[choice]])
            for candidate, value in zip(candidates[choice], scaled, strict=True):
                column = columns.index(candidate)
                image[row, column] = value
                text, colour = ("-", "black") if np.isnan(value) else (f"{value:+.2f}", choose_text_colour(value))
                axis.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
        heat_map = axis.imshow(image, cmap=colours, vmin=-1, vmax=1, aspect="auto")
        axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor", fontsize=7)
        axis.set_yticks(range(len(candidates)), list(candidates), fontsize=7)
        axis.set_title(name, fontsize=9)
    bar = figure.colorbar(heat_map, ax=axes, shrink=0.8, aspect=30)
    bar.set_label("difference to the mean of the row / largest one\nblue: keep, red: drop", fontsize=7)
    bar.ax.tick_params(labelsize=7)
    figure.supxlabel("operation", fontsize=8)
    figure.supylabel("choice", fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def _to_float(value: float | None) -> float:
    return math.nan if value is None else value
