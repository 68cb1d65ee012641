"""NAS-Bench-1Shot1 against published counts and the published table."""

from __future__ import annotations

import csv
import gzip
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import zcpt
from darts_space.nasbench101 import OPERATIONS
from tests.conftest import ONE_SHOT, random_architecture, tiny_network_config
from tests.darts_space.test_nasbench101 import C1, C3, MAX, matrix_of
from zcpt import Architecture, Mixture, SpaceError
from zcpt.space import NetworkConfig, SearchSpace

SPACES: list[Any] = [zcpt.get_space(name) for name in ONE_SHOT]
ONE, TWO, THREE = SPACES
# From NAS-Bench-1Shot1 and the Zero-Cost-PT code: parents of the nodes and of the output, parameters of the supernet,
# decisions, cells in the published list.
PUBLISHED = [
    (ONE, (1, 2, 2, 2, 2), 1_101_402, 14_580, 2_487),
    (TWO, (1, 1, 2, 2, 3), 1_101_402, 29_160, 3_609),
    (THREE, (1, 1, 1, 2, 2, 2), 1_509_594, 1_312_200, 24_066),
]


@pytest.fixture(params=SPACES, ids=ONE_SHOT)
def one_shot(request: pytest.FixtureRequest) -> Any:
    return request.param


def graphs(space: SearchSpace) -> Any:
    """One architecture, of 3x3 convolutions, for each different graph."""
    choices = [c for c in space.choices if c.phase]
    fixed = {c.name: (C3,) for c in space.choices if not c.phase}
    rows = product(*(combinations(c.candidates, c.keep) for c in choices))
    return {space.architecture({**fixed, **dict(zip([c.name for c in choices], row, strict=True))}) for row in rows}


def labelled(space: SearchSpace, architecture: Any) -> Any:
    """All architectures of the same graph."""
    names = [name for name in architecture.kept if name.endswith("/operation")]
    for row in product(OPERATIONS, repeat=len(names)):
        yield Architecture(space.name, {**architecture.kept, **{n: (o,) for n, o in zip(names, row, strict=True)}})


@pytest.mark.parametrize(("space", "parents", "params", "decisions", "listed"), PUBLISHED, ids=ONE_SHOT)
def test_published_sizes(space: Any, parents: Any, params: Any, decisions: Any, listed: Any) -> None:
    net = space.supernet(channels=16, layers=9)
    assert sum(parameter.numel() for parameter in net.parameters()) == params
    assert zcpt.SearchSpace.count(space) == decisions
    found = graphs(space)
    cells = {graph: 3 ** sum(name.endswith("/operation") for name in graph.kept) for graph in found}
    assert sum(cells.values()) == space.count()
    assert sum(cells[graph] for graph in found if space.is_valid(graph)) == listed
    for graph in list(found)[::7]:
        matrix = space.to_spec(graph).matrix
        counts = [sum(row[vertex] for row in matrix) for vertex in (*range(1, len(parents)), 6)]
        assert all(count in (0, wanted) for count, wanted in zip(counts, parents, strict=True))
        assert counts[-1] == parents[-1]


def test_every_choice_is_made_in_its_phase_and_starts_with_equal_shares(one_shot: Any) -> None:
    phases = [c.phase for c in one_shot.choices]
    assert phases == sorted(phases)
    assert [c.name for c in one_shot.choices if c.phase == 2] == ["output/parents"]
    assert {c.name.split("/")[1] for c in one_shot.choices if c.phase == 1} == {"parents"}
    assert {c.start for c in one_shot.choices} == {"share"}
    net = one_shot.build_supernet(tiny_network_config(one_shot))
    assert net.initial_mixture().weights["output/parents"] == (1 / len(one_shot.parents),) * len(one_shot.parents)
    assert "node1/parents" not in net.choices
    assert ("node2/parents" in net.choices) == (one_shot is not ONE)


def reference(net: Any, images: Any, mixture: Any, space: Any) -> Any:
    """Return the supernet as NAS-Bench-1Shot1's code writes it down: weighted inputs, weighted concatenation."""
    module, nodes = net.get_submodule, range(1, len(space.parents))
    x = module("stem")(images)
    for index in range(3):
        cell = f"cells.{index}"
        x = F.max_pool2d(x, 2, 2, padding=1) if index in (1, 2) else x
        states: list[Any] = []
        for node in nodes:
            weights = mixture.weights.get(f"node{node}/parents", (1.0,) * node)
            terms = [module(f"{cell}.node{node}.projection")(x), *states]
            entering = sum(w * term for w, term in zip(weights, terms, strict=True))
            operations = module(f"{cell}.node{node}.operation").children()
            weighted = zip(mixture.weights[f"node{node}/operation"], operations, strict=True)
            states.append(sum(w * operation(entering) for w, operation in weighted))
        first, *others = mixture.weights["output/parents"]
        joined = torch.cat([w * state for w, state in zip(others, states, strict=True)], dim=1)
        x = first * module(f"{cell}.output.projection")(x) + joined
    return module("classifier")(module("postprocess")(x))


@pytest.mark.parametrize("decided", [False, True])
def test_the_supernet_computes_what_the_published_one_does(one_shot: Any, decided: bool) -> None:
    net = one_shot.build_supernet(tiny_network_config(one_shot)).eval()
    mixture = Mixture.initial(one_shot.choices, noise=1.0)
    mixture = mixture.without("output/parents", "1").without("node4/parents", "input").without("node3/operation", C3)
    if decided:
        for name, kept in random_architecture(one_shot, 5).kept.items():
            mixture = mixture.select(name, kept)
    images = torch.randn(3, 3, 9, 8)
    torch.testing.assert_close(net(images, mixture), reference(net, images, mixture, one_shot), rtol=1e-4, atol=1e-6)


def test_an_absent_node_is_not_computed() -> None:
    net = ONE.build_supernet(tiny_network_config(ONE))
    mixture = net.initial_mixture().select("output/parents", ("input", "2"))
    steps = [step.out for step, _ in net.list_live_steps(mixture)]
    assert "cells.0.node2.operation" in steps
    assert not any(".node3." in step or ".node4." in step or ".node1.slot" in step for step in steps)


def test_batchnorms_and_pools_are_those_of_the_published_supernet(one_shot: Any) -> None:
    net = one_shot.build_supernet(tiny_network_config(one_shot))
    affine = {name for name, m in net.named_modules() if isinstance(m, torch.nn.BatchNorm2d) and m.affine}
    plain = {name for name, m in net.named_modules() if isinstance(m, torch.nn.BatchNorm2d) and not m.affine}
    assert plain == {"postprocess.2"} | {name for name in plain if ".maxpool3x3." in name}
    assert "stem.1" in affine
    assert len(plain) == 1 + 3 * (len(one_shot.parents) - 1)


def test_nodes_that_do_not_reach_the_output_are_no_part_of_an_architecture() -> None:
    decisions = {c.name: c.candidates[: c.keep] for c in ONE.choices}
    decisions["output/parents"] = ("2", "input")
    architecture = ONE.architecture(decisions)
    assert architecture.kept == {
        "node1/operation": (MAX,),
        "node2/operation": (MAX,),
        "output/parents": ("input", "2"),
    }
    assert architecture == ONE.architecture({**decisions, "node4/operation": (C3,), "node3/parents": ("1", "2")})
    with pytest.raises(SpaceError, match=r"has node3/operation, of a node that does not reach"):
        ONE.check(Architecture(ONE.name, {**architecture.kept, "node3/operation": (C3,)}))
    with pytest.raises(SpaceError, match="lacks node2/operation"):
        ONE.check(Architecture(ONE.name, {k: v for k, v in architecture.kept.items() if "node2" not in k}))


def test_cells_that_branch_are_not_in_the_published_list() -> None:
    chain = {c.name: c.candidates[-c.keep :] for c in TWO.choices}
    assert TWO.is_valid(TWO.architecture(chain))
    assert TWO.is_valid(TWO.architecture({**chain, "output/parents": ("input", "1", "2")}))
    assert not TWO.is_valid(TWO.architecture({**chain, "node2/parents": ("input",)}))


def test_all_cells_are_written_and_read() -> None:
    for space in (ONE, TWO):
        for graph in graphs(space):
            assert space.parse(space.format(graph)) == graph
    architectures = {a for graph in graphs(ONE) for a in labelled(ONE, graph)}
    assert len(architectures) == ONE.count()
    assert {ONE.parse(ONE.format(a)) for a in architectures} == architectures


def test_the_same_graph_has_the_same_key_whichever_nodes_and_space_it_uses() -> None:
    one = ONE.architecture({
        **{c.name: (C1,) for c in ONE.choices if not c.phase},
        "node3/parents": ("input", "1"), "node4/parents": ("input", "1"), "output/parents": ("1", "3"),
    })  # fmt: skip
    other = ONE.architecture({
        **{c.name: (C1,) for c in ONE.choices if not c.phase},
        "node3/parents": ("input", "1"), "node4/parents": ("input", "1"), "output/parents": ("1", "4"),
    })  # fmt: skip
    assert one != other
    assert ONE.isomorphism_class(one) == ONE.isomorphism_class(other)
    assert ONE.cost(one, NetworkConfig(16, 3)) == ONE.cost(other, NetworkConfig(16, 3))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({(0, 4): 1}, "node 4 of a cell of space 'nasbench1shot1-1' has 2 parents, not 3"),
        ({(1, 6): 1}, "the output of a cell of space 'nasbench1shot1-1' has 2 parents, not 3"),
        ({(0, 5): 1, (5, 6): 1}, "has 4 nodes: vertex 5 must be unconnected"),
        ({(0, 1): 0, (0, 2): 0, (0, 3): 0}, "the output of a cell .* has 2 parents, not 0"),
        ({(0, 1): 0}, "node 2 of a cell of space 'nasbench1shot1-1' has 2 parents, not 1"),
    ],
)
def test_a_cell_of_another_space_is_refused(change: Any, complaint: str) -> None:
    edges = dict.fromkeys([(0, 1), (0, 2), (1, 2), (0, 3), (2, 3), (1, 4), (3, 4), (3, 6), (4, 6)], 1) | change
    matrix = [[edges.get((source, target), 0) for target in range(7)] for source in range(7)]
    with pytest.raises(SpaceError, match=complaint):
        ONE.from_spec(matrix, ["input", C1, C3, MAX, C1, C1, "output"])


def test_loose_ends_of_a_cell_that_is_read_are_left_out() -> None:
    architecture = random_architecture(ONE, 1)
    spec = ONE.to_spec(ONE.architecture({**architecture.kept, "output/parents": ("1", "2")}))
    matrix = [list(row) for row in spec.matrix]
    matrix[2][4] = matrix[0][5] = 1
    assert ONE.from_spec(matrix, spec.ops) == ONE.from_spec(spec.matrix, spec.ops)
    with pytest.raises(SpaceError, match="must have 7 vertices, not 3"):
        ONE.from_spec([[0, 1, 1], [0, 0, 1], [0, 0, 0]], ["input", C1, "output"])


@pytest.mark.parametrize(
    ("layers", "channels", "complaint"), [(8, 16, "8 cells do not fit"), (3, 2, "2 channels are too few")]
)
def test_shapes_that_do_not_work_out_are_refused(layers: int, channels: int, complaint: str) -> None:
    shape = NetworkConfig(channels, layers)
    architecture = random_architecture(TWO, 0)
    network = partial(TWO.build_network, architecture)
    for build in (TWO.build_supernet, network, partial(TWO.cost, architecture)):
        with pytest.raises(SpaceError, match=complaint):
            build(shape)


@pytest.fixture(scope="module")
def table(real_data: Path) -> Any:
    with gzip.open(real_data / "tables" / "nb1shot1_spaces1_2.csv.gz", "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    return {space: [row for row in rows if row["space"] == space.name[-1]] for space in (ONE, TWO)}


@pytest.mark.data
@pytest.mark.parametrize("space", [ONE, TWO], ids=ONE_SHOT[:2])
def test_the_published_list_is_exactly_the_valid_cells(space: Any, table: Any) -> None:
    listed = set()
    for row in table[space]:
        matrix, ops = matrix_of(row), row["ops"].split(",")
        architecture = space.from_spec(matrix, ops)
        spec = space.to_spec(architecture)
        assert [list(line) for line in spec.matrix] == matrix
        assert list(spec.ops) == ops
        listed.add(architecture)
    every = (a for graph in graphs(space) for a in labelled(space, graph))
    assert listed == {architecture for architecture in every if space.is_valid(architecture)}


@pytest.mark.data
def test_published_isomorphism_classes(table: Any) -> None:
    keys: dict[str, Any] = {}
    classes: dict[str, Any] = {}
    for space, rows in table.items():
        for row in rows:
            key = space.isomorphism_class(space.from_spec(matrix_of(row), row["ops"].split(",")))
            assert keys.setdefault(row["iso_id"], key) == key
            assert classes.setdefault(key, row["iso_id"]) == row["iso_id"]
