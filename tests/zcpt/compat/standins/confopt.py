"""A network like those of confopt and AutoDL-Projects for DARTS' cells: features and logits are returned."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zcpt.compat.standins import darts, nasbench201
from tests.zcpt.compat.standins.operations import OPS


class Network(darts.Network):
    """confopt: a list ``ops`` in each mixed operation, and the names in the network."""

    primitives = ("none", "skip_connect", "sep_conv_3x3")

    def __init__(self, **options: Any) -> None:
        self.mixed = lambda channels, stride: nasbench201.OperationChoices([OPS[n](channels, stride) for n in NAMES])
        super().__init__(**options)
        del self.mixed

    def make_alphas(self) -> None:
        shape = sum(range(2, 2 + self._steps)), len(NAMES)
        self.alphas_normal, self.alphas_reduce = (nn.Parameter(1e-3 * torch.randn(shape)) for _ in range(2))

    def run(self, input: Tensor) -> Tensor:
        s0 = s1 = self.stem(input)
        for cell in self.cells:
            weights = F.softmax(self.alphas_reduce if cell.reduction else self.alphas_normal, dim=-1)
            s0, s1 = s1, cell(s0, s1, weights)
        return self.global_pooling(s1)

    def forward(self, input: Tensor) -> Any:
        out = self.run(input)
        return out.squeeze((-1, -2)), self.classifier(out.flatten(1))


NAMES = Network.primitives


class SearchSpace(nn.Module):
    """confopt's wrapper of a network."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.model = Network(**options)

    def forward(self, x: Tensor) -> Any:
        return self.model(x)


class NasNetMixedOp(nn.Module):
    """AutoDL-Projects: no forward, but a method for each way to search."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self._ops = nn.ModuleList(OPS[name](channels, stride) for name in NAMES)

    def forward_darts(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self._ops))  # noqa: B905

    def forward_gdas(self, x: Tensor, weights: Tensor, index: int) -> Tensor:
        return self._ops[index](x) * weights[index]


class NasNetCell(darts.Cell):
    def __init__(self, steps: int, *args: Any) -> None:
        super().__init__(steps, *args)
        edges = iter(self._ops)
        self.edges = nn.ModuleDict({f"{i}<-{j}": next(edges) for i in range(steps) for j in range(2 + i)})
        self._ops = nn.ModuleList()
        self.edge2index = {key: i for i, key in enumerate(sorted(self.edges))}

    def forward_darts(self, s0: Tensor, s1: Tensor, weightss: Tensor) -> Tensor:
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for i in range(self._steps):
            terms = []
            for j, h in enumerate(states):
                edge: Any = self.edges[f"{i}<-{j}"]
                terms.append(edge.forward_darts(h, weightss[self.edge2index[f"{i}<-{j}"]]))
            states.append(sum(terms[1:], terms[0]))
        return torch.cat(states[2:], dim=1)


class NasNetwork(Network):
    cell = NasNetCell

    def __init__(self, **options: Any) -> None:
        darts.Network.__init__(self, **options)
        self.op_names = list(NAMES)

    mixed = NasNetMixedOp

    def make_alphas(self) -> None:
        shape = sum(range(2, 2 + self._steps)), len(NAMES)
        self.arch_normal_parameters = nn.Parameter(1e-3 * torch.randn(shape))
        self.arch_reduce_parameters = nn.Parameter(1e-3 * torch.randn(shape))

    def run(self, input: Tensor) -> Tensor:
        s0 = s1 = self.stem(input)
        cell: Any
        for cell in self.cells:
            alpha = self.arch_reduce_parameters if cell.reduction else self.arch_normal_parameters
            s0, s1 = s1, cell.forward_darts(s0, s1, F.softmax(alpha, dim=-1))
        return self.global_pooling(s1)
