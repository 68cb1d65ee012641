"""Networks like those of DARTS-PT, AutoDL-Projects and confopt for NAS-Bench-201."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.zcpt.compat.standins.operations import Layers, Zero, norm

OP_NAMES = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]


def make_operation(name: str, channels: int) -> nn.Module:
    if name.startswith("nor_conv"):
        kernel = int(name[-1])
        conv = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
        return Layers(nn.ReLU(inplace=False), conv, norm(channels))
    pool = nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)
    return {"none": Zero(1), "skip_connect": nn.Identity(), "avg_pool_3x3": pool}[name]


class Residual(nn.Module):
    """The block between two stages; it has no edges."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_a = Layers(nn.ReLU(inplace=False), nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), norm(outputs))
        self.downsample = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_a(x) + self.downsample(x)


class SearchCell(nn.Module):
    k = 1

    def __init__(self, channels: int, max_nodes: int, op_names: list[str]) -> None:
        super().__init__()
        self.op_names, self.max_nodes, self.edges = list(op_names), max_nodes, nn.ModuleDict()
        for i in range(1, max_nodes):
            for j in range(i):
                self.edges[f"{i}<-{j}"] = self.make_edge([make_operation(n, channels // self.k) for n in op_names])
        self.edge2index = {key: i for i, key in enumerate(sorted(self.edges))}

    def make_edge(self, operations: list[nn.Module]) -> nn.Module:
        return nn.ModuleList(operations)

    def mix(self, x: Tensor, operations: Any, weights: Tensor) -> Tensor:
        return sum(op(x) * w for op, w in zip(operations, weights))  # noqa: B905

    def forward(self, inputs: Tensor, weightss: Tensor) -> Tensor:
        nodes = [inputs]
        for i in range(1, self.max_nodes):
            keys = [f"{i}<-{j}" for j in range(i)]
            terms = [self.mix(x, self.edges[k], weightss[self.edge2index[k]]) for k, x in zip(keys, nodes, strict=True)]
            nodes.append(sum(terms[1:], terms[0]))
        return nodes[-1]

    def forward_gdas(self, inputs: Tensor, hardwts: Tensor, index: Tensor) -> Tensor:
        nodes = [inputs]
        for i in range(1, self.max_nodes):
            terms = []
            for j in range(i):
                row = self.edge2index[f"{i}<-{j}"]
                chosen: Any = self.edges[f"{i}<-{j}"]
                terms.append(hardwts[row, index[row]] * chosen[int(index[row])](nodes[j]))
            nodes.append(sum(terms[1:], terms[0]))
        return nodes[-1]


class Skeleton(nn.Module):
    """What the networks of all code bases have in common."""

    cell: Any = SearchCell

    def __init__(
        self, channels: int = 4, layers: int = 1, max_nodes: int = 4, classes: int = 10, search_space: Any = OP_NAMES
    ) -> None:
        super().__init__()
        self.max_nodes, self.op_names = max_nodes, list(search_space)
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.cells = nn.ModuleList()
        for stage in range(3):
            if stage:
                self.cells.append(Residual(channels, 2 * channels))
                channels *= 2
            for _ in range(layers):
                self.cells.append(self.cell(channels, max_nodes, search_space))
        self.lastact = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
        self.global_pooling, self.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(channels, classes)
        self.make_alphas(1e-3 * torch.randn(max_nodes * (max_nodes - 1) // 2, len(search_space)))

    def make_alphas(self, alphas: Tensor) -> None:
        raise NotImplementedError

    def compute_weights(self) -> Tensor:
        return torch.softmax(self.get_alphas(), dim=-1)

    def get_alphas(self) -> Tensor:
        raise NotImplementedError

    def run_cell(self, cell: Any, feature: Tensor) -> Tensor:
        return cell(feature, self.compute_weights())

    def run(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        feature = self.stem(inputs)
        for cell in self.cells:
            feature = self.run_cell(cell, feature) if isinstance(cell, SearchCell) else cell(feature)
        out = self.global_pooling(self.lastact(feature)).flatten(1)
        return out, self.classifier(out)


class TinyNetwork(Skeleton):
    """The network of DARTS-PT, which returns logits."""

    def make_alphas(self, alphas: Tensor) -> None:
        self._arch_parameters = alphas.requires_grad_()

    def get_alphas(self) -> Tensor:
        return self._arch_parameters

    def arch_parameters(self) -> list[Tensor]:
        return [self._arch_parameters]

    def forward(self, inputs: Tensor) -> Tensor:
        return self.run(inputs)[1]


class AutoDL(Skeleton):
    """The network of AutoDL-Projects, which returns features and logits."""

    def make_alphas(self, alphas: Tensor) -> None:
        self.arch_parameters = nn.Parameter(alphas)

    def get_alphas(self) -> Tensor:
        return self.arch_parameters

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        return self.run(inputs)


class Gdas(AutoDL):
    """It samples one operation for each edge in every forward pass."""

    def run_cell(self, cell: Any, feature: Tensor) -> Tensor:
        shares = self.compute_weights()
        index = torch.multinomial(shares, 1)[:, 0]
        return cell.forward_gdas(feature, torch.zeros_like(shares).scatter(1, index[:, None], 1.0), index)


class OperationChoices(nn.Module):
    """The mixed operation of confopt."""

    def __init__(self, operations: list[nn.Module]) -> None:
        super().__init__()
        self.ops = nn.ModuleList(operations)

    def forward(self, x: Tensor, alphas: Tensor) -> Tensor:
        assert len(alphas) == len(self.ops)
        return sum(op(x) * alpha for op, alpha in zip(self.ops, alphas, strict=True))


class ConfoptCell(SearchCell):
    def make_edge(self, operations: list[nn.Module]) -> nn.Module:
        return OperationChoices(operations)

    def mix(self, x: Tensor, operations: Any, weights: Tensor) -> Tensor:
        return operations(x, weights)


class Confopt(AutoDL):
    cell = ConfoptCell
