"""Pictures of a search: cells, and heat maps of the importance of every candidate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from zcpt.architecture import Architecture, Choice
from zcpt.search import Decision
from zcpt.space import CellGraph, SearchSpace


def draw_cells(cells: Sequence[CellGraph], title: str = "") -> Figure:
    """Draw cells one below the other.

    The nodes of a cell stand in a row from input to output. An arc above the row is an operation; an arc below the row
    passes a node's output on unchanged.
    """
    figure = Figure(figsize=(9, 2.7 * len(cells) + 0.3), layout="constrained")
    axes = figure.subplots(len(cells), 1, squeeze=False)[:, 0]
    operations = sorted({operation for cell in cells for _, _, operation in cell.arrows if operation})
    colours = {name: colormaps["tab10"](index % 10) for index, name in enumerate(operations)}
    for axis, cell in zip(axes, cells, strict=True):
        place = {node: index for index, node in enumerate(cell.nodes)}
        for source, target, operation in cell.arrows:
            _draw_arc(axis, place[source], place[target], operation, colours.get(operation, "#a0a0a0"))
        for node, x in place.items():
            box = {"boxstyle": "round,pad=0.35", "facecolor": "#f3efe4", "edgecolor": "#555555"}
            label = f"${node}$" if "_" in node else node  # c_{k-2} is TeX
            axis.text(x, 0, label, ha="center", va="center", bbox=box, zorder=4)
        spans = [place[target] - place[source] for source, target, operation in cell.arrows if operation]
        axis.set(xlim=(-0.5, len(place) - 0.5), ylim=(-0.85, _compute_arc_height(max(spans, default=1)) + 0.2))
        axis.set_aspect("equal")
        axis.set_title(cell.name, loc="left", fontsize=11)
        axis.set_axis_off()
    figure.suptitle(title)
    return figure


def draw_architecture(space: SearchSpace, architecture: Architecture, title: str = "") -> Figure:
    """Draw the cells of an architecture; list its kept candidates if the space has no cells."""
    cells = space.cells(architecture)
    if cells:
        return draw_cells(cells, title)
    lines = [f"{choice}:  {', '.join(kept)}" for choice, kept in architecture.kept.items()]
    figure = Figure(figsize=(6, 0.25 * len(lines) + 0.8))
    figure.suptitle(title)
    figure.text(0.05, 0.45, "\n".join(lines), va="center", family="monospace", fontsize=9)
    return figure


def _compute_arc_height(span: int) -> float:
    """Return the height of an arc over ``span`` nodes in node distances: labels of nested arcs must not overlap."""
    return 0.18 + 0.2 * span


def _draw_arc(axis: Axes, start: int, end: int, operation: str, colour: object) -> None:
    height = _compute_arc_height(end - start) if operation else -0.15 * (end - start)
    arc = FancyArrowPatch(
        (start, 0),
        (end, 0),
        connectionstyle=f"arc3,rad={-2 * height / (end - start)}",
        arrowstyle="-|>",
        mutation_scale=11,
        shrinkA=12,
        shrinkB=13,
        color=colour,
        linewidth=1.7 if operation else 0.9,
        zorder=2,
    )
    axis.add_patch(arc)
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
    axis.text(
        (start + end) / 2,
        height,
        operation,
        ha="center",
        va="center",
        fontsize=7.5,
        color=colour,
        bbox=box,
        zorder=3,
    )


def draw_importance(choices: Sequence[Choice], decisions: Iterable[Decision], title: str = "") -> Figure:
    """Draw a heat map for each group of choices: one row a choice, one column a candidate.

    Importances of different choices have different levels. Each row therefore shows differences from its own mean,
    coloured relative to the largest difference of the row. A frame marks the kept candidates. Of a choice that takes
    several rounds, the first one is shown.
    """
    first: dict[str, Decision] = {}
    kept: dict[str, tuple[str, ...]] = {}
    for decision in decisions:
        first.setdefault(decision.choice, decision)
        kept[decision.choice] = decision.kept
    shown = [choice for choice in choices if choice.name in first]
    groups = list(dict.fromkeys(choice.group for choice in shown))
    phases = sorted({choice.phase for choice in shown})
    panels = [[[c for c in shown if (c.group, c.phase) == (g, p)] for p in phases] for g in groups]
    widths = [max(len(c.candidates) for c in shown if c.phase == phase) for phase in phases]
    heights = [max(len(panel) for panel in row) for row in panels]
    figure = Figure(figsize=(2.5 + 0.85 * sum(widths), 1.6 + 0.34 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(groups), len(phases), squeeze=False, width_ratios=widths, height_ratios=heights)
    for axis, panel in zip(axes.flat, (panel for row in panels for panel in row), strict=True):
        _draw_panel(axis, panel, first, kept)
    figure.suptitle(title)
    return figure


def _draw_panel(
    axis: Axes, panel: Sequence[Choice], first: dict[str, Decision], kept: dict[str, tuple[str, ...]]
) -> None:
    columns = list(dict.fromkeys(name for choice in panel for name in choice.candidates))
    values = np.full((len(panel), len(columns)), np.nan)
    for row, choice in enumerate(panel):
        importances = np.array(first[choice.name].importance)
        finite = np.isfinite(importances)
        differences = importances - (importances[finite].mean() if finite.any() else 0)
        largest = max(np.abs(differences[finite]).max(initial=0), 1e-12)
        for name, value in zip(first[choice.name].candidates, differences, strict=True):
            column = columns.index(name)
            values[row, column] = value / largest if np.isfinite(value) else np.nan
            text, colour = f"{value:+.2g}", "white" if abs(values[row, column]) > 0.8 else "black"
            axis.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
            if name in kept[choice.name]:
                axis.add_patch(Rectangle((column - 0.48, row - 0.46), 0.96, 0.92, fill=False, linewidth=1.8))
    axis.imshow(values, cmap="RdYlGn", vmin=-1, vmax=1, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=40, ha="right", fontsize=8)
    axis.set_yticks(range(len(panel)), [choice.name for choice in panel], fontsize=8)
