"""Networks like those of DrNAS: weights are drawn from a Dirichlet distribution, and a mask strikes operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions.dirichlet import Dirichlet

from tests.zcpt.compat.standins import darts, nasbench201, pc_darts


def process(alpha: Tensor, mask: Tensor | None) -> Tensor:
    weights = Dirichlet(F.elu(alpha) + 1).rsample()
    if mask is None:
        return weights
    kept = torch.where(mask, weights, torch.zeros_like(weights))
    return kept / kept.sum(dim=-1, keepdim=True)


def prune(alpha: Tensor, keep: int) -> Tensor:
    return torch.zeros_like(alpha, dtype=torch.bool).scatter(1, alpha.topk(keep, dim=-1).indices, True)


class MixedOp(pc_darts.MixedOp):
    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        part = x.shape[1] // self.k
        mixed = sum(w * op(x[:, :part]) for w, op in zip(weights, self._ops) if w != 0)  # noqa: B905
        assert isinstance(mixed, Tensor)
        passed = x[:, part:] if mixed.shape[2] == x.shape[2] else self.mp(x[:, part:])
        return pc_darts.channel_shuffle(torch.cat([mixed, passed], dim=1), self.k)


class Network(darts.Network):
    mixed = MixedOp
    mask_normal: Tensor | None = None
    mask_reduce: Tensor | None = None

    def pruning(self, keep: int) -> None:
        with torch.no_grad():
            self.mask_normal, self.mask_reduce = prune(self.alphas_normal, keep), prune(self.alphas_reduce, keep)

    def forward(self, input: Tensor) -> Tensor:
        normal, reduce = process(self.alphas_normal, self.mask_normal), process(self.alphas_reduce, self.mask_reduce)
        s0 = s1 = self.stem(input)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, reduce if cell.reduction else normal)
        return self.classifier(self.global_pooling(s1).flatten(1))


class PartialCell(nasbench201.SearchCell):
    """Its cells mix half of the channels; the rest bypasses."""

    k = 2

    def mix(self, x: Tensor, operations: nn.ModuleList, weights: Tensor) -> Tensor:
        part = x.shape[1] // self.k
        mixed = sum(w * op(x[:, :part]) for w, op in zip(weights, operations) if w != 0)  # noqa: B905
        assert isinstance(mixed, Tensor)
        return pc_darts.channel_shuffle(torch.cat([mixed, x[:, part:]], dim=1), self.k)


class TinyNetwork(nasbench201.TinyNetwork):
    cell = PartialCell
    _mask: Tensor | None = None

    def pruning(self, keep: int) -> None:
        self._mask = prune(self._arch_parameters.detach(), keep)

    def compute_weights(self) -> Tensor:
        return process(self._arch_parameters, self._mask)
