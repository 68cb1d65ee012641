"""What a discrete network consists of, and parameters and MACs of single layers by formula."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

HeightWidth = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Cost:
    """Trainable parameters, and multiply-accumulates of convolutions and linear layers for one image."""

    params: int = 0
    macs: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.params + other.params, self.macs + other.macs)


@dataclass(frozen=True)
class Block:
    """One operation at one place of a discrete network; equal blocks do the same on inputs of the same shape."""

    name: str
    in_channels: int
    """Channels of its input."""
    out_channels: int
    stride: int
    input_size: HeightWidth
    """Height and width of its input."""
    cost: Cost = field(compare=False)
    build: Callable[[], nn.Module] = field(compare=False, repr=False)
    """Makes the module as the network has it."""

    @property
    def key(self) -> str:
        """The name under which tables hold it."""
        height, width = self.input_size
        return f"{self.name} {self.in_channels}->{self.out_channels} stride {self.stride} at {height}x{width}"


BlockPrice = Callable[[Block], float]
"""What one block counts; a network counts the sum of its blocks."""


def sum_costs(blocks: Iterable[Block]) -> Cost:
    """The cost of all blocks together."""
    costs = [block.cost for block in blocks]
    return Cost(sum(cost.params for cost in costs), sum(cost.macs for cost in costs))


def compute_output_size(size: HeightWidth, stride: int) -> HeightWidth:
    """Height and width after a stride-``stride`` operation; odd sizes round up."""
    return -(-size[0] // stride), -(-size[1] // stride)


def conv_cost(in_channels: int, out_channels: int, kernel: int, size: HeightWidth, groups: int = 1) -> Cost:
    """A convolution without bias whose output is ``size`` (height, width)."""
    params = in_channels // groups * out_channels * kernel * kernel
    return Cost(params, params * size[0] * size[1])


def norm_cost(channels: int) -> Cost:
    """An affine BatchNorm: its multiplications are not counted, as is usual."""
    return Cost(2 * channels, 0)


def linear_cost(in_channels: int, out_channels: int) -> Cost:
    """A linear layer with bias; adding the bias is no multiplication."""
    return Cost(in_channels * out_channels + out_channels, in_channels * out_channels)


def measure_cost(build: Callable[[], nn.Module], *shape: int) -> Cost:
    """The cost of any module on one input of that shape (channels, height, width), by counting what it computes.

    Nothing is computed for it: the module is built and run on torch's device 'meta'. All products of matrices and
    convolutions count.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module = build().eval()
        module(torch.empty(1, *shape))
    # The counter takes a multiply-accumulate for two operations.
    return Cost(count_parameters(module), counter.get_total_flops() // 2)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def classifier_block(features: int, classes: int, size: HeightWidth) -> Block:
    """Global average pooling of maps of ``size``, and a linear layer with bias."""
    return Block(
        "classifier",
        features,
        classes,
        1,
        size,
        linear_cost(features, classes),
        partial(_classifier, features, classes),
    )


def _classifier(features: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes))
