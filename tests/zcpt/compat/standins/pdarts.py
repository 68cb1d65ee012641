"""A network like that of P-DARTS: ``cell_ops`` and ``m_ops``; switches tell which operations an edge still has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tests.zcpt.compat.standins import darts
from tests.zcpt.compat.standins.operations import OPS

PRIMITIVES = ["none", "skip_connect", "sep_conv_3x3", "dil_conv_3x3"]


class MixedOp(nn.Module):
    def __init__(self, channels: int, stride: int, switch: Sequence[bool]) -> None:
        super().__init__()
        self.m_ops = nn.ModuleList()
        for name, is_on in zip(PRIMITIVES, switch, strict=True):
            if is_on:
                self.m_ops.append(OPS[name](channels, stride))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self.m_ops))  # noqa: B905


class Cell(darts.Cell):
    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.cell_ops = self._ops
        del self._ops

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        states, offset = [self.preprocess0(s0), self.preprocess1(s1)], 0
        for _ in range(self._steps):
            s = sum(self.cell_ops[offset + j](h, weights[offset + j]) for j, h in enumerate(states))
            offset += len(states)
            states.append(s)
        return torch.cat(states[2:], dim=1)


class Network(darts.Network):
    """Like P-DARTS, it keeps the switches of the normal cells and forgets those of the reduction cells."""

    cell = Cell

    def __init__(self, normal: list[list[bool]], reduce: list[list[bool]], layers: int = 3, **options: Any) -> None:
        reductions = (layers // 3, 2 * layers // 3)
        rows = iter([row for layer in range(layers) for row in (reduce if layer in reductions else normal)])
        self.mixed = lambda channels, stride: MixedOp(channels, stride, next(rows))
        super().__init__(layers=layers, **options)
        del self.mixed
        self.switches_normal = normal

    def make_alphas(self) -> None:
        first: Any = self.cells[0]
        shape = len(first.cell_ops), len(first.cell_ops[0].m_ops)
        self.alphas_normal = (1e-3 * torch.randn(shape)).requires_grad_()
        self.alphas_reduce = (1e-3 * torch.randn(shape)).requires_grad_()
        self._arch_parameters = [self.alphas_normal, self.alphas_reduce]
