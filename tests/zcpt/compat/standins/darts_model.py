"""Discrete networks with the names of modules of DARTS' ``model.py``, for CIFAR and ImageNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Layers(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.op = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class FactorizedReduce(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.conv_2 = nn.Conv2d(inputs, outputs // 2, 1, 2, bias=False)
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        return self.bn(torch.cat([self.conv_1(x), self.conv_2(x[:, :, 1:, 1:])], dim=1))


def depthwise(c: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel // 2)
    convolution = nn.Conv2d(c, c, kernel, stride, padding, dilation, groups=c, bias=False)
    return [nn.ReLU(), convolution, nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c)]


def build(name: str, c: int, stride: int) -> nn.Module:
    kernel = int(name[-1]) if name[-1].isdigit() else 0
    if name.startswith("sep"):
        return Layers(*depthwise(c, kernel, stride), *depthwise(c, kernel, 1))
    if name.startswith("dil"):
        return Layers(*depthwise(c, kernel, stride, 2))
    if name == "skip_connect":
        return FactorizedReduce(c, c) if stride == 2 else nn.Identity()
    return nn.MaxPool2d(3, stride, 1) if name[0] == "m" else nn.AvgPool2d(3, stride, 1, count_include_pad=False)


class Cell(nn.Module):
    def __init__(self, pairs: Sequence[tuple[str, int]], pp: int, p: int, c: int, reduction: bool, after: bool) -> None:
        super().__init__()
        point = [Layers(nn.ReLU(), nn.Conv2d(n, c, 1, bias=False), nn.BatchNorm2d(c)) for n in (pp, p)]
        self.preprocess0 = FactorizedReduce(pp, c) if after else point[0]
        self.preprocess1 = point[1]
        self.sources = [source for _, source in pairs]
        self._ops = nn.ModuleList(build(name, c, 2 if reduction and source < 2 else 1) for name, source in pairs)

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for node in range(0, 8, 2):
            first, second = (self._ops[i](states[self.sources[i]]) for i in (node, node + 1))
            states.append(first + second)
        return torch.cat(states[2:], dim=1)


class Auxiliary(nn.Module):
    def __init__(self, c: int, classes: int, imagenet: bool) -> None:
        super().__init__()
        norm = [] if imagenet else [nn.BatchNorm2d(768)]
        convolutions = nn.Conv2d(c, 128, 1, bias=False), nn.Conv2d(128, 768, 2, bias=False)
        pool = nn.AvgPool2d(5, 2 if imagenet else 3, count_include_pad=False)
        norm1 = nn.BatchNorm2d(128)
        self.features = nn.Sequential(
            nn.ReLU(), pool, convolutions[0], norm1, nn.ReLU(), convolutions[1], *norm, nn.ReLU()
        )
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class Network(nn.Module):
    def __init__(
        self, cells: dict[str, Sequence[tuple[str, int]]], c: int, layers: int, classes: int, imagenet: bool
    ) -> None:
        super().__init__()
        width = c if imagenet else 3 * c

        def convolve(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)]

        if imagenet:
            self.stem0 = nn.Sequential(*convolve(3, c // 2, 2), nn.ReLU(), *convolve(c // 2, c, 2))
            self.stem1 = nn.Sequential(nn.ReLU(), *convolve(c, c, 2))
        else:
            self.stem = nn.Sequential(*convolve(3, width, 1))
        self.imagenet, self.layers = imagenet, layers
        self.cells, pp, p, after = nn.ModuleList(), width, width, imagenet
        for index in range(layers):
            reduction = index in (layers // 3, 2 * layers // 3)
            c *= 1 + reduction
            self.cells.append(Cell(cells["reduce" if reduction else "normal"], pp, p, c, reduction, after))
            pp, p, after = p, 4 * c, reduction
            if index == 2 * layers // 3:
                self.auxiliary_head = Auxiliary(p, classes, imagenet)
        self.classifier = nn.Linear(p, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s0 = self.stem0(x) if self.imagenet else self.stem(x)
        s1 = self.stem1(s0) if self.imagenet else s0
        auxiliary = s1
        for index, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1)
            if index == 2 * self.layers // 3:
                auxiliary = self.auxiliary_head(s1)
        return self.classifier(s1.mean((2, 3))), auxiliary
