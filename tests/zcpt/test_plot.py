"""Content of the pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from matplotlib.patches import FancyArrowPatch, Rectangle

import zcpt
from tests.conftest import random_architecture
from zcpt.plot import draw_architecture, draw_cells, draw_importance
from zcpt.search import Decision
from zcpt.space import SearchSpace


def texts(axis: Any) -> Any:
    return [text.get_text() for text in axis.texts]


def test_a_cell_shows_every_node_and_an_arrow_with_a_label_for_every_operation(
    space: SearchSpace, tmp_path: Path
) -> None:
    architecture = random_architecture(space, 0)
    cells = space.cells(architecture)
    if not cells:
        pytest.skip("the space has no pictures of cells")
    figure = draw_cells(cells, "a title")
    assert len(figure.axes) == len(cells)
    for axis, cell in zip(figure.axes, cells, strict=True):
        arrows = [patch for patch in axis.patches if isinstance(patch, FancyArrowPatch)]
        assert len(arrows) == len(cell.arrows)
        nodes = {f"${node}$" if "_" in node else node for node in cell.nodes}
        labels = sorted(label for _, _, label in cell.arrows if label)
        assert sorted(text for text in texts(axis) if text and text not in nodes) == labels
        assert len(texts(axis)) == len(cell.nodes) + len(cell.arrows)
    figure.savefig(tmp_path / "cells.png")
    assert (tmp_path / "cells.png").stat().st_size > 5000


def decision(choice: Any, importances: Any, kept: Any) -> Any:
    return Decision(0, choice.name, choice.candidates, importances, importances, kept, 0.0)


def test_a_heat_map_shows_differences_to_the_mean_of_each_edge_and_frames_what_was_kept() -> None:
    space = zcpt.get_space("nasbench201")
    first, second = space.choices[:2]
    decisions = [
        decision(first, (-10.0, -12.0, -14.0, -10.0, -14.0), ("none",)),
        decision(second, (-1.0, -math.inf, -3.0, -2.0, -2.0), ("none",)),
    ]
    axis, colours = draw_importance(space.choices, decisions, "t").axes
    assert colours.get_xlabel() == "difference as a share of the largest in the row"
    assert texts(axis) == ["+2", "+0", "-2", "+2", "-2", "+1", "-inf", "-1", "+0", "+0"]
    assert [label.get_text() for label in axis.get_yticklabels()] == [first.name, second.name]
    frames = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    assert [round(frame.get_x()) for frame in frames] == [0, 0]
    values = axis.images[0].get_array()
    assert values is not None
    assert values[0].tolist() == [1, 0, -1, 1, -1]


def test_darts_has_axes_for_each_cell_and_phase() -> None:
    space = zcpt.get_space("darts")
    decisions = [
        decision(c, tuple(-float(i) for i in range(len(c.candidates))), c.candidates[: c.keep]) for c in space.choices
    ]
    figure = draw_importance(space.choices, decisions)
    assert [len(axis.get_yticklabels()) for axis in figure.axes[:-1]] == [14, 3, 14, 3]
    assert [label.get_text() for label in figure.axes[3].get_xticklabels()] == list("01234")


def test_spaces_without_cells_list_the_kept_candidates() -> None:
    space = zcpt.get_space("toy")
    figure = draw_architecture(space, space.parse("op0=conv, op1=skip, op2=ghost"), "a title")
    assert texts(figure.axes[0]) == ["op0", "conv", "op1", "skip", "op2", "ghost"]
