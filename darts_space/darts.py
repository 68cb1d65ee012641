"""The DARTS space: a normal and a reduction cell of four nodes, seven operations on each edge (Liu et al., ICLR 2019).

It is S5 of the Zero-Cost-PT experiments: DARTS without the operation 'none'. DARTS never keeps 'none' in a genotype, so
leaving it out removes no architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations, product

import torch
from torch import nn

from darts_space.darts_network import (
    KEPT_INPUTS,
    NODES,
    CellPlan,
    DartsNetwork,
    build_stem,
    compute_stem_channels,
    plan_cells,
    stem_blocks,
)
from darts_space.genotype import KINDS, Pairs, read_genotype, write_genotype
from darts_space.operations import OPERATIONS
from zcpt.architecture import Architecture, Choice, check_kept
from zcpt.cost import Block, BlockPrice, classifier_block
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
from zcpt.variation import draw_index, draw_weighted_index, list_exchanges

# In the order of DARTS' PRIMITIVES. It decides between equal importances: the first candidate is kept.
CANDIDATES = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


def edge_name(kind: str, node: int, source: int) -> str:
    """Return the name of the choice of an edge's operation."""
    return f"{kind}/node{node}/edge{source}"


def inputs_name(kind: str, node: int) -> str:
    """Return the name of the choice of a node's inputs. Node 2 has only two inputs and no such choice."""
    return f"{kind}/node{node}/inputs"


def list_edges(nodes: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the edges (node, source) of a cell, in the order of DARTS' alpha: (2, 0), (2, 1), (3, 0), ..."""
    return tuple((node, source) for node in nodes for source in range(node))


Operations = Callable[[str, int], tuple[str, ...]]
"""Maps the kind of a cell and the index of an edge in ``list_edges`` to the names of its candidate operations."""


def darts_choices(
    operations: Operations, not_selectable: tuple[str, ...] = (), nodes: Sequence[int] = NODES
) -> Iterator[Choice]:
    """Yield the choices of a space with DARTS' cells: the operation of each edge, then the inputs that nodes keep.

    Args:
        operations: Candidate operations of each edge.
        not_selectable: Candidates that have a weight in the supernet but are never kept.
        nodes: Intermediate nodes of a cell.
    """
    for kind in KINDS:
        for index, (node, source) in enumerate(list_edges(nodes)):
            candidates = operations(kind, index)
            yield Choice(edge_name(kind, node, source), candidates, group=kind, not_selectable=not_selectable)
    for kind in KINDS:
        for node in nodes[1:]:  # the first node has only two inputs and keeps both
            sources = tuple(str(source) for source in range(node))
            yield Choice(inputs_name(kind, node), sources, KEPT_INPUTS, "one", kind, phase=1)


def build_supernet_operation(name: str, channels: int, stride: int) -> nn.Module:
    """Build a candidate operation of a supernet, where BatchNorms have no parameters."""
    # DARTS (appendix A.1.1): learnable scales would rescale the outputs of candidates, which is the mixture's part.
    operation = OPERATIONS[name].build(channels, stride, False)
    # A BatchNorm after poolings, as in DARTS and only in supernets: all other candidates that compute something end in
    # one, and pooled activations of another scale would outweigh theirs.
    return nn.Sequential(operation, nn.BatchNorm2d(channels, affine=False)) if "pool" in name else operation


class Darts(SearchSpace):
    """Normal and reduction cell of 14 edges each; every node keeps two of its inputs."""

    name = "darts"
    summary = "normal and reduction cell of 14 edges, 7 operations each: about 1.1e18 pairs of cells"
    layer_unit = "cells"
    search_size = WidthDepth(16, 8)
    train_size = WidthDepth(36, 20)
    small_size = WidthDepth(16, 5)
    imagenet_size = WidthDepth(48, 14)
    published = PublishedSettings(batch_size=64, alpha_draw="run")
    nodes: tuple[int, ...] = NODES
    """Intermediate nodes of a cell. Only subclasses without networks and costs may change it: these use ``NODES``."""
    concatenated: int = len(NODES)
    """Number of nodes, counted from the last one, that the output concatenates. Only such subclasses may change it."""
    choices = tuple(darts_choices(lambda kind, edge: CANDIDATES))

    def check_network_config(self, config: NetworkConfig) -> None:
        if config.layers < 3:
            raise SpaceError(
                f"space '{self.name}' needs at least 3 cells, two of them for reduction, not {config.layers}."
            )

    def build_supernet(self, config: NetworkConfig) -> Supernet:
        self.check_network_config(config)
        net = Supernet(self.choices)
        channels = compute_stem_channels(config, supernet=True)
        value = Supernet.IMAGES
        states = []
        for index, module in enumerate(build_stem(config, channels)):
            value = net.fixed(f"stem.{index}", module, value)
            states.append(value)
        # The first cell reads the two outputs of the ImageNet stem, or twice the single output of the small stem.
        states = [states[0], states[-1]]
        plans = plan_cells(config, channels)
        for index, plan in enumerate(plans):
            states = [states[1], self._mixed_cell(net, f"cells.{index}", plan, states)]
        head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(plans[-1].out_channels, config.num_classes)
        )
        net.fixed("classifier", head, states[1])
        return net

    @staticmethod
    def _mixed_cell(net: Supernet, name: str, plan: CellPlan, states: list[str]) -> str:
        entries = zip(plan.build_preprocess(affine=False), states, strict=True)
        nodes = [net.fixed(f"{name}.preprocess{i}", module, state) for i, (module, state) in enumerate(entries)]
        for node in NODES:
            edges = []
            for source in range(node):
                choice, stride = edge_name(plan.kind, node, source), plan.stride(source)
                names = net.choices[choice].candidates
                candidates = {key: build_supernet_operation(key, plan.channels, stride) for key in names}
                edges.append(net.mixed(f"{name}.node{node}.edge{source}", choice, candidates, nodes[source]))
            inputs = inputs_name(plan.kind, node) if node > KEPT_INPUTS else None
            nodes.append(net.sum(f"{name}.node{node}", edges, inputs))
        return net.concat(name, nodes[2:])

    def build_network(
        self, architecture: Architecture, config: NetworkConfig, *, auxiliary: bool = False
    ) -> DropPathNetwork:
        self.check_network_config(config)
        return DartsNetwork(self._list_pairs(architecture), config, auxiliary)

    def fixed_blocks(self, config: NetworkConfig) -> Iterator[Block]:
        channels = compute_stem_channels(config, supernet=False)
        yield from stem_blocks(config, channels)
        for plan in plan_cells(config, channels):
            yield from plan.preprocess_blocks()
            yield from plan.join_blocks()
        yield classifier_block(plan.out_channels, config.num_classes, plan.output_size)

    def chosen_blocks(self, choice: str, candidate: str, config: NetworkConfig) -> Iterator[Block]:
        kind, _, place = choice.split("/")
        if place != "inputs":
            source = int(place.removeprefix("edge"))
            plans = plan_cells(config, compute_stem_channels(config, supernet=False))
            yield from (plan.edge_block(candidate, source) for plan in plans if plan.kind == kind)

    def build_cheapest_finder(
        self, config: NetworkConfig, price: BlockPrice, valid_only: bool = False
    ) -> CheapestFinder:
        """Return a finder that keeps the two cheapest inputs of every node, each with its cheapest operation."""
        # Exact, because nodes do not share edges: the two cheapest inputs of a node do not depend on other nodes.
        prices = self.prices(config, price)

        def find_cheapest(allowed: AllowedCandidates) -> Architecture:
            kept: dict[str, tuple[str, ...]] = {}
            for kind, node in product(KINDS, self.nodes):
                edges = {}
                for source in allowed.get(inputs_name(kind, node), ("0", "1")):
                    name = edge_name(kind, node, int(source))
                    operation = min(allowed[name], key=prices[name].__getitem__)
                    edges[source] = prices[name][operation], name, operation
                sources = sorted(sorted(edges, key=lambda source: edges[source][0])[:KEPT_INPUTS])
                kept |= {edges[source][1]: (edges[source][2],) for source in sources}
                if node > KEPT_INPUTS:
                    kept[inputs_name(kind, node)] = tuple(sources)
            return Architecture(self.name, kept)

        return find_cheapest

    def architecture(self, decisions: Mapping[str, tuple[str, ...]]) -> Architecture:
        """Build the architecture without the operations of edges that no node keeps.

        Stage 1 decides every edge, but these operations are in no network. Without them equal networks are equal
        architectures.
        """
        kept = {name: names for name, names in decisions.items() if name.endswith("/inputs")}
        for kind in KINDS:
            for node in self.nodes:
                for source in kept.get(inputs_name(kind, node), ("0", "1")):
                    name = edge_name(kind, node, int(source))
                    kept[name] = decisions[name]
        return Architecture(self.name, kept)

    def check(self, architecture: Architecture) -> None:
        if architecture.space != self.name:
            raise SpaceError(
                f"the architecture belongs to space '{shorten(architecture.space)}', not to '{self.name}'."
            )
        choices = {choice.name: choice for choice in self.choices}
        expected = set()
        for name, kept in architecture.kept.items():
            if name not in choices:
                raise SpaceError(f"the architecture is not one of space '{self.name}': it has {shorten(name)}.")
            check_kept(choices[name], kept)
        for kind in KINDS:
            expected |= {inputs_name(kind, node) for node in self.nodes[1:]}
            for node in self.nodes:
                sources = architecture.kept.get(inputs_name(kind, node), ("0", "1"))
                expected |= {edge_name(kind, node, int(source)) for source in sources}
        if expected != set(architecture.kept):
            differing = sorted(expected ^ set(architecture.kept))
            raise SpaceError(
                f"the architecture is not one of space '{self.name}': it must have an operation for every kept input "
                f"and for no other, unlike {differing[0]}."
            )

    def count(self) -> int:
        # Nodes and cells are independent.
        return math.prod(sum(counts.values()) for counts in self._count_by_inputs().values())

    def _count_by_inputs(self) -> dict[tuple[str, int], dict[tuple[str, ...], int]]:
        """Count the ways to choose the operations of each node by its inputs: (kind, node) -> inputs -> number."""
        choices = {choice.name: choice for choice in self.choices}
        counts: dict[tuple[str, int], dict[tuple[str, ...], int]] = {}
        for kind, node in product(KINDS, self.nodes):
            inputs = choices.get(inputs_name(kind, node))
            pairs = combinations(inputs.selectable if inputs else ("0", "1"), KEPT_INPUTS)
            counts[kind, node] = {
                pair: math.prod(len(choices[edge_name(kind, node, int(source))].selectable) for source in pair)
                for pair in pairs
            }
        return counts

    def sample_architecture(self, generator: torch.Generator) -> Architecture:
        """Draw an architecture uniformly: the inputs of each node, and the operations on them."""
        selectable = {choice.name: choice.selectable for choice in self.choices}
        kept: dict[str, tuple[str, ...]] = {}
        for (kind, node), counts in self._count_by_inputs().items():
            # Where edges have different numbers of operations, some inputs occur in more architectures than others.
            inputs = [*counts][draw_weighted_index([*counts.values()], generator)]
            if node > KEPT_INPUTS:
                kept[inputs_name(kind, node)] = inputs
            for source in inputs:
                name = edge_name(kind, node, int(source))
                kept[name] = (selectable[name][draw_index(len(selectable[name]), generator)],)
        return Architecture(self.name, kept)

    def list_neighbors(self, architecture: Architecture) -> list[Architecture]:
        """Return the architectures with another operation on one edge, or with another input of one node.

        As in published evolutionary searches, the operation moves with the input. Where the new edge lacks this
        operation, there is a neighbour for each of its operations that the old edge lacks.
        """
        own, neighbors = self.canonicalize(architecture), list[Architecture]()
        selectable = {choice.name: choice.selectable for choice in self.choices}
        for choice in self.choices:
            for old, new, kept in list_exchanges(choice, own.kept.get(choice.name, ())):
                if not choice.name.endswith("/inputs"):
                    neighbors.append(Architecture(self.name, {**own.kept, choice.name: kept}))
                    continue
                old_edge, new_edge = (choice.name.removesuffix("inputs") + f"edge{source}" for source in (old, new))
                rest = {name: names for name, names in own.kept.items() if name != old_edge} | {choice.name: kept}
                moved = own.kept[old_edge]
                if moved[0] not in selectable[new_edge]:
                    moved = tuple(name for name in selectable[new_edge] if name not in selectable[old_edge])
                neighbors += [Architecture(self.name, {**rest, new_edge: (operation,)}) for operation in moved]
        return neighbors

    def _list_pairs(self, architecture: Architecture) -> dict[str, Pairs]:
        """Return the (operation, input) pairs of each kind of cell, two for each node, as genotypes list them."""
        self.check(architecture)
        cells = {}
        for kind in KINDS:
            pairs: list[tuple[str, int]] = []
            for node in self.nodes:
                sources = sorted(map(int, architecture.kept.get(inputs_name(kind, node), ("0", "1"))))
                pairs += [(architecture[edge_name(kind, node, source)], source) for source in sources]
            cells[kind] = tuple(pairs)
        return cells

    def parse(self, text: str) -> Architecture:
        """Read a DARTS ``Genotype(...)`` in any of the spellings of DARTS code bases, or the named tuple itself."""
        kept: dict[str, tuple[str, ...]] = {}
        for kind, pairs in read_genotype(text).items():
            for position, node in enumerate(NODES):
                # The order of a pair does not matter to a sum, and published genotypes use both.
                chosen = sorted(pairs[2 * position : 2 * position + 2], key=lambda pair: pair[1])
                if node > KEPT_INPUTS:
                    kept[inputs_name(kind, node)] = tuple(str(source) for _, source in chosen)
                for operation, source in chosen:
                    kept[edge_name(kind, node, source)] = (operation,)
        architecture = Architecture(self.name, kept)
        self.check(architecture)
        return architecture

    def format(self, architecture: Architecture) -> str:
        return write_genotype(self._list_pairs(architecture))

    def cells(self, architecture: Architecture) -> tuple[CellGraph, ...]:
        # Names as in the pictures of the DARTS paper.
        names = ("c_{k-2}", "c_{k-1}", *(str(node - 2) for node in self.nodes), "c_{k}")
        graphs = []
        for kind, pairs in self._list_pairs(architecture).items():
            arrows = [
                (names[source], names[self.nodes[position // KEPT_INPUTS]], operation)
                for position, (operation, source) in enumerate(pairs)
            ]
            output_arrows = [(names[node], names[-1], "") for node in self.nodes[-self.concatenated :]]
            graphs.append(CellGraph(kind, names, tuple(arrows + output_arrows)))
        return tuple(graphs)
