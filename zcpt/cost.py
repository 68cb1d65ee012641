"""Sizes of feature maps, and parameters and MACs of single layers by formula."""

from __future__ import annotations

from zcpt.space import Cost

Size2d = tuple[int, int]


def halved(size: Size2d, stride: int) -> Size2d:
    """Height and width after a stride-``stride`` operation; odd sizes round up."""
    return -(-size[0] // stride), -(-size[1] // stride)


def conv_cost(inputs: int, outputs: int, kernel: int, size: Size2d, groups: int = 1) -> Cost:
    """A convolution without bias whose output is ``size`` (height, width)."""
    params = inputs // groups * outputs * kernel * kernel
    return Cost(params, params * size[0] * size[1])


def norm_cost(channels: int) -> Cost:
    """An affine BatchNorm: its multiplications are not counted, as is usual."""
    return Cost(2 * channels, 0)


def linear_cost(inputs: int, outputs: int) -> Cost:
    """A linear layer with bias; adding the bias is no multiplication."""
    return Cost(inputs * outputs + outputs, inputs * outputs)
