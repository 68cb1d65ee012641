"""Content of the pictures."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.patches import FancyArrowPatch, Rectangle

import zcpt
from tests.conftest import MORE, random_architecture
from zcpt.plot import draw_architecture, draw_cells, draw_importance, draw_importance_summary, scale_importance
from zcpt.search import Decision
from zcpt.space import SearchSpace


def texts(axis: Any) -> Any:
    return [text.get_text() for text in axis.texts]


@pytest.mark.few_spaces(*MORE)
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


def test_every_round_of_the_inputs_has_a_row_with_the_frames_of_that_round() -> None:
    space = zcpt.get_space("darts")
    choice = next(c for c in space.choices if c.name == "normal/node4/inputs")
    rounds = [
        Decision(0, choice.name, ("0", "1", "2", "3"), (), (4.0, 3.0, 2.0, 1.0), ("0", "1", "2"), 0.0),
        Decision(1, choice.name, ("0", "1", "2"), (), (1.0, 3.0, 2.0), ("1", "2"), 0.0),
    ]
    axis = draw_importance(space.choices, rounds).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == [f"{choice.name}, round {n}" for n in (1, 2)]
    frames = [patch for patch in axis.patches if isinstance(patch, Rectangle)]
    places = [(round(frame.get_y() + 0.46), round(frame.get_x() + 0.48)) for frame in frames]
    assert places == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)]
    assert texts(axis) == ["+1.5", "+0.5", "-0.5", "-1.5", "-1", "+1", "+0"]


def test_a_decision_is_shown_with_its_own_numbers_and_not_with_those_of_a_survey() -> None:
    space = zcpt.get_space("nasbench201")
    choice = space.choices[0]
    survey = Decision(0, choice.name, choice.candidates, (), (9.0, 0, 0, 0, 0), choice.candidates, 0.0, "survey")
    axis = draw_importance(
        space.choices, [survey, decision(choice, (1.0, 2.0, 3.0, 4.0, 5.0), ("avg_pool_3x3",))]
    ).axes[0]
    assert texts(axis) == ["-2", "-1", "+0", "+1", "+2"]


def test_excluded_candidates_are_hatched_and_explained() -> None:
    choice = zcpt.get_space("nasbench201").choices[0]
    excluded = replace(decision(choice, (1.0, 2.0, 3.0, 4.0, 5.0), ("none",)), excluded=("avg_pool_3x3",))
    figure = draw_importance([choice], [excluded])
    assert sum(bool(patch.get_hatch()) for patch in figure.axes[0].patches) == 1
    assert "hatched" in figure.get_supxlabel()
    assert "mean of the row" in figure.get_supxlabel()


@pytest.mark.parametrize("value", [0.0, 0.1, -3e20, 1e308, math.nan, math.inf, -math.inf])
def test_equal_importances_have_the_colour_of_the_mean(value: float) -> None:
    shares = scale_importance([value] * 7)
    assert all(abs(share) < 0.01 or math.isnan(share) for share in shares)
    assert math.isfinite(shares[0]) == math.isfinite(value)


@pytest.mark.parametrize("scale", [1e-200, 1e-15, 1.0, 1e15, 1.7e308])
def test_importances_of_any_size_fill_the_colours(scale: float) -> None:
    assert scale_importance([-scale, scale, math.nan, 0.0]) == pytest.approx([-1, 1, math.nan, 0], nan_ok=True)


def test_a_space_of_many_choices_gets_a_picture_of_the_first_ones() -> None:
    choices = [zcpt.Choice(f"c{index}", ("a", "b")) for index in range(300)]
    decisions = [decision(choice, (0.0, 1.0), ("b",)) for choice in choices]
    for figure in (draw_importance(choices, decisions), draw_importance_summary(choices, [decisions])):
        assert "the first 150 of 300 rows" in figure.get_suptitle()


def test_the_summary_names_what_was_kept_most_often() -> None:
    space = zcpt.get_space("nasbench201")
    choice = space.choices[0]
    proposals = [[decision(choice, (1.0, 2.0, 3.0, 4.0, 5.0), (name,))] for name in ("none", "none", "skip_connect")]
    assert texts(draw_importance_summary(space.choices, proposals).axes[0]) == ["none 2x, skip_connect 1x"]
    assert draw_importance_summary(space.choices, [[], []]).axes == []
