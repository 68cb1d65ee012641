"""A network like that of PC-DARTS: a quarter of the channels is mixed, the rest bypasses; edges have weights, too."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zcpt.compat.standins import darts
from tests.zcpt.compat.standins.operations import OPS

PRIMITIVES = darts.PRIMITIVES


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    batch, channels, height, width = x.shape
    x = x.view(batch, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, -1, height, width)


class MixedOp(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.k, self.mp = 4, nn.MaxPool2d(2, 2)
        self._ops = nn.ModuleList(OPS[primitive](channels // self.k, stride) for primitive in PRIMITIVES)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        part = x.shape[1] // self.k
        mixed, passed = x[:, :part], x[:, part:]
        mixed = sum(w * op(mixed) for w, op in zip(weights, self._ops))  # noqa: B905
        passed = passed if mixed.shape[2] == x.shape[2] else self.mp(passed)
        return channel_shuffle(torch.cat([mixed, passed], dim=1), self.k)


class Cell(darts.Cell):
    def forward(  # type: ignore[override]  # PC-DARTS passes the weights of edges, too
        self, s0: Tensor, s1: Tensor, weights: Tensor, weights2: Tensor
    ) -> Tensor:
        states, offset = [self.preprocess0(s0), self.preprocess1(s1)], 0
        for _ in range(self._steps):
            s = sum(weights2[offset + j] * self._ops[offset + j](h, weights[offset + j]) for j, h in enumerate(states))
            offset += len(states)
            states.append(s)
        return torch.cat(states[2:], dim=1)


class Network(darts.Network):
    cell, mixed = Cell, MixedOp

    def __init__(self, channels: int = 8, **options: Any) -> None:
        super().__init__(channels, **options)
        edges = len(self.alphas_normal)
        self.betas_normal = (1e-3 * torch.randn(edges)).requires_grad_()
        self.betas_reduce = (1e-3 * torch.randn(edges)).requires_grad_()
        self._arch_parameters += [self.betas_normal, self.betas_reduce]

    def forward(self, input: Tensor) -> Tensor:
        s0 = s1 = self.stem(input)
        for cell in self.cells:
            alpha, beta = (
                (self.alphas_reduce, self.betas_reduce) if cell.reduction else (self.alphas_normal, self.betas_normal)
            )
            weights2 = torch.cat([F.softmax(part, dim=-1) for part in beta.split([2, 3, 4, 5][: self._steps])])
            s0, s1 = s1, cell(s0, s1, F.softmax(alpha, dim=-1), weights2)
        return self.classifier(self.global_pooling(s1).flatten(1))
