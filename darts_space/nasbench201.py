"""NAS-Bench-201: one cell of four nodes and six edges, five operations an edge (Dong and Yang, ICLR 2020)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from darts_space.operations import OPERATIONS, ReLUConvBN, operation_block
from zcpt.architecture import Architecture, Choice
from zcpt.cost import Block, Size2d, classifier_block, conv_cost, norm_cost, strided_size
from zcpt.errors import SpaceError
from zcpt.layers import AuxiliaryHead, DropPathNetwork, with_drop_path
from zcpt.space import CellGraph, NetworkConfig, Published, SearchSpace, WidthDepth
from zcpt.supernet import Supernet

CANDIDATES = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = tuple((node, source) for node in (1, 2, 3) for source in range(node))
FED_ZEROS = ("nor_conv_1x1", "nor_conv_3x3")
"""What the published code computes on zeros while it weighs 0 (see ``Mixture.feed_zeros``)."""
STAGES = 3


def edge_name(node: int, source: int) -> str:
    """Name of the choice of one edge."""
    return f"node{node}/edge{source}"


@dataclass(frozen=True)
class _Part:
    """One part of the skeleton: a cell, or the residual block that halves the image and doubles the channels."""

    name: str
    inputs: int
    outputs: int
    entering: Size2d
    """Height and width of its input."""

    @property
    def is_cell(self) -> bool:
        return self.inputs == self.outputs


def _skeleton(config: NetworkConfig) -> Iterator[_Part]:
    channels, size, index = config.channels, config.image_size, 0
    for stage in range(STAGES):
        if stage:
            yield _Part(f"blocks.{index}", channels, 2 * channels, size)
            channels, size, index = 2 * channels, strided_size(size, 2), index + 1
        for _ in range(config.layers):
            yield _Part(f"blocks.{index}", channels, channels, size)
            index += 1


class _ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_a = ReLUConvBN(inputs, outputs, 3, 2, affine=True)
        self.conv_b = ReLUConvBN(outputs, outputs, 3, 1, affine=True)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.conv_b(self.conv_a(x)) + self.shortcut(x)
        return output

    @classmethod
    def block(cls, part: _Part) -> Block:
        inputs, outputs, size = part.inputs, part.outputs, strided_size(part.entering, 2)
        convs = ReLUConvBN.cost(inputs, outputs, 3, size) + ReLUConvBN.cost(outputs, outputs, 3, size)
        cost = convs + conv_cost(inputs, outputs, 1, size)
        return Block("residual", inputs, outputs, 2, part.entering, cost, partial(cls, inputs, outputs))


def _stem(config: NetworkConfig) -> nn.Module:
    conv = nn.Conv2d(config.in_channels, config.channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(config.channels))


def _norm(last: _Part) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(last.outputs), nn.ReLU())


def _head(channels: int) -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class _Cell(nn.Module):
    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        for node, source in EDGES:
            operation = OPERATIONS[architecture[edge_name(node, source)]]
            self.edges[f"{node}_{source}"] = with_drop_path(operation.build(channels, 1, True))

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for node in (1, 2, 3):
            terms = [self.edges[f"{node}_{source}"](nodes[source]) for source in range(node)]
            nodes.append(sum(terms[1:], terms[0]))
        return nodes[-1]


class _Network(DropPathNetwork):
    def __init__(self, architecture: Architecture, config: NetworkConfig, auxiliary: bool) -> None:
        super().__init__()
        self.stem = _stem(config)
        self.blocks = nn.ModuleList(
            _Cell(architecture, block.outputs) if block.is_cell else _ResidualBlock(block.inputs, block.outputs)
            for block in _skeleton(config)
        )
        channels = config.channels * 2 ** (STAGES - 1)
        self.head = _head(channels)
        self.classifier = nn.Linear(channels, config.num_classes)
        # Two thirds into the network, where DARTS has it too.
        self.auxiliary_after = (STAGES - 1) * (config.layers + 1) - 1
        self.auxiliary = AuxiliaryHead(channels, config.num_classes) if auxiliary else None

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x, tap = self.stem(images), images
        for index, block in enumerate(self.blocks):
            x = block(x)
            tap = x if index == self.auxiliary_after else tap
        logits: Tensor = self.classifier(self.head(x))
        if self.auxiliary is None or not self.training:
            return logits
        return logits, self.auxiliary(tap)


class NasBench201(SearchSpace):
    """The topology space of NATS-Bench: 15,625 cells, of which all were trained and published."""

    name = "nasbench201"
    summary = "cell of 6 edges, 5 operations each: 15,625 cells with published accuracies"
    layer_unit = "cells in each of the three stages"
    search_size = WidthDepth(16, 5)
    train_size = WidthDepth(16, 5)
    small_size = WidthDepth(16, 1)
    published = Published(batch_size=256, alpha_draw="proposal")
    choices = tuple(Choice(edge_name(node, source), CANDIDATES) for node, source in EDGES)

    def build_supernet(self, config: NetworkConfig) -> Supernet:
        net = Supernet(self.choices)
        x = net.fixed("stem", _stem(config), Supernet.IMAGES)
        for block in _skeleton(config):
            if block.is_cell:
                x = self._mixed_cell(net, block.name, block.outputs, x)
            else:
                x = net.fixed(block.name, _ResidualBlock(block.inputs, block.outputs), x)
        channels = config.channels * 2 ** (STAGES - 1)
        net.fixed("classifier", nn.Linear(channels, config.num_classes), net.fixed("head", _head(channels), x))
        return net

    @staticmethod
    def _mixed_cell(net: Supernet, name: str, channels: int, x: str) -> str:
        nodes = [x]
        for node in (1, 2, 3):
            edges = []
            for source in range(node):
                path, choice = f"{name}.node{node}.edge{source}", edge_name(node, source)
                names = net.choices[choice].candidates
                candidates = {key: OPERATIONS[key].build(channels, 1, False) for key in names}
                convolutions = [i for i, key in enumerate(names) if key in FED_ZEROS]
                edges.append(net.mixed(path, choice, candidates, nodes[source], fed_zeros=convolutions))
            nodes.append(net.sum(f"{name}.node{node}", edges))
        return nodes[-1]

    def build_network(
        self, architecture: Architecture, config: NetworkConfig, *, auxiliary: bool = False
    ) -> DropPathNetwork:
        self.check(architecture)
        return _Network(architecture, config, auxiliary)

    def fixed_blocks(self, config: NetworkConfig) -> Iterator[Block]:
        inputs, channels, size = config.in_channels, config.channels, config.image_size
        cost = conv_cost(inputs, channels, 3, size) + norm_cost(channels)
        yield Block("stem", inputs, channels, 1, size, cost, partial(_stem, config))
        *_, last = parts = list(_skeleton(config))
        yield from (_ResidualBlock.block(part) for part in parts if not part.is_cell)
        yield Block("norm", last.outputs, last.outputs, 1, last.entering, norm_cost(last.outputs), partial(_norm, last))
        yield classifier_block(last.outputs, config.num_classes, last.entering)

    def chosen_blocks(self, choice: str, candidate: str, config: NetworkConfig) -> Iterator[Block]:
        cells = (part for part in _skeleton(config) if part.is_cell)
        return (operation_block(candidate, cell.outputs, 1, cell.entering) for cell in cells)

    def parse(self, text: str) -> Architecture:
        """Read ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
        nodes = [re.findall(r"([^|~+]+)~(\d+)\|", part) for part in text.strip().split("+")]
        wanted = [[source for n, source in EDGES if n == node] for node in (1, 2, 3)]
        format_count = "+".join("|" + "".join(f"{op}~{i}|" for op, i in node) for node in nodes)
        if format_count != text.strip() or [[int(i) for _, i in node] for node in nodes] != wanted:
            raise SpaceError(f"'{text.strip()}' is not of the form |op~0|+|op~0|op~1|+|op~0|op~1|op~2|.")
        kept = {}
        for (node, source), operation in zip(EDGES, (op for n in nodes for op, _ in n), strict=True):
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
