"""Blocks of discrete networks, and formulas for the parameters and MACs of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

HeightWidth = tuple[int, int]
"""Height and width of images or feature maps in pixels."""


@dataclass(frozen=True)
class Cost:
    """Trainable parameters, and multiply-accumulates (MACs) of convolutions and linear layers for one image."""

    params: int = 0
    macs: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.params + other.params, self.macs + other.macs)


@dataclass(frozen=True)
class Block:
    """One operation at one position of a discrete network, or an addition or concatenation of feature maps.

    Equality ignores ``cost`` and ``build``: equal blocks have the same key in a latency table and are measured once.
    """

    name: str
    in_channels: int
    out_channels: int
    stride: int
    input_size: HeightWidth
    """Height and width of the input feature maps."""
    cost: Cost = field(compare=False)
    build: Callable[[], nn.Module] = field(compare=False, repr=False)
    """Function that builds the module of the discrete network."""
    inputs: int = 1
    """Feature maps that the module takes, each of ``in_channels``; more than 1 in an addition or concatenation."""

    @property
    def key(self) -> str:
        """Name in latency tables, for example 'mb_k3_e6 24->40 stride 2 at 16x16'."""
        height, width = self.input_size
        return f"{self.name} {self.in_channels}->{self.out_channels} stride {self.stride} at {height}x{width}"


BlockPrice = Callable[[Block], float]
"""Price of one block in the unit of a budget: parameters, MACs or nanoseconds. Prices of a network's blocks add up."""


def sum_costs(blocks: Iterable[Block]) -> Cost:
    """Return the total cost of blocks."""
    costs = [block.cost for block in blocks]
    return Cost(sum(cost.params for cost in costs), sum(cost.macs for cost in costs))


def compute_output_size(size: HeightWidth, stride: int) -> HeightWidth:
    """Return height and width after an operation with a stride, rounded up."""
    return -(-size[0] // stride), -(-size[1] // stride)


def conv_cost(in_channels: int, out_channels: int, kernel: int, size: HeightWidth, groups: int = 1) -> Cost:
    """Compute the cost of a convolution without bias whose output has height and width ``size``."""
    params = in_channels // groups * out_channels * kernel * kernel
    return Cost(params, params * size[0] * size[1])


def norm_cost(channels: int) -> Cost:
    """Compute the cost of an affine BatchNorm. Its multiplications are not counted, as is usual for MACs."""
    return Cost(2 * channels, 0)


def linear_cost(in_channels: int, out_channels: int) -> Cost:
    """Compute the cost of a linear layer with bias. Adding the bias is no multiply-accumulate."""
    return Cost(in_channels * out_channels + out_channels, in_channels * out_channels)


def measure_cost(build: Callable[[], nn.Module], *shape: int) -> Cost:
    """Measure the cost of a module on one input of ``shape`` (channels, height, width).

    All convolutions and matrix products are counted. The module is built and run on torch's device 'meta', which
    computes shapes only.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module = build().eval()
        module(torch.empty(1, *shape))
    # The counter counts a multiply-accumulate as two operations.
    return Cost(count_parameters(module), counter.get_total_flops() // 2)


def count_parameters(module: nn.Module) -> int:
    """Return the number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def classifier_block(features: int, classes: int, size: HeightWidth) -> Block:
    """Return the block of a classifier: global average pooling of maps of ``size``, and a linear layer with bias."""
    return Block(
        "classifier",
        features,
        classes,
        1,
        size,
        linear_cost(features, classes),
        partial(_build_classifier, features, classes),
    )


def addition_block(channels: int, size: HeightWidth) -> Block:
    """Return the block that adds two feature maps of ``size``."""
    return Block("add", channels, channels, 1, size, Cost(), _Addition, inputs=2)


def concatenation_block(channels: int, parts: int, size: HeightWidth) -> Block:
    """Return the block that concatenates ``parts`` feature maps of ``size``, each of ``channels``."""
    return Block(f"concat{parts}", channels, parts * channels, 1, size, Cost(), _Concatenation, inputs=parts)


class _Addition(nn.Module):
    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other


class _Concatenation(nn.Module):
    def forward(self, *maps: Tensor) -> Tensor:
        return torch.cat(maps, dim=1)


def _build_classifier(features: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes))
