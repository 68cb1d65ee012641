"""A network like that of DARTS-PT: names of operations for each edge, replaceable weights, weight 0 is skipped."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zcpt.compat.standins import darts
from tests.zcpt.compat.standins.operations import OPS


class MixedOp(nn.Module):
    def __init__(self, channels: int, stride: int, names: list[str]) -> None:
        super().__init__()
        self._ops = nn.ModuleList(OPS[name](channels, stride) for name in names)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        mixed: Any = sum(w * op(x) if w != 0 else 0 for w, op in zip(weights, self._ops))  # noqa: B905
        return mixed


class Cell(darts.Cell):
    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor, drop_prob: float = 0.0) -> Tensor:
        return super().forward(s0, s1, weights)


class Network(darts.Network):
    cell = Cell

    def __init__(self, primitives: dict[str, list[list[str]]], layers: int = 3, **options: Any) -> None:
        # Cells are made in order, and each makes its edges in order, so every edge takes the next names.
        reductions = (layers // 3, 2 * layers // 3)
        keys = ["primitives_reduct" if i in reductions else "primitives_normal" for i in range(layers)]
        names = iter([edge for key in keys for edge in primitives[key]])
        self.mixed = lambda channels, stride: MixedOp(channels, stride, next(names))
        super().__init__(layers=layers, **options)
        del self.mixed
        self.op_names, self.drop_path_prob = primitives, 0.3

    def get_softmax(self) -> dict[str, Tensor]:
        return {"normal": F.softmax(self.alphas_normal, dim=-1), "reduce": F.softmax(self.alphas_reduce, dim=-1)}

    def forward(self, input: Tensor, weights_dict: dict[str, Tensor] | None = None) -> Tensor:
        weights_dict = weights_dict or self.get_softmax()
        s0 = s1 = self.stem(input)
        for cell in self.cells:
            weights = weights_dict["reduce" if cell.reduction else "normal"]
            s0, s1 = s1, cell(s0, s1, weights, self.drop_path_prob)
        out = self.global_pooling(s1)
        return self.classifier(torch.flatten(out, 1))
