"""In the shape of DARTS-PT: operations of each edge by name, weights that a caller may override, skipped where 0."""

import torch
import torch.nn.functional as F
from torch import nn

from tests.zcpt.compat.standins import quark
from tests.zcpt.compat.standins.operations import OPS


class MixedOp(nn.Module):
    def __init__(self, channels, stride, names):
        super().__init__()
        self._ops = nn.ModuleList(OPS[name](channels, stride) for name in names)

    def forward(self, x, weights):
        return sum(w * op(x) if w != 0 else 0 for w, op in zip(weights, self._ops))  # noqa: B905


class Cell(quark.Cell):
    def forward(self, s0, s1, weights, drop_prob=0.0):
        return super().forward(s0, s1, weights)


class Network(quark.Network):
    cell = Cell

    def __init__(self, primitives, layers=3, **options):
        # Takes the next edge's names whenever a cell asks for an edge.
        reductions = (layers // 3, 2 * layers // 3)
        keys = ["primitives_reduct" if i in reductions else "primitives_normal" for i in range(layers)]
        names = iter([edge for key in keys for edge in primitives[key]])
        self.mixed = lambda channels, stride: MixedOp(channels, stride, next(names))
        super().__init__(layers=layers, **options)
        del self.mixed
        self.op_names, self.drop_path_prob = primitives, 0.3

    def get_softmax(self):
        return {"normal": F.softmax(self.alphas_normal, dim=-1), "reduce": F.softmax(self.alphas_reduce, dim=-1)}

    def forward(self, input, weights_dict=None):
        weights_dict = weights_dict or self.get_softmax()
        s0 = s1 = self.stem(input)
        for cell in self.cells:
            weights = weights_dict["reduce" if cell.reduction else "normal"]
            s0, s1 = s1, cell(s0, s1, weights, self.drop_path_prob)
        out = self.global_pooling(s1)
        return self.classifier(torch.flatten(out, 1))
