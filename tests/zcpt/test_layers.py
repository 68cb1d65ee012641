"""What the discrete networks of all spaces share."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zcpt.layers import AuxiliaryHead, DropPath, _pool_corners, remove_auxiliary_norm


def test_the_auxiliary_head_scales_its_windows() -> None:
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(_pool_corners(x), nn.AvgPool2d(5, 3)(x))
    torch.testing.assert_close(_pool_corners(x[..., :7, :7]), nn.AvgPool2d(5, 2)(x[..., :7, :7]))
    for size in ((1, 1), (1, 5), (2, 2), (3, 9), (16, 16)):
        assert _pool_corners(torch.randn(2, 3, *size)).shape[-2:] == (2, 2)


def test_drop_path_drops_whole_images_and_keeps_the_mean() -> None:
    drop = DropPath().train()
    drop.probability.fill_(0.3)
    torch.manual_seed(0)
    outputs = drop(torch.ones(20000, 2, 2, 2)).flatten(1)
    assert torch.equal(outputs.amin(1), outputs.amax(1))
    assert sorted(outputs[:, 0].unique().tolist()) == pytest.approx([0, 1 / 0.7])
    assert outputs.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(drop.eval()(torch.ones(5, 1, 1, 1)), torch.ones(5, 1, 1, 1))


def test_the_norm_of_the_auxiliary_head_can_be_removed() -> None:
    head = AuxiliaryHead(8, 10)
    with_norm = {name for name, _ in head.named_parameters()}
    remove_auxiliary_norm(nn.ModuleList([head]))
    # DARTS' AuxiliaryHeadImageNet: ReLU, pooling, convolution, BatchNorm, ReLU, convolution, ReLU.
    assert with_norm - {name for name, _ in head.named_parameters()} == {"features.1.weight", "features.1.bias"}
    assert head(torch.randn(2, 8, 7, 7)).shape == (2, 10)
