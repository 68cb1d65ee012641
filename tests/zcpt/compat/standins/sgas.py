"""A network like that of SGAS: edges are decided one by one, and decided edges run one operation without weights."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.zcpt.compat.standins import darts

PRIMITIVES = ["none", "skip_connect", "sep_conv_3x3"]


class MixedOp(darts.MixedOp):
    def forward(self, x: Tensor, weights: Any, selected_idx: Any = None) -> Tensor:
        if selected_idx is None:
            return super().forward(x, weights)
        return self._ops[selected_idx](x)


class Cell(darts.Cell):
    def forward(self, s0: Tensor, s1: Tensor, weights: Any, selected_idxs: Any = None) -> Tensor:
        states, offset = [self.preprocess0(s0), self.preprocess1(s1)], 0
        for _ in range(self._steps):
            terms = []
            for j, h in enumerate(states):
                selected = selected_idxs[offset + j]
                if selected == -1:
                    terms.append(self._ops[offset + j](h, weights[offset + j]))
                elif selected != PRIMITIVES.index("none"):
                    terms.append(self._ops[offset + j](h, None, selected))
            offset += len(states)
            states.append(sum(terms))
        return torch.cat(states[2:], dim=1)


class Network(darts.Network):
    cell, mixed = Cell, MixedOp

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.alphas_normal: Any = [row.detach().requires_grad_() for row in self.alphas_normal]
        self.alphas_reduce: Any = [row.detach().requires_grad_() for row in self.alphas_reduce]
        edges = len(self.alphas_normal)
        self.normal_selected_idxs = torch.tensor(edges * [-1])
        self.reduce_selected_idxs = torch.tensor(edges * [-1])

    def forward(self, input: Tensor) -> Tensor:
        s0 = s1 = self.stem(input)
        for cell in self.cells:
            alphas, selected = (
                (self.alphas_reduce, self.reduce_selected_idxs)
                if cell.reduction
                else (self.alphas_normal, self.normal_selected_idxs)
            )
            s0, s1 = s1, cell(s0, s1, [F.softmax(alpha, dim=-1) for alpha in alphas], selected)
        return self.classifier(self.global_pooling(s1).flatten(1))
