"""A network like that of pt.darts: edges in a list for each node, and a controller around the network with alpha."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.zcpt.compat.standins import pt_darts_genotypes as gt
from tests.zcpt.compat.standins.operations import OPS, FactorizedReduce, relu_conv_bn


class MixedOp(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self._ops = nn.ModuleList(OPS[name](channels, stride) for name in gt.PRIMITIVES)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self._ops))  # noqa: B905


class SearchCell(nn.Module):
    def __init__(self, n_nodes: int, inputs: tuple[int, int], channels: int, after: bool, reduction: bool) -> None:
        super().__init__()
        self.reduction, self.n_nodes = reduction, n_nodes
        self.preproc0 = FactorizedReduce(inputs[0], channels) if after else relu_conv_bn(inputs[0], channels)
        self.preproc1 = relu_conv_bn(inputs[1], channels)
        self.dag = nn.ModuleList(
            nn.ModuleList(MixedOp(channels, 2 if reduction and j < 2 else 1) for j in range(2 + i))
            for i in range(n_nodes)
        )

    def forward(self, s0: Tensor, s1: Tensor, w_dag: list[Tensor]) -> Tensor:
        states = [self.preproc0(s0), self.preproc1(s1)]
        for edges, rows in zip(self.dag, w_dag, strict=True):
            assert isinstance(edges, nn.ModuleList)
            states.append(sum(edges[i](s, w) for i, (s, w) in enumerate(zip(states, rows, strict=True))))
        return torch.cat(states[2:], dim=1)


class SearchCNN(nn.Module):
    def __init__(self, channels: int, n_classes: int, n_layers: int, n_nodes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * channels, 3, 1, 1, bias=False), nn.BatchNorm2d(3 * channels))
        self.cells = nn.ModuleList()
        inputs, after = (3 * channels, 3 * channels), False
        for i in range(n_layers):
            reduction = i in (n_layers // 3, 2 * n_layers // 3)
            channels *= 2 if reduction else 1
            self.cells.append(SearchCell(n_nodes, inputs, channels, after, reduction))
            inputs, after = (inputs[1], n_nodes * channels), reduction
        self.gap, self.linear = nn.AdaptiveAvgPool2d(1), nn.Linear(inputs[1], n_classes)

    def forward(self, x: Tensor, weights_normal: list[Tensor], weights_reduce: list[Tensor]) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, weights_reduce if cell.reduction else weights_normal)
        out = self.gap(s1)
        return self.linear(out.view(out.size(0), -1))


class SearchCNNController(nn.Module):
    def __init__(self, channels: int = 4, n_classes: int = 10, n_layers: int = 3, n_nodes: int = 2) -> None:
        super().__init__()
        self.alpha_normal, self.alpha_reduce = nn.ParameterList(), nn.ParameterList()
        for i in range(n_nodes):
            self.alpha_normal.append(nn.Parameter(1e-3 * torch.randn(i + 2, len(gt.PRIMITIVES))))
            self.alpha_reduce.append(nn.Parameter(1e-3 * torch.randn(i + 2, len(gt.PRIMITIVES))))
        self.net = SearchCNN(channels, n_classes, n_layers, n_nodes)

    def forward(self, x: Tensor) -> Tensor:
        normal = [F.softmax(alpha, dim=-1) for alpha in self.alpha_normal]
        reduce = [F.softmax(alpha, dim=-1) for alpha in self.alpha_reduce]
        return self.net(x, normal, reduce)
