"""NAS-Bench-1Shot1: three parts of NAS-Bench-101 that have a supernet (Zela, Siems and Hutter, ICLR 2020).

A cell has a fixed number of nodes. Each node is an operation on the sum of a fixed number of parents, and the output
concatenates its parents. The supernet is the one of the Zero-Cost-PT experiments. The discrete network is the one of
NAS-Bench-101 (``darts_space/nasbench101.py``), because the published accuracies belong to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import combinations, pairwise, product
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from darts_space.nasbench101 import (
    INPUT,
    OPERATIONS,
    OUTPUT,
    STACKS,
    CellSpec,
    ConvBnRelu,
    NasBench101Network,
    build_operation,
    has_pooling_before,
    network_blocks,
    read_model_spec,
    write_model_spec,
)
from darts_space.operations import ReLUConvBN
from darts_space.topologies import Graph, Topologies
from zcpt.architecture import Architecture, Choice, check_kept
from zcpt.cost import Block, BlockPrice
from zcpt.errors import SpaceError
from zcpt.layers import DropPathNetwork
from zcpt.printing import shorten
from zcpt.space import (
    AllowedCandidates,
    CellGraph,
    CheapestFinder,
    NetworkConfig,
    PublishedSettings,
    SearchSpace,
    WidthDepth,
)
from zcpt.supernet import Supernet
from zcpt.variation import draw_index, draw_weighted_index

VERTICES = 7
"""Vertices of a cell in the published table. Spaces with fewer nodes leave the last one before the output
unconnected."""
UNUSED = "conv1x1-bn-relu"
"""Label of unconnected vertices in the published table."""


def operation_name(node: int) -> str:
    """Return the name of the choice of a node's operation."""
    return f"node{node}/operation"


def parents_name(node: int | None) -> str:
    """Return the name of the choice of a node's parents; None denotes the output."""
    return f"{OUTPUT}/parents" if node is None else f"node{node}/parents"


def _list_sources(vertex: int) -> tuple[str, ...]:
    """Return the possible parents of a vertex: the input and the nodes before it."""
    return (INPUT, *map(str, range(1, vertex)))


def _build_choices(parents: Sequence[int]) -> Iterator[Choice]:
    output = len(parents)
    for node in range(1, output):
        yield Choice(operation_name(node), OPERATIONS)
    for vertex, keep in enumerate(parents, 1):
        if keep < vertex:  # vertex v has v possible parents; if it keeps all of them, there is no choice
            name, phase = parents_name(vertex if vertex < output else None), 1 + (vertex == output)
            yield Choice(name, _list_sources(vertex), keep, phase=phase)


class _PadChannels(nn.Module):
    """Pad the channels of a node with zeros in the place of the other nodes.

    The sum of all padded nodes is their concatenation. It is built as a sum, because a sum can have a choice of inputs.
    With two nodes of one channel: (a, 0) + (0, b) = (a, b).
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.padding = (0, 0, 0, 0, before, after)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, self.padding)


def _build_supernet_operation(name: str, channels: int) -> nn.Module:
    module = build_operation(name, channels)
    # As in DARTS, and only in supernets; see darts.build_supernet_operation.
    return nn.Sequential(module, nn.BatchNorm2d(channels, affine=False)) if "pool" in name else module


def _has_hamiltonian_path(graph: Graph) -> bool:
    """Return whether each vertex feeds the next one, so that a single path goes through all vertices."""
    return all(source in graph[vertex] for source, vertex in pairwise([0, *sorted(graph)]))


def _to_bits(sources: Sequence[str]) -> int:
    """Return a bit mask of vertices; the input is bit 0."""
    return sum(1 << (0 if source == INPUT else int(source)) for source in sources)


@lru_cache(maxsize=8)
def _get_topologies(space: NasBench1Shot1, config: NetworkConfig) -> Topologies:
    space.check_network_config(config)
    return Topologies(space.list_graphs(), config)


@lru_cache(maxsize=8)
def _list_graphs(space: NasBench1Shot1) -> tuple[Graph, ...]:
    return tuple(space.list_graphs())


def _count_cells(graphs: Sequence[Graph]) -> list[int]:
    """Return the number of cells of each graph: every vertex but the output has an operation."""
    return [int(len(OPERATIONS) ** (len(graph) - 1)) for graph in graphs]


class NasBench1Shot1(SearchSpace):
    """Base class of the three spaces.

    A node that does not reach the output has no influence: an architecture has neither its operation nor its parents,
    so no architecture has unused nodes.
    """

    parents: ClassVar[tuple[int, ...]]
    """Numbers of parents of node 1, node 2, ..., and the output."""
    layer_unit = "cells"
    search_size = WidthDepth(16, 9)
    train_size = WidthDepth(128, 9)
    small_size = WidthDepth(16, 3)
    published = PublishedSettings(batch_size=128, alpha_draw="run")

    @property
    def output(self) -> int:
        """Index of the output; the input is 0, and the nodes are in between."""
        return len(self.parents)

    def check_network_config(self, config: NetworkConfig) -> None:
        if config.layers % STACKS:
            raise SpaceError(f"space '{self.name}' has three stacks of equal depth: {config.layers} cells do not fit.")
        if config.channels < self.parents[-1]:
            raise SpaceError(
                f"space '{self.name}' shares the channels of a cell between up to {self.parents[-1]} nodes: "
                f"{config.channels} channels are too few."
            )

    def build_supernet(self, config: NetworkConfig) -> Supernet:
        self.check_network_config(config)
        net = Supernet(self.choices)
        inputs = channels = config.channels
        x = net.fixed("stem", ConvBnRelu(config.in_channels, channels, 3), Supernet.IMAGES)
        for index in range(config.layers):
            if has_pooling_before(index, config.layers):
                channels *= 2
                # The published supernet pads here, unlike NAS-Bench-101: 32 pixels become 17 and then 9.
                x = net.fixed(f"cells.{index}.pool", nn.MaxPool2d(2, padding=1), x)
            x = self._mixed_cell(net, f"cells.{index}", inputs, channels, x)
            inputs = channels * (self.output - 1)
        x = net.fixed("postprocess", ReLUConvBN(inputs, channels, 1, 1, affine=False), x)
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, config.num_classes))
        net.fixed("classifier", head, x)
        return net

    def _mixed_cell(self, net: Supernet, name: str, inputs: int, channels: int, x: str) -> str:
        nodes: list[str] = []
        for node in range(1, self.output):
            path, choice = f"{name}.node{node}", parents_name(node)
            projection = net.fixed(f"{path}.projection", ConvBnRelu(inputs, channels, 1), x)
            entering = net.sum(f"{path}.parents", [projection, *nodes], choice if choice in net.choices else None)
            candidates = {key: _build_supernet_operation(key, channels) for key in OPERATIONS}
            nodes.append(net.mixed(f"{path}.operation", operation_name(node), candidates, entering))
        count = len(nodes)
        slots = [
            net.fixed(f"{name}.node{i + 1}.slot", _PadChannels(i * channels, (count - 1 - i) * channels), node)
            for i, node in enumerate(nodes)
        ]
        projection = net.fixed(f"{name}.output.projection", ConvBnRelu(inputs, count * channels, 1), x)
        return net.sum(f"{name}.output", [projection, *slots], parents_name(None))

    def build_network(
        self, architecture: Architecture, config: NetworkConfig, *, auxiliary: bool = False
    ) -> DropPathNetwork:
        self.check_network_config(config)
        return NasBench101Network(self.to_spec(architecture).prune(), config, auxiliary)

    def blocks(self, architecture: Architecture, config: NetworkConfig) -> Iterator[Block]:
        self.check_network_config(config)
        return network_blocks(self.to_spec(architecture).prune(), config)

    def all_blocks(self, config: NetworkConfig) -> Iterator[Block]:
        return _get_topologies(self, config).blocks()

    def build_cheapest_finder(
        self, config: NetworkConfig, price: BlockPrice, valid_only: bool = False
    ) -> CheapestFinder:
        """Return a finder that compares all graphs, each with the cheapest operations of its nodes."""
        topologies = _get_topologies(self, config)
        priced = topologies.compute_prices(price)
        mask = np.array([_has_hamiltonian_path(graph) for graph in topologies.graphs]) if valid_only else None

        def find_cheapest(allowed: AllowedCandidates) -> Architecture | None:
            operations = {node: allowed[operation_name(node)] for node in range(1, self.output)}
            cheapest = priced.find_cheapest(
                {v: _to_bits(allowed[n]) for v, n in self._list_parent_choices()}, operations, mask
            )
            return None if cheapest is None else self._build_architecture(*cheapest)

        return find_cheapest

    def _list_parent_choices(self) -> Iterator[tuple[int, str]]:
        """Yield the vertices that have a choice of parents, with its name."""
        names = {choice.name for choice in self.choices}
        pairs = ((v, parents_name(v if v < self.output else None)) for v in range(1, self.output + 1))
        return (pair for pair in pairs if pair[1] in names)

    def _build_architecture(self, graph: Graph, operations: Mapping[int, str]) -> Architecture:
        named = {vertex: name for vertex, name in self._list_parent_choices() if vertex in graph}
        kept = {name: tuple(_list_sources(v)[source] for source in graph[v]) for v, name in named.items()}
        return Architecture(self.name, kept | {operation_name(node): (name,) for node, name in operations.items()})

    def architecture(self, decisions: Mapping[str, tuple[str, ...]]) -> Architecture:
        """Build the architecture without the decisions on nodes that do not reach the output."""
        needed = self._list_live_choices(decisions)
        kept = {c.name: tuple(sorted(decisions[c.name], key=c.position)) for c in self.choices if c.name in needed}
        return Architecture(self.name, kept)

    def check(self, architecture: Architecture) -> None:
        if architecture.space != self.name:
            raise SpaceError(
                f"the architecture belongs to space '{shorten(architecture.space)}', not to '{self.name}'."
            )
        choices = {choice.name: choice for choice in self.choices}
        for name, kept in architecture.kept.items():
            if name not in choices:
                raise SpaceError(f"the architecture is not one of space '{self.name}': it has {shorten(name)}.")
            check_kept(choices[name], kept)
        needed = self._list_live_choices(architecture.kept)
        for name in choices:
            if name in needed and name not in architecture.kept:
                raise SpaceError(f"the architecture is not one of space '{self.name}': it lacks {name}.")
            if name in architecture.kept and name not in needed:
                raise SpaceError(
                    f"the architecture is not one of space '{self.name}': it has {name}, of a node that does not "
                    "reach the output."
                )

    def count(self) -> int:
        """Return the number of different cells; nodes that do not reach the output are ignored."""
        return sum(_count_cells(_list_graphs(self)))

    def sample_architecture(self, generator: torch.Generator) -> Architecture:
        """Draw an architecture uniformly: a graph, the likelier the more nodes it has, and operations."""
        graphs = _list_graphs(self)
        graph = graphs[draw_weighted_index(_count_cells(graphs), generator)]
        nodes = [vertex for vertex in sorted(graph) if vertex < self.output]
        return self._build_architecture(graph, {n: OPERATIONS[draw_index(len(OPERATIONS), generator)] for n in nodes})

    def list_graphs(self) -> list[Graph]:
        """Return all different graphs of a cell, without operations."""
        choices = {choice.name: choice for choice in self.choices if choice.phase}
        rows = (combinations(choice.candidates, choice.keep) for choice in choices.values())
        graphs = (self._list_live_parents(dict(zip(choices, kept, strict=True))) for kept in product(*rows))
        return [dict(graph) for graph in dict.fromkeys(tuple(graph.items()) for graph in graphs)]

    def is_valid(self, architecture: Architecture) -> bool:
        """Return whether the published list of the space has the cell.

        The list is meant to hold the cells without unused nodes, as all architectures here are. But the code that made
        it followed only the last parent of every vertex, so it holds only cells in which every vertex feeds the next
        one: 2,487, 3,609 and 24,066 in the three spaces.
        """
        self.check(architecture)
        return _has_hamiltonian_path(self._list_live_parents(architecture.kept))

    def isomorphism_class(self, architecture: Architecture) -> str:
        """Return a text that is equal for exactly those architectures, of all three spaces, with isomorphic cells."""
        return self.to_spec(architecture).isomorphism_class()

    def _list_live_parents(self, kept: Mapping[str, tuple[str, ...]]) -> dict[int, tuple[int, ...]]:
        """Return the parents of the output and of every node that it depends on; empty where ``kept`` lacks them."""
        parents: dict[int, tuple[int, ...]] = {}
        # From the output backwards: when a vertex is visited, all vertices that could read it have been visited.
        live = {self.output}
        for vertex in range(self.output, 0, -1):
            if vertex in live:
                name = parents_name(vertex if vertex < self.output else None)
                keeps_all = self.parents[vertex - 1] == vertex
                names = _list_sources(vertex) if keeps_all else kept.get(name, ())
                parents[vertex] = tuple(sorted(0 if source == INPUT else int(source) for source in names))
                live.update(parents[vertex])
        return parents

    def _list_live_choices(self, kept: Mapping[str, tuple[str, ...]]) -> set[str]:
        """Return the names of the choices that influence the output."""
        nodes = [node for node in self._list_live_parents(kept) if node < self.output]
        names = {parents_name(None), *map(operation_name, nodes), *map(parents_name, nodes)}
        return names & {choice.name for choice in self.choices}

    def to_spec(self, architecture: Architecture) -> CellSpec:
        """Return the cell as in the published table: seven vertices; those without influence are unconnected."""
        self.check(architecture)
        matrix, ops = [[0] * VERTICES for _ in range(VERTICES)], [UNUSED] * VERTICES
        ops[0], ops[-1] = INPUT, OUTPUT
        for vertex, sources in self._list_live_parents(architecture.kept).items():
            if vertex < self.output:
                ops[vertex] = architecture[operation_name(vertex)]
            for source in sources:
                matrix[source][vertex if vertex < self.output else -1] = 1
        return CellSpec.from_arrays(matrix, ops)

    def from_spec(self, matrix: Sequence[Sequence[Any]], ops: Sequence[str]) -> Architecture:
        """Return the architecture of a cell of seven vertices; vertices without influence may have any label.

        Raises:
            SpaceError: The cell does not belong to this space.
        """
        spec = CellSpec.from_arrays(matrix, ops)
        if len(spec.ops) != VERTICES:
            raise SpaceError(f"a cell of space '{self.name}' must have {VERTICES} vertices, not {len(spec.ops)}.")
        live = spec.list_live_vertices()
        kept: dict[str, tuple[str, ...]] = {}
        for vertex in (v for v in range(1, VERTICES) if v in live or v == spec.output):
            node = None if vertex == spec.output else vertex
            if node and node >= self.output:
                raise SpaceError(
                    f"space '{self.name}' has {self.output - 1} nodes: vertex {vertex} must be unconnected."
                )
            sources = [source for source in spec.list_parents(vertex) if source in live]
            expected = self.parents[(node or self.output) - 1]
            if len(sources) != expected:
                vertex_name = f"node {node}" if node else "the output"
                raise SpaceError(
                    f"{vertex_name} of a cell of space '{self.name}' has {expected} parents, not {len(sources)}."
                )
            kept[parents_name(node)] = tuple(str(source) if source else INPUT for source in sources)
            if node:
                kept[operation_name(node)] = (spec.ops[node],)
        return self.architecture(kept)

    def parse(self, text: str) -> Architecture:
        """Read ``ModelSpec(matrix=[[...], ...], ops=[...])``, with seven vertices."""
        spec = read_model_spec(text)
        return self.from_spec(spec.matrix, spec.ops)

    def format(self, architecture: Architecture) -> str:
        return write_model_spec(self.to_spec(architecture))

    def cells(self, architecture: Architecture) -> tuple[CellGraph, ...]:
        spec = self.to_spec(architecture)
        live = spec.list_live_vertices()
        names = {v: f"{v}\n{spec.ops[v].removesuffix('-bn-relu')}" for v in live} | {0: INPUT, spec.output: OUTPUT}
        arrows = ((names[source], names[vertex], "") for vertex in live for source in spec.list_parents(vertex))
        return (CellGraph("cell", tuple(names[vertex] for vertex in live), tuple(arrows)),)


class NasBench1Shot1Space1(NasBench1Shot1):
    """Four nodes with 1, 2, 2 and 2 parents; two nodes feed the output."""

    name = "nasbench1shot1-1"
    summary = "part of NAS-Bench-101: 4 nodes of 3 operations, 2 parents but for the first: 3,702 cells"
    parents = (1, 2, 2, 2, 2)
    choices = tuple(_build_choices(parents))


class NasBench1Shot1Space2(NasBench1Shot1):
    """Four nodes with 1, 1, 2 and 2 parents; three nodes feed the output."""

    name = "nasbench1shot1-2"
    summary = "part of NAS-Bench-101: 4 nodes of 3 operations, 1 or 2 parents, 3 into the output: 12,474 cells"
    parents = (1, 1, 2, 2, 3)
    choices = tuple(_build_choices(parents))


class NasBench1Shot1Space3(NasBench1Shot1):
    """Five nodes with 1, 1, 1, 2 and 2 parents; two nodes feed the output."""

    name = "nasbench1shot1-3"
    summary = "part of NAS-Bench-101: 5 nodes of 3 operations, 1 or 2 parents, 2 into the output: 135,900 cells"
    parents = (1, 1, 1, 2, 2, 2)
    choices = tuple(_build_choices(parents))
