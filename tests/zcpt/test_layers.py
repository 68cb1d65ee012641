"""What the discrete networks of all spaces share."""

import torch
from torch import nn

from zcpt.layers import _corners


def test_the_auxiliary_head_scales_its_windows():
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(_corners(x), nn.AvgPool2d(5, 3)(x))
    torch.testing.assert_close(_corners(x[..., :7, :7]), nn.AvgPool2d(5, 2)(x[..., :7, :7]))
    for size in ((1, 1), (1, 5), (2, 2), (3, 9), (16, 16)):
        assert _corners(torch.randn(2, 3, *size)).shape[-2:] == (2, 2)
