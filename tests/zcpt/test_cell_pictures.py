"""Pictures of cells: names of any kind, and one look for each operation."""

from __future__ import annotations

import warnings
from itertools import pairwise

import pytest
from matplotlib.patches import FancyArrowPatch

import zcpt
from tests.conftest import random_architecture
from zcpt.cell_pictures import draw_architecture, draw_cells, style_operations
from zcpt.figures import choose_styles, encode_png
from zcpt.space import CellGraph

NAMES = [
    "a$b$c$", "$\\frac{", "x" * 80, "名前", "a\nb", "<b>", "_", "c_{k-2}", "node_1_2", "my_node", "%s", "{}",
    "\\alpha", "x_",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_node_cell_or_operation_can_be_drawn(name: str) -> None:
    cell = CellGraph(name, ("in", name, "out"), (("in", name, name), (name, "out", ""), ("in", "out", name)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode_png(draw_cells([cell], name)).startswith(b"\x89PNG")


def test_a_cell_without_arrows_can_be_drawn() -> None:
    assert encode_png(draw_cells([CellGraph("cell", ("in", "out"), ())]))


def test_neighbours_differ_in_colour_line_and_marker_and_no_look_occurs_twice() -> None:
    styles = choose_styles(str(index) for index in range(32))
    assert len(set(styles.values())) == 32
    for before, after in pairwise(styles.values()):
        assert all(a != b for a, b in zip(before, after, strict=True))


def test_an_operation_has_the_same_colour_in_every_picture() -> None:
    space = zcpt.get_space("darts")
    styles = style_operations(space.choices)
    seen: dict[str, set[object]] = {}
    for seed in range(4):
        architecture = random_architecture(space, seed)
        for axis, cell in zip(draw_architecture(space, architecture).axes, space.cells(architecture), strict=True):
            arcs = [patch for patch in axis.patches if isinstance(patch, FancyArrowPatch)]
            for arc, (_, _, operation) in zip(arcs, cell.arrows, strict=True):
                if operation:
                    seen.setdefault(operation, set()).add(arc.get_edgecolor())
    assert set(seen) == set(styles)
    assert all(len(colours) == 1 for colours in seen.values())
