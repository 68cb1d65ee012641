"""Pictures of architectures: cells as graphs, chains as lists."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch

from zcpt.architecture import Architecture, Choice
from zcpt.figures import MISSING, Picture, Style, choose_styles, draw_plain_text
from zcpt.space import CellGraph, SearchSpace

_UNSTYLED = Style("#888888", "-", "o")
_FORMULA = re.compile(r"[A-Za-z]_(\w|\{[\w+-]+\})")
"""Matches names of nodes such as c_{k-2}, which are TeX."""
_MAX_LINES = 150
"""Largest number of choices that a list shows."""


def style_operations(choices: Sequence[Choice]) -> dict[str, Style]:
    """Return the style of every operation of a space, the same in all of its pictures: candidate -> style."""
    return choose_styles(name for choice in choices if choice.phase == 0 for name in choice.candidates)


@draw_plain_text
def draw_cells(cells: Sequence[CellGraph], title: str = "", styles: Mapping[str, Style] | None = None) -> Picture:
    """Draw cells one below the other.

    The nodes of a cell stand in a row from input to output. An arc above the row is an operation; an arc below the row
    passes a node's output on unchanged.

    Args:
        cells: The cells.
        title: Title of the picture.
        styles: Operation -> style; None chooses styles for the operations of these cells.
    """
    labels = sorted({operation for cell in cells for _, _, operation in cell.arrows if operation})
    styles = choose_styles(labels) if styles is None else styles
    nodes = max(len(cell.nodes) for cell in cells)
    above = max(_compute_arc_height(_find_span(cell, True)) for cell in cells)
    below = max(0.15 * _find_span(cell, False) for cell in cells)
    distance = max(1.25, 0.5 + 0.062 * max(map(len, labels), default=0))  # inches between nodes: labels must fit
    height = distance * (above + below + 0.55)
    picture = Picture(distance * nodes + 0.2, height * len(cells) + (0.4 if title else 0.1))
    axes = picture.subplots(len(cells), 1, squeeze=False)[:, 0]
    for axis, cell in zip(axes, cells, strict=True):
        place = {node: index for index, node in enumerate(cell.nodes)}
        for source, target, operation in cell.arrows:
            _draw_arc(axis, place[source], place[target], operation, styles.get(operation, _UNSTYLED))
        for node, x in place.items():
            style = _find_node_style(node, styles)
            box = {"boxstyle": "round,pad=0.35", "facecolor": "#f3efe4", "edgecolor": style.colour, "linewidth": 1.5}
            is_formula = _FORMULA.fullmatch(node) is not None
            label = f"${node}$" if is_formula else node
            axis.text(x, 0, label, ha="center", va="center", bbox=box, zorder=4, parse_math=is_formula)
        # All cells have the same limits, and so the same scale.
        axis.set(xlim=(-0.5, nodes - 0.5), ylim=(-below - 0.25, above + 0.2))
        axis.set_aspect("equal", anchor="W")
        axis.set_title(cell.name, loc="left", fontsize=11)
        axis.set_axis_off()
    picture.suptitle(title)
    return picture


@draw_plain_text
def draw_architecture(space: SearchSpace, architecture: Architecture, title: str = "") -> Picture:
    """Draw the cells of an architecture; list its kept candidates if the space has no cells."""
    styles = style_operations(space.choices)
    cells = space.cells(architecture)
    return draw_cells(cells, title, styles) if cells else _draw_list(architecture, title, styles)


def _draw_list(architecture: Architecture, title: str, styles: Mapping[str, Style]) -> Picture:
    """Draw a line for each choice: its name, and a coloured field with the kept candidate."""
    lines = [(choice, ", ".join(kept)) for choice, kept in architecture.kept.items()]
    if len(lines) > _MAX_LINES:
        lines = [*lines[: _MAX_LINES - 1], (f"and {len(lines) - _MAX_LINES + 1} more", "")]
    names, labels = (max(len(line[part]) for line in lines) for part in (0, 1))
    picture = Picture(0.6 + 0.085 * (names + labels), 0.25 * len(lines) + (0.5 if title else 0.2))
    axis = picture.subplots()
    axis.set(xlim=(0, names + labels + 3), ylim=(len(lines) - 0.5, -0.5))
    axis.set_axis_off()
    for row, (choice, kept) in enumerate(lines):
        axis.text(0, row, choice, va="center", family="monospace", fontsize=9)
        colour = styles[kept].colour if kept in styles else MISSING
        axis.plot([names + 1] * 2, [row - 0.4, row + 0.4], color=colour, linewidth=5, solid_capstyle="butt")
        axis.text(names + 2, row, kept, va="center", family="monospace", fontsize=9)
    picture.suptitle(title)
    return picture


def _find_node_style(node: str, styles: Mapping[str, Style]) -> Style:
    """Return the style of the operation in the second line of a node's name, which may be shortened."""
    operation = node.partition("\n")[2]
    found = (style for name, style in styles.items() if operation and name.startswith(operation))
    return next(found, _UNSTYLED)


def _find_span(cell: CellGraph, has_operation: bool) -> int:
    """Return over how many nodes the longest arc with, or without, an operation goes."""
    place = {node: index for index, node in enumerate(cell.nodes)}
    spans = [place[target] - place[source] for source, target, name in cell.arrows if bool(name) == has_operation]
    return max(spans, default=0)


def _compute_arc_height(span: int) -> float:
    """Return the height of an arc over ``span`` nodes in node distances: labels of nested arcs must not overlap."""
    return 0.18 + 0.2 * span


def _draw_arc(axis: Axes, start: int, end: int, operation: str, style: Style) -> None:
    height = _compute_arc_height(end - start) if operation else -0.15 * (end - start)
    arc = FancyArrowPatch(
        (start, 0),
        (end, 0),
        connectionstyle=f"arc3,rad={-2 * height / (end - start)}",
        arrowstyle="-|>",
        mutation_scale=11,
        shrinkA=12,
        shrinkB=13,
        color=style.colour,
        linestyle=style.line if operation else "-",
        linewidth=1.7 if operation else 0.9,
        zorder=2,
    )
    axis.add_patch(arc)
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": style.colour, "linewidth": 0.8}
    axis.text(
        (start + end) / 2,
        height,
        operation,
        ha="center",
        va="center",
        fontsize=7.5,
        bbox=box if operation else None,
        zorder=3,
    )
