"""Candidate operations of cell spaces, with their parameters and MACs by formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from zcpt.cost import Block, Cost, HeightWidth, compute_output_size, conv_cost, measure_cost, norm_cost
from zcpt.errors import SpaceError
from zcpt.layers import add_drop_path
from zcpt.registry import Registry
from zcpt.supernet import Stochastic


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution (padded to keep the size at stride 1), BatchNorm."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, affine: bool) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(out_channels, affine=affine),
        )

    def forward(self, x: Tensor, blocked: bool = False) -> Tensor:
        """Apply the operation. ``blocked`` feeds it zeros, as NAS-Bench-201's published search does when masking."""
        x = x * 0 if blocked else x
        for module in self:  # not super().forward, which torch.jit.script does not know
            x = module(x)
        return x

    @staticmethod
    def cost(in_channels: int, out_channels: int, kernel: int, size: HeightWidth) -> Cost:
        """Compute the cost with an affine BatchNorm and an output of height and width ``size``."""
        return conv_cost(in_channels, out_channels, kernel, size) + norm_cost(out_channels)

    @classmethod
    def pointwise(cls, in_channels: int, out_channels: int, size: HeightWidth) -> Block:
        """Return the block of the 1x1 operation in a discrete network, on maps of ``size``."""
        build = partial(cls, in_channels, out_channels, 1, 1, True)
        return Block(
            "relu_conv_bn_1x1", in_channels, out_channels, 1, size, cls.cost(in_channels, out_channels, 1, size), build
        )


class SeparableConv(nn.Sequential):
    """ReLU, depthwise convolution, pointwise convolution and BatchNorm, ``depth`` times; the stride is in the first."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool, dilation: int, depth: int) -> None:
        layers: list[nn.Module] = []
        padding = dilation * (kernel // 2)
        for index in range(depth):
            layers += [
                nn.ReLU(),
                nn.Conv2d(
                    channels, channels, kernel, 1 if index else stride, padding, dilation, groups=channels, bias=False
                ),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels, affine=affine),
            ]
        super().__init__(*layers)


@torch.fx.wrap  # one node in graphs of torch.fx, which cannot trace a branch on the size
def _pad_to_even(x: Tensor) -> Tensor:
    """Add a row or column of zeros at the end of the sides of [B, C, H, W] that are odd."""
    height, width = x.shape[2], x.shape[3]
    if height % 2 == 0 and width % 2 == 0:
        return x
    return F.pad(x, (0, width % 2, 0, height % 2))


class FactorizedReduce(nn.Module):
    """Halve height and width: two 1x1 convolutions of stride 2, the second one on the input shifted by a pixel.

    DARTS' skip connection at stride 2, where an identity cannot be. The shift lets the second half of the output
    channels read pixels that the first half skips.
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, out_channels // 2, 1, 2, bias=False)
        self.conv2 = nn.Conv2d(in_channels, out_channels - out_channels // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = _pad_to_even(self.relu(x))  # otherwise the shifted input of odd sides would give smaller maps
        output: Tensor = self.norm(torch.cat([self.conv1(x), self.conv2(x[:, :, 1:, 1:])], dim=1))
        return output

    @staticmethod
    def cost(in_channels: int, out_channels: int, size: HeightWidth) -> Cost:
        """Compute the cost with an affine BatchNorm and an output of height and width ``size``."""
        return conv_cost(in_channels, out_channels, 1, size) + norm_cost(out_channels)

    @classmethod
    def block(cls, in_channels: int, out_channels: int, input_size: HeightWidth) -> Block:
        """Return the block of the operation in a discrete network, on maps of ``input_size``."""
        cost = cls.cost(in_channels, out_channels, compute_output_size(input_size, 2))
        build = partial(cls, in_channels, out_channels, True)
        return Block("factorized_reduce", in_channels, out_channels, 2, input_size, cost, build)


class Zero(nn.Module):
    """Operation 'none': zeros of the shape of the output."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        # Not x * 0 as in DARTS' code: that gives NaN where x is infinite.
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class Noise(Stochastic):
    """Operation 'noise' of RobustDARTS' S4: standard normal numbers, which do not depend on the input."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return self.normal_like(x[:, :, :: self.stride, :: self.stride])


BuildOperation = Callable[[int, int, bool], nn.Module]
"""Function or class that builds an operation from (channels, stride, affine)."""
Builder = TypeVar("Builder", bound=BuildOperation)


@dataclass(frozen=True)
class CellOperation:
    """Candidate operation of cells, which keeps the number of channels."""

    build: BuildOperation
    cost: Callable[[int, int, HeightWidth], Cost] | None = None
    """Function from (channels, stride, output size) to the cost with affine BatchNorms. None measures the module."""


def _no_cost(channels: int, stride: int, size: HeightWidth) -> Cost:
    return Cost()


def _make_conv(kernel: int) -> CellOperation:
    return CellOperation(
        lambda c, stride, affine: ReLUConvBN(c, c, kernel, stride, affine),
        lambda c, stride, size: ReLUConvBN.cost(c, c, kernel, size),
    )


def _make_separable(kernel: int, dilation: int, depth: int) -> CellOperation:
    def cost(channels: int, stride: int, size: HeightWidth) -> Cost:
        depthwise = conv_cost(channels, channels, kernel, size, groups=channels)
        once = depthwise + conv_cost(channels, channels, 1, size) + norm_cost(channels)
        return sum((once for _ in range(depth)), Cost())

    return CellOperation(lambda c, stride, affine: SeparableConv(c, kernel, stride, affine, dilation, depth), cost)


def _build_skip(channels: int, stride: int, affine: bool) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


def _compute_skip_cost(channels: int, stride: int, size: HeightWidth) -> Cost:
    return Cost() if stride == 1 else FactorizedReduce.cost(channels, channels, size)


def _build_average_pool(channels: int, stride: int, affine: bool) -> nn.Module:
    # DARTS' setting: the zeros of the padding would pull averages at the borders towards 0.
    return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)


_BUILT_IN = {
    "none": CellOperation(lambda c, stride, affine: Zero(stride), _no_cost),
    "noise": CellOperation(lambda c, stride, affine: Noise(stride), _no_cost),
    "skip_connect": CellOperation(_build_skip, _compute_skip_cost),
    "avg_pool_3x3": CellOperation(_build_average_pool, _no_cost),
    "max_pool_3x3": CellOperation(lambda c, stride, affine: nn.MaxPool2d(3, stride, padding=1), _no_cost),
    "nor_conv_1x1": _make_conv(1),
    "nor_conv_3x3": _make_conv(3),
    # DARTS applies separable convolutions twice, dilated ones once.
    "sep_conv_3x3": _make_separable(3, dilation=1, depth=2),
    "sep_conv_5x5": _make_separable(5, dilation=1, depth=2),
    "dil_conv_3x3": _make_separable(3, dilation=2, depth=1),
    "dil_conv_5x5": _make_separable(5, dilation=2, depth=1),
}


OPERATIONS: Registry[CellOperation] = Registry("operation", SpaceError, own=_BUILT_IN)


def register_operation(name: str) -> Callable[[Builder], Builder]:
    """Return a decorator that registers a class or function that builds a candidate operation of cell spaces.

    It is called with three arguments:

    - the channels, which the operation must keep;
    - the stride, 1 or 2; stride 2 halves height and width, rounding up;
    - whether its BatchNorms are affine: True in discrete networks, False in supernets.

    Its cost is measured on the module.

    Raises:
        SpaceError: The name is taken.
    """
    return OPERATIONS.decorator(name, convert=CellOperation)


def operation_block(name: str, channels: int, stride: int, input_size: HeightWidth) -> Block:
    """Return the block of an operation in a discrete network, on maps of ``input_size``."""
    operation = OPERATIONS[name]
    build = partial(_build_with_drop_path, operation.build, channels, stride)
    if operation.cost is None:
        cost = measure_cost(build, channels, *input_size)
    else:
        cost = operation.cost(channels, stride, compute_output_size(input_size, stride))
    return Block(name, channels, channels, stride, input_size, cost, build)


def _build_with_drop_path(build: BuildOperation, channels: int, stride: int) -> nn.Module:
    return add_drop_path(build(channels, stride, True))
