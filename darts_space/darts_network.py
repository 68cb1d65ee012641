"""Networks of DARTS' cells: the plan of the cells, the stem, and the discrete network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from darts_space.genotype import KINDS, Pairs
from darts_space.operations import OPERATIONS, FactorizedReduce, ReLUConvBN, operation_block
from zcpt.cost import Block, Cost, HeightWidth, compute_output_size, conv_cost, norm_cost
from zcpt.layers import AuxiliaryHead, DropPathNetwork, add_drop_path
from zcpt.space import NetworkConfig

NODES = (2, 3, 4, 5)
"""Intermediate nodes. Nodes 0 and 1 are the outputs of the two preceding cells, the earlier one first."""
KEPT_INPUTS = 2
"""Number of inputs that every node keeps."""
IMAGENET_STEM_FROM = 128
"""Smallest height and width, in pixels, with the ImageNet stem, which divides them by 8."""


@dataclass(frozen=True)
class CellPlan:
    """One cell of a network: channels and sizes of its two inputs, and channels of its nodes."""

    in_channels: tuple[int, int]
    input_size: tuple[HeightWidth, HeightWidth]
    channels: int
    kind: str
    after_reduction: bool
    """Whether the preceding cell is a reduction cell: input 0 is then twice as high and wide as input 1."""

    @property
    def out_channels(self) -> int:
        return len(NODES) * self.channels

    def stride(self, source: int) -> int:
        return 2 if self.kind == "reduce" and source < 2 else 1

    def build_preprocess(self, affine: bool) -> tuple[nn.Module, nn.Module]:
        first: nn.Module
        if self.after_reduction:
            first = FactorizedReduce(self.in_channels[0], self.channels, affine)
        else:
            first = ReLUConvBN(self.in_channels[0], self.channels, 1, 1, affine)
        return first, ReLUConvBN(self.in_channels[1], self.channels, 1, 1, affine)

    @property
    def output_size(self) -> HeightWidth:
        return compute_output_size(self.input_size[1], 2 if self.kind == "reduce" else 1)

    def preprocess_blocks(self) -> tuple[Block, Block]:
        preprocess = FactorizedReduce.block if self.after_reduction else ReLUConvBN.pointwise
        first = preprocess(self.in_channels[0], self.channels, self.input_size[0])
        return first, ReLUConvBN.pointwise(self.in_channels[1], self.channels, self.input_size[1])

    def edge_block(self, operation: str, source: int) -> Block:
        input_size = self.input_size[1] if source < 2 else self.output_size
        return operation_block(operation, self.channels, self.stride(source), input_size)


def _has_imagenet_stem(config: NetworkConfig) -> bool:
    return min(config.image_size) >= IMAGENET_STEM_FROM


@lru_cache(maxsize=16)
def cell_plans(config: NetworkConfig, stem_outputs: int) -> tuple[CellPlan, ...]:
    """Return the plans of all cells of a network whose stem has ``stem_outputs`` channels."""
    in_channels, channels, size = (stem_outputs, stem_outputs), config.channels, config.image_size
    reductions = (config.layers // 3, 2 * config.layers // 3)
    after_reduction = _has_imagenet_stem(config)
    input_size = (
        (
            compute_output_size(compute_output_size(size, 2), 2),
            compute_output_size(compute_output_size(compute_output_size(size, 2), 2), 2),
        )
        if after_reduction
        else (size, size)
    )
    plans: list[CellPlan] = []
    for index in range(config.layers):
        reduce = index in reductions
        channels = 2 * channels if reduce else channels
        plans.append(CellPlan(in_channels, input_size, channels, KINDS[reduce], after_reduction))
        in_channels, after_reduction = (in_channels[1], plans[-1].out_channels), reduce
        input_size = input_size[1], plans[-1].output_size
    return tuple(plans)


def stem_channels(config: NetworkConfig, supernet: bool) -> int:
    """Return the channels of the stem: three times the first cell's, or in discrete ImageNet networks as many."""
    return config.channels if _has_imagenet_stem(config) and not supernet else 3 * config.channels


def _conv_norm(in_channels: int, out_channels: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out_channels)


def build_stem(config: NetworkConfig, channels: int) -> nn.ModuleList:
    """Build the stem: one module for small images, or the two of the ImageNet stem."""
    if not _has_imagenet_stem(config):
        return nn.ModuleList([nn.Sequential(*_conv_norm(config.in_channels, channels, 1))])
    half = channels // 2
    first = nn.Sequential(*_conv_norm(config.in_channels, half, 2), nn.ReLU(), *_conv_norm(half, channels, 2))
    return nn.ModuleList([first, nn.Sequential(nn.ReLU(), *_conv_norm(channels, channels, 2))])


def _build_stem_module(config: NetworkConfig, channels: int, index: int) -> nn.Module:
    return build_stem(config, channels)[index]


def stem_blocks(config: NetworkConfig, channels: int) -> Iterator[Block]:
    """Yield the blocks of the stem."""
    in_channels, size = config.in_channels, config.image_size
    if _has_imagenet_stem(config):
        half, quarter = compute_output_size(size, 2), compute_output_size(compute_output_size(size, 2), 2)
        cost = _conv_norm_cost(in_channels, channels // 2, half) + _conv_norm_cost(channels // 2, channels, quarter)
        yield Block("stem.0", in_channels, channels, 4, size, cost, partial(_build_stem_module, config, channels, 0))
        cost = _conv_norm_cost(channels, channels, compute_output_size(quarter, 2))
        yield Block("stem.1", channels, channels, 2, quarter, cost, partial(_build_stem_module, config, channels, 1))
    else:
        cost = _conv_norm_cost(in_channels, channels, size)
        yield Block("stem", in_channels, channels, 1, size, cost, partial(_build_stem_module, config, channels, 0))


def _conv_norm_cost(in_channels: int, out_channels: int, size: HeightWidth) -> Cost:
    return conv_cost(in_channels, out_channels, 3, size) + norm_cost(out_channels)


class _Cell(nn.Module):
    def __init__(self, pairs: Pairs, plan: CellPlan) -> None:
        super().__init__()
        self.preprocess = nn.ModuleList(plan.build_preprocess(affine=True))
        self.sources = tuple(source for _, source in pairs)
        self.edges = nn.ModuleList(
            add_drop_path(OPERATIONS[operation].build(plan.channels, plan.stride(source), True))
            for operation, source in pairs
        )

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        nodes = [self.preprocess[0](before_last), self.preprocess[1](last)]
        for first in range(0, len(self.edges), KEPT_INPUTS):
            one, other = (self.edges[i](nodes[self.sources[i]]) for i in (first, first + 1))
            nodes.append(one + other)
        return torch.cat(nodes[2:], dim=1)


class DartsNetwork(DropPathNetwork):
    """Discrete network of a normal and a reduction cell."""

    def __init__(self, cells: Mapping[str, Pairs], config: NetworkConfig, auxiliary: bool) -> None:
        super().__init__()
        channels = stem_channels(config, supernet=False)
        plans = cell_plans(config, channels)
        self.stem = build_stem(config, channels)
        self.cells = nn.ModuleList(_Cell(cells[plan.kind], plan) for plan in plans)
        self.classifier = nn.Linear(plans[-1].out_channels, config.num_classes)
        self.auxiliary_after = 2 * config.layers // 3
        tapped = plans[self.auxiliary_after].out_channels
        self.auxiliary = AuxiliaryHead(tapped, config.num_classes) if auxiliary else None

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        before_last = last = self.stem[0](images)
        if len(self.stem) > 1:
            last = self.stem[1](before_last)
        tapped = last
        for index, cell in enumerate(self.cells):
            before_last, last = last, cell(before_last, last)
            tapped = last if index == self.auxiliary_after else tapped
        logits: Tensor = self.classifier(last.mean(dim=(2, 3)))
        if self.auxiliary is None or not self.training:
            return logits
        return logits, self.auxiliary(tapped)
