"""NAS-Bench-201: one cell of four nodes and six edges, five operations on each edge (Dong and Yang, ICLR 2020)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from darts_space.operations import OPERATIONS, ReLUConvBN, operation_block
from zcpt.architecture import Architecture, Choice
from zcpt.cost import (
    Block,
    HeightWidth,
    addition_block,
    classifier_block,
    compute_output_size,
    conv_cost,
    norm_cost,
)
from zcpt.errors import NotationError
from zcpt.layers import add_drop_path
from zcpt.notation import clean_text, pick_single, read_literal
from zcpt.printing import shorten
from zcpt.space import CellGraph, NetworkConfig, PublishedSettings, SearchSpace, WidthDepth
from zcpt.staged_network import StagedNetwork, run_checkpointed
from zcpt.supernet import Supernet

# In the order of the published search space. Unlike in DARTS, 'none' can be kept: the benchmark has trained cells
# with it.
CANDIDATES = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
# (node, source), in the order in which the benchmark writes a cell.
EDGES = tuple((node, source) for node in (1, 2, 3) for source in range(node))
# The first edge of each of the three nodes is added to nothing.
_ADDITIONS = len(EDGES) - 3
FED_ZEROS = ("nor_conv_1x1", "nor_conv_3x3")
"""Candidates that the published code computes on zeros while their weight is 0 (see ``Mixture.feed_zeros``)."""
# The quantifier keeps the time to read a long text proportional to its length.
_CELL = re.compile(
    r"(?<![|+])"
    + r"\+".join(r"\|" + "".join(rf"([^|~+\s]{{1,60}})~{i}\|" for i in range(node)) for node in (1, 2, 3))
    + r"(?![|+])"
)
STAGES = 3
"""Stages of cells of one width and size; a residual block leads to the next stage."""


def edge_name(node: int, source: int) -> str:
    """Return the name of the choice of an edge's operation."""
    return f"node{node}/edge{source}"


def _list_sources(node: object) -> list[int] | None:
    """Return the inputs of a node from its (operation, input) pairs; None if it is no list of such pairs."""
    if not isinstance(node, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in node):
        return None
    return [source for operation, source in node if isinstance(operation, str)]


@dataclass(frozen=True)
class _SkeletonPart:
    """Part of the skeleton: a cell, or the residual block that halves the maps and doubles the channels."""

    name: str
    in_channels: int
    out_channels: int
    input_size: HeightWidth
    """Height and width of the input."""

    @property
    def is_cell(self) -> bool:
        """Whether the part is a cell: cells keep the channels, residual blocks do not."""
        return self.in_channels == self.out_channels


def _list_parts(config: NetworkConfig) -> Iterator[_SkeletonPart]:
    channels, size, index = config.channels, config.image_size, 0
    for stage in range(STAGES):
        if stage:
            yield _SkeletonPart(f"blocks.{index}", channels, 2 * channels, size)
            channels, size, index = 2 * channels, compute_output_size(size, 2), index + 1
        for _ in range(config.layers):
            yield _SkeletonPart(f"blocks.{index}", channels, channels, size)
            index += 1


class _ResidualBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        # These BatchNorms have parameters in the supernet too, as published: no choice compares these blocks.
        self.conv_a = ReLUConvBN(in_channels, out_channels, 3, 2, affine=True)
        self.conv_b = ReLUConvBN(out_channels, out_channels, 3, 1, affine=True)
        # The published pooling rounds odd sizes down and then does not fit the convolutions. Even sizes are the same.
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(in_channels, out_channels, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.conv_b(self.conv_a(x)) + self.shortcut(x)
        return output

    @classmethod
    def block(cls, part: _SkeletonPart) -> Block:
        in_channels, out_channels, size = part.in_channels, part.out_channels, compute_output_size(part.input_size, 2)
        convs = ReLUConvBN.cost(in_channels, out_channels, 3, size) + ReLUConvBN.cost(
            out_channels, out_channels, 3, size
        )
        cost = convs + conv_cost(in_channels, out_channels, 1, size)
        return Block(
            "residual", in_channels, out_channels, 2, part.input_size, cost, partial(cls, in_channels, out_channels)
        )


def _build_stem(config: NetworkConfig) -> nn.Module:
    conv = nn.Conv2d(config.in_channels, config.channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(config.channels))


def _build_norm(last: _SkeletonPart) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(last.out_channels), nn.ReLU())


def _build_head(channels: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class _Cell(nn.Module):
    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        self.sources = [source for _, source in EDGES]
        for node, source in EDGES:
            operation = OPERATIONS[architecture[edge_name(node, source)]]
            self.edges[f"{node}_{source}"] = add_drop_path(operation.build(channels, 1, True))

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        # The first edge into a node comes from node 0. One loop over all edges, because torch.jit.script cannot look up
        # modules by a computed name.
        for index, edge in enumerate(self.edges.values()):
            source = self.sources[index]
            output = edge(nodes[source])
            if source == 0:
                nodes.append(output)
            else:
                nodes[-1] = nodes[-1] + output
        return nodes[-1]


class NasBench201Network(StagedNetwork):
    """Discrete network of a cell: three stages with a residual block between them."""

    def __init__(self, architecture: Architecture, config: NetworkConfig, auxiliary: bool) -> None:
        super().__init__()
        parts = list(_list_parts(config))
        self.stem = _build_stem(config)
        self.blocks = nn.ModuleList(
            _Cell(architecture, part.out_channels)
            if part.is_cell
            else _ResidualBlock(part.in_channels, part.out_channels)
            for part in parts
        )
        self.head = _build_norm(parts[-1])
        levels = [("stem", config.channels, 1)]
        for part in parts:
            levels.append((part.name, part.out_channels, levels[-1][2] * (1 if part.is_cell else 2)))
        # Two thirds into the network, as in DARTS.
        self._add_head(levels, config.num_classes, (STAGES - 1) * (config.layers + 1), auxiliary)

    def list_blocks(self) -> list[nn.Module]:
        """Return the cells and residual blocks, for proxies that compare what blocks do: all cells, also of skips."""
        return list(self.blocks)

    def forward_blocks(self, images: Tensor, kept: list[int]) -> tuple[Tensor, list[Tensor]]:
        x = self.stem(images)
        outputs: list[Tensor] = [x] if 0 in kept else []
        for index, block in enumerate(self.blocks, 1):
            x = run_checkpointed(block, x) if self.grad_checkpointing else block(x)
            if index in kept:
                outputs.append(x)
        return self.head(x), outputs


class NasBench201(SearchSpace):
    """NAS-Bench-201, the topology space of NATS-Bench: 15,625 cells, all trained and published."""

    name = "nasbench201"
    summary = "cell of 6 edges, 5 operations each: 15,625 cells with published accuracies"
    layer_unit = "cells in each of the three stages"
    search_size = WidthDepth(16, 5)
    train_size = WidthDepth(16, 5)
    small_size = WidthDepth(16, 1)
    published = PublishedSettings(batch_size=256, alpha_draw="proposal")
    choices = tuple(Choice(edge_name(node, source), CANDIDATES) for node, source in EDGES)

    def build_supernet(self, config: NetworkConfig) -> Supernet:
        net = Supernet(self.choices)
        x = net.fixed("stem", _build_stem(config), Supernet.IMAGES)
        for block in _list_parts(config):
            if block.is_cell:
                x = self._mixed_cell(net, block.name, block.out_channels, x)
            else:
                x = net.fixed(block.name, _ResidualBlock(block.in_channels, block.out_channels), x)
        channels = config.channels * 2 ** (STAGES - 1)
        net.fixed("classifier", nn.Linear(channels, config.num_classes), net.fixed("head", _build_head(channels), x))
        return net

    @staticmethod
    def _mixed_cell(net: Supernet, name: str, channels: int, x: str) -> str:
        nodes = [x]
        for node in (1, 2, 3):
            edges = []
            for source in range(node):
                path, choice = f"{name}.node{node}.edge{source}", edge_name(node, source)
                names = net.choices[choice].candidates
                # BatchNorms without parameters, and unlike in DARTS none after the pooling, both as published.
                candidates = {key: OPERATIONS[key].build(channels, 1, False) for key in names}
                convolutions = [i for i, key in enumerate(names) if key in FED_ZEROS]
                edges.append(net.mixed(path, choice, candidates, nodes[source], fed_zeros=convolutions))
            nodes.append(net.sum(f"{name}.node{node}", edges))
        return nodes[-1]

    def build_network(
        self, architecture: Architecture, config: NetworkConfig, *, auxiliary: bool = False
    ) -> NasBench201Network:
        self.check(architecture)
        return NasBench201Network(architecture, config, auxiliary)

    def fixed_blocks(self, config: NetworkConfig) -> Iterator[Block]:
        in_channels, channels, size = config.in_channels, config.channels, config.image_size
        cost = conv_cost(in_channels, channels, 3, size) + norm_cost(channels)
        yield Block("stem", in_channels, channels, 1, size, cost, partial(_build_stem, config))
        *_, last = parts = list(_list_parts(config))
        yield from (_ResidualBlock.block(part) for part in parts if not part.is_cell)
        for part in parts:
            if part.is_cell:
                yield from [addition_block(part.out_channels, part.input_size)] * _ADDITIONS
        yield Block(
            "norm",
            last.out_channels,
            last.out_channels,
            1,
            last.input_size,
            norm_cost(last.out_channels),
            partial(_build_norm, last),
        )
        yield classifier_block(last.out_channels, config.num_classes, last.input_size)

    def chosen_blocks(self, choice: str, candidate: str, config: NetworkConfig) -> Iterator[Block]:
        cells = (part for part in _list_parts(config) if part.is_cell)
        return (operation_block(candidate, cell.out_channels, 1, cell.input_size) for cell in cells)

    def parse(self, text: str) -> Architecture:
        """Read ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``, also in a longer text such as ``Structure(4 nodes with ...)``.

        The list of the nodes' (operation, input) pairs is read too.
        """
        text = clean_text(text)
        found = [("", match.groups()) for match in _CELL.finditer(text)]
        if not found and text.startswith(("[", "(")):
            nodes = read_literal(text)
            if [_list_sources(node) for node in nodes] == [[0], [0, 1], [0, 1, 2]]:
                found = [("", tuple(operation for node in nodes for operation, _ in node))]
        if not found:
            raise NotationError(f"'{shorten(text)}' is not of the form |op~0|+|op~0|op~1|+|op~0|op~1|op~2|.")
        operations = pick_single(found, "cells")
        kept = {}
        for (node, source), operation in zip(EDGES, operations, strict=True):
            kept[edge_name(node, source)] = (operation,)
        architecture = Architecture(self.name, kept)
        self.check(architecture)
        return architecture

    def format(self, architecture: Architecture) -> str:
        self.check(architecture)
        nodes = ((architecture[edge_name(node, i)] + f"~{i}" for i in range(node)) for node in (1, 2, 3))
        return "+".join("|" + "|".join(node) + "|" for node in nodes)

    def cells(self, architecture: Architecture) -> tuple[CellGraph, ...]:
        self.check(architecture)
        names = ("input", "1", "2", "output")
        arrows = ((names[source], names[node], architecture[edge_name(node, source)]) for node, source in EDGES)
        return (CellGraph("cell", names, tuple(arrow for arrow in arrows if arrow[2] != "none")),)
