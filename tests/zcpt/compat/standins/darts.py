"""A network like that of DARTS: the Python module has the names of the operations, the network has not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zcpt.compat.standins.operations import OPS, FactorizedReduce, relu_conv_bn

PRIMITIVES = [
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect",
    "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
]  # fmt: skip


class MixedOp(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self._ops = nn.ModuleList(OPS[primitive](channels, stride) for primitive in PRIMITIVES)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self._ops))  # noqa: B905


class Cell(nn.Module):
    def __init__(
        self,
        steps: int,
        inputs: tuple[int, int],
        channels: int,
        reduction: bool,
        after_reduction: bool,
        mixed: Callable[[int, int], nn.Module],
    ) -> None:
        super().__init__()
        self.reduction, self._steps = reduction, steps
        before = FactorizedReduce if after_reduction else relu_conv_bn
        self.preprocess0, self.preprocess1 = before(inputs[0], channels), relu_conv_bn(inputs[1], channels)
        strides = [2 if reduction and j < 2 else 1 for i in range(steps) for j in range(2 + i)]
        self._ops = nn.ModuleList(mixed(channels, stride) for stride in strides)

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        states, offset = [self.preprocess0(s0), self.preprocess1(s1)], 0
        for _ in range(self._steps):
            s = sum(self._ops[offset + j](h, weights[offset + j]) for j, h in enumerate(states))
            offset += len(states)
            states.append(s)
        return torch.cat(states[2:], dim=1)


class Network(nn.Module):
    # Classes of cells and mixed operations, which subclasses and tests replace.
    cell: Any = Cell
    mixed: Any = MixedOp

    def __init__(self, channels: int = 4, num_classes: int = 10, layers: int = 3, steps: int = 4) -> None:
        super().__init__()
        self._criterion, self._steps, self._multiplier = nn.CrossEntropyLoss(), steps, steps
        width = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.cells = nn.ModuleList()
        inputs, after_reduction = (width, width), False
        for i in range(layers):
            reduction = i in (layers // 3, 2 * layers // 3)
            channels *= 2 if reduction else 1
            self.cells.append(self.cell(steps, inputs, channels, reduction, after_reduction, self.mixed))
            inputs, after_reduction = (inputs[1], steps * channels), reduction
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs[1], num_classes)
        self.make_alphas()

    def make_alphas(self) -> None:
        first: Any = self.cells[0]
        edges, operations = len(first._ops), len(first._ops[0]._ops)
        self.alphas_normal = (1e-3 * torch.randn(edges, operations)).requires_grad_()
        self.alphas_reduce = (1e-3 * torch.randn(edges, operations)).requires_grad_()
        self._arch_parameters = [self.alphas_normal, self.alphas_reduce]

    def forward(self, input: Tensor) -> Tensor:
        s0 = s1 = self.stem(input)
        for cell in self.cells:
            weights = F.softmax(self.alphas_reduce if cell.reduction else self.alphas_normal, dim=-1)
            s0, s1 = s1, cell(s0, s1, weights)
        out = self.global_pooling(s1)
        return self.classifier(out.view(out.size(0), -1))

    def arch_parameters(self) -> list[Tensor]:
        return self._arch_parameters
