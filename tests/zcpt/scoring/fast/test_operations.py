"""The fast operations give the same results as torch."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.zcpt.scoring.fast.conftest import NASWOT, make_images
from zcpt.scoring.fast.build import build_graph
from zcpt.scoring.fast.graph import GraphBuilder
from zcpt.scoring.fast.lowering import LOWERINGS
from zcpt.scoring.fast.operations import AveragePool, Convolution, MaxPool3x3
from zcpt.scoring.fast.rewrite import rewrite_graph

SIZES = [(1, 1), (2, 2), (1, 2), (3, 1), (2, 5), (5, 5), (8, 7)]


def lower_function(function: Any, x: Any, *args: Any, **named: Any) -> Any:
    graph = GraphBuilder(tuple(x.shape), x.dtype, x.device)
    value = LOWERINGS[function](graph, graph.images, *args, **named)
    return value and value.op


@pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["channels first", "channels last"]
)
@pytest.mark.parametrize("size", SIZES)
def test_max_pools_equal_those_of_torch(size: Any, layout: Any) -> None:
    x = torch.randn(3, 5, *size).contiguous(memory_format=layout)
    x[0, 0, 0, 0] = torch.nan
    x[1] = -torch.inf
    before = x.clone()
    op = lower_function(F.max_pool2d, x, 3, 1, 1)
    assert isinstance(op, MaxPool3x3)
    torch.testing.assert_close(op(x), F.max_pool2d(x, 3, 1, 1), rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(x, before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("counted", [True, False], ids=["padding counted", "padding not counted"])
def test_average_pools_equal_those_of_torch(size: Any, counted: bool) -> None:
    x = torch.randn(3, 5, *size)
    windows: list[tuple[Any, Any, Any]] = [
        (3, 1, 1),
        (3, 2, 1),
        (2, 2, 0),
        (2, 1, 1),
        ((1, 3), (2, 1), (0, 1)),
        (2, None, 1),
    ]
    for window, stride, padding in windows:
        has_output = not (window == 2 and min(size) == 1 and padding == 0)
        if has_output:
            expected = F.avg_pool2d(x, window, stride, padding, count_include_pad=counted)
            op = lower_function(F.avg_pool2d, x, window, stride, padding, count_include_pad=counted)
            assert isinstance(op, AveragePool)
            torch.testing.assert_close(op(x), expected)


def test_other_operations_are_left_to_torch() -> None:
    x = make_images()
    assert (
        lower_function(F.max_pool2d, x, 3, 1, 1, ceil_mode=True) is not None
    )  # with stride 1, ceil_mode changes nothing
    for options in ({"dilation": 2}, {"return_indices": True}):
        assert lower_function(F.max_pool2d, x, 3, 1, 1, **options) is None
    for options in ({"ceil_mode": True}, {"divisor_override": 2}):
        assert lower_function(F.avg_pool2d, x, 3, 1, 1, **options) is None
    assert lower_function(F.hardtanh, x) is None
    assert lower_function(F.avg_pool2d, x[0], 3, 1, 1) is None
    assert lower_function(F.conv2d, x[0], torch.ones(2, 3, 1, 1)) is None


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 4])
def test_convolutions_over_the_same_pixels_are_merged(groups: int, stride: int) -> None:
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64)

    def convolution(kernel: Any, dilation: int = 1, bias: bool = True, padding: Any = None) -> Any:
        padding = dilation * (kernel - 1) // 2 if padding is None else padding
        weight = torch.randn(8, 4 // groups, kernel, kernel, dtype=torch.float64)
        summand = torch.randn(8, dtype=torch.float64) if bias else None
        return Convolution(weight, summand, stride, (padding, padding), dilation, groups)

    mergeable = [
        (convolution(3), convolution(3)),
        (convolution(1), convolution(5)),
        (convolution(3, bias=False), convolution(1)),
        (convolution(3, 2), convolution(3, 2, False)),
        (convolution(4), convolution(4)),
    ]
    for one, other in mergeable:
        assert one.is_mergeable(other)
        merged = one.multiply(0.5).merge(other.multiply(-2))
        torch.testing.assert_close(merged(x), 0.5 * one(x) - 2 * other(x))
        torch.testing.assert_close(other.merge(one)(x), one(x) + other(x))
    for other in (convolution(3, 2), convolution(3, padding=0), convolution(2), replace(convolution(3), stride=3)):
        assert not convolution(3).is_mergeable(other)


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_rewritten_graphs_give_the_outputs_of_the_network(size: int) -> None:
    """Try convolutions of several strides, paddings, dilations and groups, before BatchNorms and ReLUs."""
    torch.manual_seed(0)
    for kernel, stride, dilation, groups, bias in product((1, 3), (1, 2), (1, 2), (1, 4), (True, False)):
        padding = dilation * (kernel // 2)
        convolution = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups, bias)
        norm = nn.BatchNorm2d(8)
        for tensor in (norm.running_mean, norm.running_var, norm.weight.data, norm.bias.data):
            assert tensor is not None
            tensor.uniform_(0.5, 2)
        net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), convolution, norm, nn.ReLU()).eval()
        images = make_images(3, size)
        with torch.no_grad():
            graph = rewrite_graph(
                build_graph(net, tuple(images.shape), torch.float32, images.device, NASWOT.is_counted)
            )
            values: dict[Any, torch.Tensor] = {}
            for value in graph.values:
                values[value] = value.op(*(values[source] for source in value.sources)) if value.sources else images
            torch.testing.assert_close(values[graph.output], net(images), rtol=1e-5, atol=1e-5)
