"""Operations of chains: shapes at every size and stride, and cost by formula."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mobilenet_space.blocks import OPERATIONS, ConvNorm, Layer, MBConv

PLACES = {"same": (6, 6, 1), "wider": (6, 10, 1), "halving": (6, 10, 2), "halving to the same width": (6, 6, 2)}


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1)])
@pytest.mark.parametrize("place", list(PLACES))
@pytest.mark.parametrize("name", list(OPERATIONS))
def test_output_size_and_cost(name: str, place: str, size: tuple[int, int]) -> None:
    layer = Layer(*PLACES[place], size)
    operation = OPERATIONS[name].build(layer, nn.ReLU6, False)
    with FlopCounterMode(display=False) as counter:
        output = operation(torch.randn(2, 6, *size))
    assert output.shape == (2, layer.out_channels, *layer.output_size)
    compute_cost = OPERATIONS[name].cost
    assert compute_cost is not None
    cost = compute_cost(layer)
    assert cost.params == sum(parameter.numel() for parameter in operation.parameters())
    assert 2 * 2 * cost.macs == counter.get_total_flops()  # two images, two operations a multiply-accumulate


@pytest.mark.parametrize("place", list(PLACES))
def test_an_identity_is_nothing_where_the_shape_stays_and_a_projection_elsewhere(place: str) -> None:
    identity = OPERATIONS["identity"].build(Layer(*PLACES[place], (8, 8)), nn.ReLU, False)
    assert [type(m) for m in identity.modules()][1:] == ([] if place == "same" else [nn.Conv2d, nn.BatchNorm2d])


@pytest.mark.parametrize("place", list(PLACES))
def test_the_input_is_added_where_the_shape_stays(place: str) -> None:
    block: Any = MBConv(Layer(*PLACES[place], (4, 4)), 3, 3, nn.ReLU, False).eval()
    nn.init.zeros_(block.branch[-1][0].weight)
    x = torch.randn(2, 6, 4, 4)
    assert torch.equal(block(x), x) if place == "same" else block(x).abs().sum() == 0


def test_an_mbconv_has_no_activation_behind_its_last_convolution() -> None:
    for expansion, convolutions in ((1, 2), (6, 3)):
        modules = list(MBConv(Layer(4, 4, 1, (8, 8)), 5, expansion, nn.ReLU6, False).branch.modules())
        assert sum(isinstance(m, nn.Conv2d) for m in modules) == convolutions
        assert sum(isinstance(m, nn.ReLU6) for m in modules) == convolutions - 1
        assert isinstance(modules[-1], nn.BatchNorm2d)
    assert [type(m) for m in ConvNorm(4, 4, 3)] == [nn.Conv2d, nn.BatchNorm2d]


def test_drop_path_leaves_the_input_of_a_dropped_image_as_it_is() -> None:
    block: Any = MBConv(Layer(6, 6, 1, (4, 4)), 3, 3, nn.ReLU, True)
    block.drop.probability.fill_(0.5)
    x = torch.randn(64, 6, 4, 4)
    with torch.no_grad():
        dropped = [torch.equal(image, out) for image, out in zip(x, block(x), strict=True)]
        assert 10 < sum(dropped) < 54
        assert not any(torch.equal(image, out) for image, out in zip(x, block.eval()(x), strict=True))


def test_a_blocked_block_sees_zeros() -> None:
    block: Any = MBConv(Layer(6, 6, 1, (4, 4)), 3, 3, nn.ReLU, False).eval()
    x = torch.randn(2, 6, 4, 4)
    assert torch.equal(block(x, blocked=True), block(torch.zeros_like(x)))
