"""DARTS' cells in a network: channels and sizes of all cells, the stem, and the discrete network (Liu et al., 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from darts_space.genotype import KINDS, Pairs
from darts_space.operations import OPERATIONS, FactorizedReduce, ReLUConvBN, operation_block
from zcpt.cost import (
    Block,
    Cost,
    HeightWidth,
    addition_block,
    compute_output_size,
    concatenation_block,
    conv_cost,
    norm_cost,
)
from zcpt.layers import add_drop_path
from zcpt.space import NetworkConfig
from zcpt.staged_network import StagedNetwork, run_checkpointed

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
        """Channels of the output, the concatenation of all nodes."""
        return len(NODES) * self.channels

    def stride(self, source: int) -> int:
        """Return the stride of the edges from a node."""
        # Only edges from the two inputs of a reduction cell have stride 2: the nodes behind them are already halved.
        return 2 if self.kind == "reduce" and source < 2 else 1

    def build_preprocess(self, affine: bool) -> tuple[nn.Module, nn.Module]:
        """Build the modules that bring the two inputs to the channels and the size of the nodes."""
        first: nn.Module
        if self.after_reduction:
            # Input 0 comes from before the reduction cell, so it has to be halved to be added to input 1.
            first = FactorizedReduce(self.in_channels[0], self.channels, affine)
        else:
            first = ReLUConvBN(self.in_channels[0], self.channels, 1, 1, affine)
        return first, ReLUConvBN(self.in_channels[1], self.channels, 1, 1, affine)

    @property
    def output_size(self) -> HeightWidth:
        """Height and width of the output."""
        return compute_output_size(self.input_size[1], 2 if self.kind == "reduce" else 1)

    def preprocess_blocks(self) -> tuple[Block, Block]:
        """Return the blocks of ``build_preprocess`` in a discrete network."""
        preprocess = FactorizedReduce.block if self.after_reduction else ReLUConvBN.pointwise
        first = preprocess(self.in_channels[0], self.channels, self.input_size[0])
        return first, ReLUConvBN.pointwise(self.in_channels[1], self.channels, self.input_size[1])

    def join_blocks(self) -> tuple[Block, ...]:
        """Return the blocks of a discrete network that add up the edges of each node, and concatenate the nodes."""
        additions = [addition_block(self.channels, self.output_size)] * (len(NODES) * (KEPT_INPUTS - 1))
        return *additions, concatenation_block(self.channels, len(NODES), self.output_size)

    def edge_block(self, operation: str, source: int) -> Block:
        """Return the block of an operation on an edge from a node."""
        input_size = self.input_size[1] if source < 2 else self.output_size
        return operation_block(operation, self.channels, self.stride(source), input_size)


def _has_imagenet_stem(config: NetworkConfig) -> bool:
    return min(config.image_size) >= IMAGENET_STEM_FROM


@lru_cache(maxsize=16)
def plan_cells(config: NetworkConfig, stem_outputs: int) -> tuple[CellPlan, ...]:
    """Return the plans of all cells of a network.

    Args:
        config: Config of the network.
        stem_outputs: Channels of the stem's output.
    """
    # DARTS' rule for any depth: the cells at one third and two thirds reduce, and reducing doubles the channels.
    # For 8 cells these are cells 2 and 5.
    in_channels, channels, size = (stem_outputs, stem_outputs), config.channels, config.image_size
    reductions = (config.layers // 3, 2 * config.layers // 3)
    # The ImageNet stem has two outputs, the first twice as high and wide as the second, as if a reduction cell preceded
    # the first cell (``reduction_prev = True`` in DARTS' code).
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


def compute_stem_channels(config: NetworkConfig, supernet: bool) -> int:
    """Compute the channels of the stem: three times ``config.channels``, or once in discrete ImageNet networks."""
    # Both as in DARTS, which searches on CIFAR-10 only: its search network and its CIFAR network have a stem_multiplier
    # of 3, its ImageNet network has none. Supernets for large images keep the multiplier.
    return config.channels if _has_imagenet_stem(config) and not supernet else 3 * config.channels


def _conv_norm(in_channels: int, out_channels: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out_channels)


def build_stem(config: NetworkConfig, channels: int) -> nn.ModuleList:
    """Build the stem: one module for small images, or the two of the ImageNet stem."""
    if not _has_imagenet_stem(config):
        return nn.ModuleList([nn.Sequential(*_conv_norm(config.in_channels, channels, 1))])
    # Each map is read by a ReLU of the next module, so neither ends in one.
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
        self.sources = [source for _, source in pairs]
        self.edges = nn.ModuleList(
            add_drop_path(OPERATIONS[operation].build(plan.channels, plan.stride(source), True))
            for operation, source in pairs
        )

    def forward(self, before_last: Tensor, last: Tensor) -> Tensor:
        nodes = [self.preprocess[0](before_last), self.preprocess[1](last)]
        # Two edges enter each node. One loop over all, because torch.jit.script cannot index modules by a variable.
        for index, edge in enumerate(self.edges):
            output = edge(nodes[self.sources[index]])
            if index % 2 == 0:
                nodes.append(output)
            else:
                nodes[-1] = nodes[-1] + output
        return torch.cat(nodes[2:], dim=1)


class DartsNetwork(StagedNetwork):
    """Discrete network of a normal and a reduction cell."""

    def __init__(self, cells: Mapping[str, Pairs], config: NetworkConfig, auxiliary: bool) -> None:
        super().__init__()
        channels = compute_stem_channels(config, supernet=False)
        plans = plan_cells(config, channels)
        self.stem = build_stem(config, channels)
        self.cells = nn.ModuleList(_Cell(cells[plan.kind], plan) for plan in plans)
        levels = [("stem.0", channels, 4), ("stem.1", channels, 8)] if len(self.stem) == 2 else [("stem", channels, 1)]
        for index, plan in enumerate(plans):
            reduction = levels[-1][2] * (2 if plan.kind == "reduce" else 1)
            levels.append((f"cells.{index}", plan.out_channels, reduction))
        self._add_head(levels, config.num_classes, len(self.stem) + 2 * config.layers // 3, auxiliary)

    def forward_blocks(self, images: Tensor, kept: list[int]) -> tuple[Tensor, list[Tensor]]:
        outputs: list[Tensor] = []
        before_last = last = images
        for index, stem in enumerate(self.stem):
            last = stem(last)
            before_last = last if index == 0 else before_last
            if index in kept:
                outputs.append(last)
        for index, cell in enumerate(self.cells, len(self.stem)):
            output = run_checkpointed(cell, before_last, last) if self.grad_checkpointing else cell(before_last, last)
            before_last, last = last, output
            if index in kept:
                outputs.append(last)
        return last, outputs
