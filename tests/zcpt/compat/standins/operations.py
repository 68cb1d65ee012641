"""Operations as in DARTS code bases: each is one module with its layers in ``op``."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, affine=False)


class Layers(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


def relu_conv_bn(inputs: int, outputs: int) -> Layers:
    return Layers(nn.ReLU(inplace=False), nn.Conv2d(inputs, outputs, 1, bias=False), norm(outputs))


def depthwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> tuple[nn.Module, ...]:
    padding = dilation * (kernel // 2)
    return (
        nn.ReLU(inplace=False),
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        norm(channels),
    )


class FactorizedReduce(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=False)
        self.conv_1 = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.bn = norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


class Zero(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class Noise(nn.Module):
    """Draws from torch's generator in every forward pass, as S4's noise does in darts-pt."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.randn_like(x[:, :, :: self.stride, :: self.stride])


OPS: dict[str, Callable[[int, int], nn.Module]] = {
    "none": lambda c, stride: Zero(stride),
    "noise": lambda c, stride: Noise(stride),
    "max_pool_3x3": lambda c, stride: nn.Sequential(nn.MaxPool2d(3, stride, padding=1), norm(c)),
    "avg_pool_3x3": lambda c, stride: nn.Sequential(
        nn.AvgPool2d(3, stride, padding=1, count_include_pad=False), norm(c)
    ),
    "skip_connect": lambda c, stride: nn.Identity() if stride == 1 else FactorizedReduce(c, c),
    "sep_conv_3x3": lambda c, stride: Layers(*depthwise(c, 3, stride), *depthwise(c, 3, 1)),
    "sep_conv_5x5": lambda c, stride: Layers(*depthwise(c, 5, stride), *depthwise(c, 5, 1)),
    "dil_conv_3x3": lambda c, stride: Layers(*depthwise(c, 3, stride, 2)),
    "dil_conv_5x5": lambda c, stride: Layers(*depthwise(c, 5, stride, 2)),
}
