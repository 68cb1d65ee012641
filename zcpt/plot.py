"""Pictures of a search: cells, and the importance of every candidate."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from zcpt.architecture import Choice
from zcpt.cell_pictures import draw_architecture, draw_cells, style_operations
from zcpt.figures import DIFFERENCES, MISSING, Picture, Style, choose_text_colour, draw_plain_text
from zcpt.search import Decision

__all__ = [
    "average_importance",
    "draw_architecture",
    "draw_cells",
    "draw_importance",
    "draw_importance_summary",
    "scale_importance",
]

_ROW_HEIGHT = 0.34
"""Height of a row of a heat map in inches."""
_MAX_ROWS = 150
"""Largest number of rows of a picture: more could not be read, and would take a minute to draw."""


def scale_importance(importance: Sequence[float]) -> NDArray[np.float64]:
    """Return differences from the mean of the finite values, divided by the largest of them: -1 to 1, or NaN."""
    values = np.array(importance, dtype=np.float64)
    finite = np.isfinite(values)
    if np.abs(values[finite]).max(initial=0) > 1e300:
        values = values / 1e10  # or their sum would overflow
    differences = np.where(finite, values - _average_finite(values), np.nan)
    # Differences between equal values are rounding errors, and are shown as none.
    rounding = 1e-12 * np.abs(values[finite]).max(initial=0)
    return np.asarray(differences / max(np.abs(differences[finite]).max(initial=0), rounding, 1e-300))


def _average_finite(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.sum(finite / len(finite))) if len(finite) else 0.0


@draw_plain_text
def draw_importance(choices: Sequence[Choice], decisions: Iterable[Decision], title: str = "") -> Picture:
    """Draw the decisions of a proposal as a heat map: one row a decision, one column a candidate.

    Importances of different choices have different levels. Each row therefore shows differences from its own mean,
    coloured relative to the largest difference of the row. A frame marks the candidates that the decision of this row
    kept. A choice that keeps several candidates takes several rounds, and has a row for each. Surveys, which decide
    nothing, are left out.

    Args:
        choices: All choices of the space.
        decisions: Decisions of one proposal.
        title: Title of the picture.
    """
    rows = _find_rounds(choices, decisions)
    left_out = _describe_left_out(len(rows))
    rows = rows[:_MAX_ROWS]
    groups = list(dict.fromkeys(choice.group for choice, _ in rows))
    phases = sorted({choice.phase for choice, _ in rows})
    panels = [[[row for row in rows if (row[0].group, row[0].phase) == (g, p)] for p in phases] for g in groups]
    widths = [max(len(c.candidates) for c, _ in rows if c.phase == phase) for phase in phases]
    heights = [max(len(panel) for panel in row) for row in panels]
    width = 3.2 + 0.85 * sum(widths)
    picture = Picture(width, 2.3 + _ROW_HEIGHT * sum(heights))
    picture.suptitle(title + left_out)
    if not rows:
        return picture
    axes = picture.subplots(len(groups), len(phases), squeeze=False, width_ratios=widths, height_ratios=heights)
    styles = style_operations(choices)
    for axis, panel in zip(axes.flat, (panel for row in panels for panel in row), strict=True):
        image = _draw_panel(axis, panel, styles)
    bar = picture.colorbar(image, ax=axes, location="bottom", aspect=40, fraction=0.05, ticks=[-1, 0, 1])
    bar.set_label("difference as a share of the largest in the row", fontsize=8)
    bar.ax.set_xticklabels(["-1: least important", "0: mean of the row", "1: most important"], fontsize=8)
    picture.supxlabel(_explain(decision for _, decision in rows), fontsize=8)
    return picture


def _describe_left_out(rows: int) -> str:
    return f" (the first {_MAX_ROWS} of {rows} rows)" if rows > _MAX_ROWS else ""


def _find_rounds(choices: Sequence[Choice], decisions: Iterable[Decision]) -> list[tuple[Choice, Decision]]:
    """Return the decisions that dropped candidates, with their choice, in the order of the choices."""
    deciding: dict[str, list[Decision]] = {}
    for decision in decisions:
        if decision.purpose != "survey":
            deciding.setdefault(decision.choice, []).append(decision)
    return [(choice, decision) for choice in choices for decision in deciding.get(choice.name, ())]


def _explain(decisions: Iterable[Decision]) -> str:
    lines = [
        "number: what removing the candidate costs the proxy, as the difference from the mean of the row",
        "frame: kept by the decision of this row",
    ]
    if any(decision.excluded for decision in decisions):
        lines.append("hatched: excluded by the budgets; if a row frames several, this one had to stay")
    return "\n".join(textwrap.fill(line, 100) for line in lines)


def _draw_panel(axis: Axes, rows: Sequence[tuple[Choice, Decision]], styles: Mapping[str, Style]) -> AxesImage:
    columns = list(dict.fromkeys(name for choice, _ in rows for name in choice.candidates))
    values = np.full((len(rows), len(columns)), np.nan)
    for row, (_, decision) in enumerate(rows):
        importances = np.array(decision.importance)
        level = _average_finite(importances)
        scaled = scale_importance(decision.importance)
        for name, importance, share in zip(decision.candidates, importances, scaled, strict=True):
            column = columns.index(name)
            values[row, column] = share
            text, colour = f"{float(importance) - level:+.2g}", choose_text_colour(share)
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
            place = (column - 0.48, row - 0.46)
            if name in decision.excluded:
                axis.add_patch(Rectangle(place, 0.96, 0.92, fill=False, linewidth=0, hatch="////", alpha=0.4))
            if name in decision.kept:
                axis.add_patch(Rectangle(place, 0.96, 0.92, fill=False, linewidth=1.8))
    colours = colormaps[DIFFERENCES].with_extremes(bad=MISSING)
    image = axis.imshow(values, cmap=colours, vmin=-1, vmax=1, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right", rotation_mode="anchor", fontsize=8)
    axis.set_yticks(range(len(rows)), _name_rows(rows), fontsize=8)
    for column, name in enumerate(columns):
        if name in styles:  # the mark of the operation in all pictures; inputs have none
            above = axis.get_xaxis_transform() + ScaledTranslation(0, 5 / 72, axis.figure.dpi_scale_trans)
            colour, marker = styles[name].colour, styles[name].marker
            axis.plot(column, 1.0, color=colour, marker=marker, markersize=6, transform=above, clip_on=False)
    return image


def _name_rows(rows: Sequence[tuple[Choice, Decision]]) -> list[str]:
    """Return the names of the choices, with the number of the round where a choice has several."""
    total, names = Counter(choice.name for choice, _ in rows), []
    seen: Counter[str] = Counter()
    for choice, _ in rows:
        seen[choice.name] += 1
        names.append(f"{choice.name}, round {seen[choice.name]}" if total[choice.name] > 1 else choice.name)
    return names


def average_importance(choices: Sequence[Choice], decisions: Iterable[Decision]) -> dict[str, float]:
    """Average the scaled importances of each operation over the choices of one proposal: operation -> -1 to 1.

    Only the first decision of a choice counts, which scores all of its candidates.
    """
    first = _find_first_decisions([choice for choice in choices if choice.phase == 0], decisions)
    operations = dict.fromkeys(name for decision in first.values() for name in decision.candidates)
    shares = {name: _collect_shares(list(first.values()), name) for name in operations}
    return {name: sum(values) / len(values) for name, values in shares.items() if values}


@draw_plain_text
def draw_importance_summary(
    choices: Sequence[Choice], proposals: Sequence[Sequence[Decision]], title: str = ""
) -> Picture:
    """Draw where each operation stood on every choice over all proposals: a mark at its mean, a line over its range.

    Args:
        choices: All choices of the space.
        proposals: Decisions of each proposal.
        title: Title of the picture.
    """
    firsts = [_find_first_decisions(choices, decisions) for decisions in proposals]
    rows = [choice for choice in choices if choice.phase == 0 and any(choice.name in first for first in firsts)]
    left_out = _describe_left_out(len(rows))
    rows = rows[:_MAX_ROWS]
    styles = style_operations(choices)
    picture = Picture(9, 2.0 + 0.32 * len(rows))
    picture.suptitle(title + left_out)
    if not rows:
        return picture
    axis = picture.subplots()
    for row, choice in enumerate(rows):
        decisions = [first[choice.name] for first in firsts if choice.name in first]
        for place, candidate in enumerate(choice.selectable):
            height = row + 0.7 * ((place + 0.5) / len(choice.selectable) - 0.5)
            _draw_range(axis, height, _collect_shares(decisions, candidate), styles[candidate])
        kept = Counter(candidate for decision in decisions for candidate in decision.kept)
        text = ", ".join(f"{candidate} {count}x" for candidate, count in kept.most_common(2))
        axis.text(1.08, row, text, va="center", fontsize=7)
    for candidate in dict.fromkeys(name for choice in rows for name in choice.selectable):
        axis.plot([], [], styles[candidate].marker, color=styles[candidate].colour, label=candidate)
    axis.set_yticks(range(len(rows)), [choice.name for choice in rows], fontsize=8)
    axis.set(ylim=(len(rows) - 0.5, -0.5), xlim=(-1.05, 1.05))
    axis.hlines(np.arange(len(rows) - 1) + 0.5, -1.05, 1.05, color="#dddddd", linewidth=0.7)
    axis.axvline(0, color="#999999", linewidth=0.7)
    axis.set_xlabel("importance: difference from the mean of the choice, as a share of the largest", fontsize=8)
    axis.set_title("kept most often", loc="right", fontsize=8)
    picture.legend(loc="outside lower center", ncols=4, fontsize=8)
    return picture


def _find_first_decisions(choices: Sequence[Choice], decisions: Iterable[Decision]) -> dict[str, Decision]:
    """Return the first deciding round of each choice, in which all of its candidates are scored."""
    first: dict[str, Decision] = {}
    for choice, decision in _find_rounds(choices, decisions):
        first.setdefault(choice.name, decision)
    return first


def _collect_shares(decisions: Sequence[Decision], candidate: str) -> list[float]:
    """Return the scaled importances of a candidate that are finite."""
    shares = [
        scale_importance(decision.importance)[decision.candidates.index(candidate)]
        for decision in decisions
        if candidate in decision.candidates
    ]
    return [float(share) for share in shares if math.isfinite(share)]


def _draw_range(axis: Axes, height: float, values: Sequence[float], style: Style) -> None:
    if values:
        axis.plot([min(values), max(values)], [height, height], color=style.colour, linewidth=1)
        axis.plot(sum(values) / len(values), height, style.marker, color=style.colour, markersize=5)
