"""Cells and networks of NAS-Bench-101 against published facts."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from darts_space.nasbench101 import CellSpec, NasBench101Network, network_blocks, read_model_spec, write_model_spec
from zcpt import SpaceError
from zcpt.cost import sum_costs
from zcpt.space import NetworkConfig

MAX, C3, C1 = "maxpool3x3", "conv3x3-bn-relu", "conv1x1-bn-relu"
# The example of NAS-Bench-101's README; its notebook prints the parameters.
INCEPTION = CellSpec.from_arrays(
    [
        [0, 1, 1, 1, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0],
    ],
    ["input", C1, C3, C3, C3, MAX, "output"],
)


def cell(edges: Any, ops: Any = None) -> Any:
    """Return a cell from pairs (source, target)."""
    size = 1 + max(target for _, target in edges)
    matrix = [[int((source, target) in edges) for target in range(size)] for source in range(size)]
    return CellSpec.from_arrays(matrix, ["input", *(ops or [C3] * (size - 2)), "output"])


def test_published_size_of_the_inception_cell() -> None:
    assert sum_costs(network_blocks(INCEPTION, NetworkConfig(128, 9))).params == 2_694_282


# Inputs, outputs and channels of the vertices: the cases of NAS-Bench-101's own test of compute_vertex_channels.
@pytest.mark.parametrize(
    ("edges", "inputs", "outputs", "widths"),
    [
        ([(0, 1), (1, 2), (2, 3)], 8, 16, (8, 16, 16, 16)),
        ([(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)], 16, 8, (16, 8, 8, 8, 8)),
        ([(0, 1), (0, 2), (1, 3), (2, 3)], 8, 15, (8, 8, 7, 15)),
        ([(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)], 8, 8, (8, 3, 3, 2, 8)),
        ([(0, 1), (1, 2), (1, 3), (2, 4), (3, 4)], 8, 9, (8, 5, 5, 4, 9)),
        ([(0, 1), (0, 3), (1, 2), (1, 4), (2, 3), (3, 4)], 8, 15, (8, 8, 7, 7, 15)),
    ],
)
def test_published_channels_of_the_vertices(edges: Any, inputs: int, outputs: int, widths: Any) -> None:
    assert cell(edges).compute_widths(inputs, outputs) == widths


def test_a_cell_computes_what_it_should() -> None:
    """Sums into vertices, cut to their width; concatenation and the projected input into the output."""
    spec = cell([(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)], [C3, MAX])
    network: Any = NasBench101Network(spec, NetworkConfig(5, 3), auxiliary=False).eval()
    body = network.cells[0]
    x = torch.randn(2, 5, 6, 6)
    one = body.operations["1"](body.projections["1"](x))
    two = torch.nn.functional.max_pool2d(one[:, :2] + body.projections["2"](x), 3, 1, 1)
    assert [one.shape[1], two.shape[1]] == [3, 2]
    torch.testing.assert_close(body(x), torch.cat([one, two], 1) + body.projections["3"](x))


def test_what_has_no_influence_is_pruned() -> None:
    # Vertex 2 goes nowhere, vertex 3 comes from nowhere.
    spec = cell([(0, 1), (1, 2), (3, 4), (1, 5), (4, 5), (0, 4)], [C1, C3, C3, MAX])
    assert spec.list_live_vertices() == (0, 1, 4, 5)
    assert spec.prune() == cell([(0, 1), (0, 2), (1, 3), (2, 3)], [C1, MAX])
    with pytest.raises(SpaceError, match="the cell has no path from its input"):
        cell([(0, 1), (2, 3)]).prune()


def test_isomorphism_knows_graphs_and_labels_and_not_numbers() -> None:
    one = cell([(0, 1), (0, 2), (1, 3), (2, 3)], [C1, C3])
    assert one.isomorphism_class() == cell([(0, 1), (0, 2), (1, 3), (2, 3)], [C3, C1]).isomorphism_class()
    assert one.isomorphism_class() == cell([(0, 1), (0, 3), (1, 4), (3, 4), (0, 2)], [C1, MAX, C3]).isomorphism_class()
    assert one.isomorphism_class() != cell([(0, 1), (1, 2), (1, 3), (2, 3)], [C1, C3]).isomorphism_class()
    # The same degrees and labels everywhere, only the two middle edges go to vertices of the other label.
    edges = [(0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 5)]
    straight, crossed = (cell(edges, [C1, C3, *last]) for last in ([C1, C3], [C3, C1]))
    assert straight.isomorphism_class() != crossed.isomorphism_class()


def test_the_notation_is_the_call_of_the_published_api() -> None:
    text = write_model_spec(INCEPTION)
    assert text.startswith("ModelSpec(matrix=[[0, 1, 1, 1, 0, 1, 0], [0,")
    assert text.endswith(f"ops=['input', '{C1}', '{C3}', '{C3}', '{C3}', 'maxpool3x3', 'output'])")
    assert read_model_spec(text) == INCEPTION
    spaced = "\n" + text.replace(", ", ",\n  ").replace("[0,", "(0,").replace("0],", "0),")
    assert read_model_spec(spaced.replace("[", "(").replace("]", ")")) == INCEPTION
    assert CellSpec.from_arrays(np.array(INCEPTION.matrix, dtype=float), INCEPTION.ops) == INCEPTION


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("ModelSpec(", "Genotype(", "is not of the form ModelSpec"),
        ("ModelSpec(", "ModelSpec(print('run'), ", "is not of the form ModelSpec"),
        ("ModelSpec(", "ModelSpec(ops=['input'], ", "is not of the form ModelSpec"),
        ("ModelSpec(", "api.Model(", "is not of the form ModelSpec"),
        ("matrix=", "matrices=", "is not of the form ModelSpec"),
        ("['input'", "[__import__('os')", "is not of the form ModelSpec"),
        ("[0, 1, 1, 1, 0, 1, 0]", "[0, True, 1, 1, 0, 1, 0]", "is not of the form ModelSpec"),
        ("[0, 1, 1, 1, 0, 1, 0]", "7", "is not of the form ModelSpec"),
        (")", "", "is not of the form ModelSpec"),
        ("[0, 1, 1, 1, 0, 1, 0]", "[0, 1, 1, 1, 0, 2, 0]", "row 0 of the matrix must be 0 up to the diagonal"),
        ("[0, 1, 1, 1, 0, 1, 0]", "[1, 1, 1, 1, 0, 1, 0]", "row 0 of the matrix must be 0 up to the diagonal"),
        ("[0, 1, 1, 1, 0, 1, 0]", "[0, 1, 1, 1, 0, 1]", "a matrix of 7 rows and columns"),
        ("'input', ", "", "a matrix of 6 rows and columns"),
        ("'input'", f"'{C1}'", "go from 'input' to 'output'"),
        ("'maxpool3x3'", "'maxpool3x'", "unknown operation 'maxpool3x': did you mean 'maxpool3x3'"),
    ],
)
def test_anything_else_is_refused(old: str, new: str, complaint: str) -> None:
    text = write_model_spec(INCEPTION)
    assert old in text
    with pytest.raises(SpaceError, match=complaint):
        read_model_spec(text.replace(old, new, 1))


@pytest.mark.data
def test_published_sizes_of_500_networks(real_data: Path) -> None:
    with gzip.open(real_data / "tables" / "nb101_zcproxies_naslib500.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 500
    for index, row in enumerate(rows):
        spec = CellSpec.from_arrays(matrix_of(row), row["ops"].split(",")).prune()
        params = round(float(row["params_M"]) * 1e6)
        assert sum_costs(network_blocks(spec, NetworkConfig(128, 9))).params == params
        if index % 100 == 0 or len(spec.ops) == 2:
            network: Any = NasBench101Network(spec, NetworkConfig(128, 9), auxiliary=False)
            assert sum(p.numel() for p in network.parameters()) == params
            assert network.eval()(torch.randn(1, 3, 8, 8)).shape == (1, 10)


def matrix_of(row: Any) -> Any:
    """Return the matrix of a row of the tables: 'a' and 49 digits."""
    digits = list(map(int, row["adj49"][1:]))
    return [digits[i : i + 7] for i in range(0, 49, 7)]
