"""DARTS (Liu et al., ICLR 2019) under its own names: a ``train_search.py`` of DARTS only needs other imports.

    from zcpt.compat.darts import OPS, PRIMITIVES, Architect, Genotype, Network

Names, arguments and attributes, also private ones such as ``_ops`` and ``_arch_parameters``, are those of
github.com/quark0/darts, since code that goes back to it uses all of them. The operations are zcpt's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from darts_space.darts import CANDIDATES, build_supernet_operation
from darts_space.darts_network import KEPT_INPUTS
from darts_space.operations import OPERATIONS, FactorizedReduce, ReLUConvBN
from zcpt.compat.architect import Architect

__all__ = ["OPS", "PRIMITIVES", "Architect", "Cell", "Genotype", "MixedOp", "Network"]

PRIMITIVES = ["none", *CANDIDATES]
OPS: dict[str, Callable[[int, int, bool], nn.Module]] = {name: OPERATIONS[name].build for name in PRIMITIVES}
"""Builders (channels, stride, affine) -> module, by the name of the operation."""


class Genotype(NamedTuple):
    """Two cells: (operation, input) pairs, two for each node, and the nodes whose outputs are concatenated."""

    normal: list[tuple[str, int]]
    normal_concat: Sequence[int]
    reduce: list[tuple[str, int]]
    reduce_concat: Sequence[int]


class MixedOp(nn.Module):
    """Weighted sum of all candidate operations of an edge."""

    def __init__(self, C: int, stride: int) -> None:  # noqa: N803  # DARTS' spelling
        super().__init__()
        self._ops = nn.ModuleList(build_supernet_operation(name, C, stride) for name in PRIMITIVES)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Compute the weighted sum of the operations of ``x`` [B, C, H, W], with weights [operations]."""
        output: Tensor = sum(weight * operation(x) for weight, operation in zip(weights, self._ops, strict=True))
        return output


class Cell(nn.Module):
    """Cell of the search network, with a mixed operation on every edge."""

    def __init__(
        self,
        steps: int,
        multiplier: int,
        C_prev_prev: int,  # noqa: N803
        C_prev: int,  # noqa: N803
        C: int,  # noqa: N803
        reduction: bool,
        reduction_prev: bool,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.preprocess0: nn.Module
        if reduction_prev:
            self.preprocess0 = FactorizedReduce(C_prev_prev, C, affine=False)
        else:
            self.preprocess0 = ReLUConvBN(C_prev_prev, C, 1, 1, affine=False)
        self.preprocess1 = ReLUConvBN(C_prev, C, 1, 1, affine=False)
        self._steps = steps
        self._multiplier = multiplier
        strides = (2 if reduction and source < 2 else 1 for node in range(steps) for source in range(2 + node))
        self._ops = nn.ModuleList(MixedOp(C, stride) for stride in strides)

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor) -> Tensor:
        """Apply the cell to the outputs [B, C, H, W] of the two cells before, with weights [edges, operations]."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        offset = 0
        for _ in range(self._steps):
            states.append(sum(self._ops[i](state, weights[i]) for i, state in enumerate(states, offset)))
            offset += len(states) - 1
        return torch.cat(states[-self._multiplier :], dim=1)


class Network(nn.Module):
    """Search network of DARTS, for RGB images.

    The architecture parameters ``alphas_normal`` and ``alphas_reduce`` [edges, operations] are leaf tensors outside
    ``parameters()``, as in DARTS, whose optimiser of the weights must not train them. Unlike in DARTS they move to
    other devices with the network. ``zcpt.select(network, batches)`` selects operations without training them.
    """

    alphas_normal: Tensor
    alphas_reduce: Tensor

    def __init__(
        self,
        C: int,  # noqa: N803
        num_classes: int,
        layers: int,
        criterion: Callable[[Tensor, Tensor], Tensor],
        steps: int = 4,
        multiplier: int = 4,
        stem_multiplier: int = 3,
    ) -> None:
        super().__init__()
        self._C = C
        self._num_classes = num_classes
        self._layers = layers
        self._criterion = criterion
        self._steps = steps
        self._multiplier = multiplier
        self._stem_multiplier = stem_multiplier
        channels = stem_multiplier * C
        self.stem = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.cells = nn.ModuleList()
        inputs, width, after_reduction = (channels, channels), C, False
        for layer in range(layers):
            reduction = layer in (layers // 3, 2 * layers // 3)
            width *= 2 if reduction else 1
            self.cells.append(Cell(steps, multiplier, *inputs, width, reduction, after_reduction))
            inputs, after_reduction = (inputs[1], multiplier * width), reduction
        self.global_pooling = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs[1], num_classes)
        self._initialize_alphas()

    def forward(self, input: Tensor) -> Tensor:
        """Compute logits [B, classes] of images [B, 3, H, W], mixed by the softmax of the architecture parameters."""
        shares = [torch.softmax(alpha, dim=-1) for alpha in self._alphas()]
        s0 = s1 = self.stem(input)
        for cell in self.cells:
            s0, s1 = s1, cell(s0, s1, shares[bool(cell.reduction)])
        logits: Tensor = self.classifier(self.global_pooling(s1).flatten(1))
        return logits

    def arch_parameters(self) -> list[Tensor]:
        """Return the architecture parameters of normal and of reduction cells."""
        return self._arch_parameters

    def new(self) -> Network:
        """Build the same network with fresh weights and the same architecture parameters, on the same device."""
        network = Network(
            self._C,
            self._num_classes,
            self._layers,
            self._criterion,
            self._steps,
            self._multiplier,
            self._stem_multiplier,
        )
        network.to(self.classifier.weight)
        for new, alpha in zip(network._alphas(), self._alphas(), strict=True):
            new.data.copy_(alpha.data)
        return network

    def genotype(self) -> Genotype:
        """Return DARTS' own selection, by the largest architecture parameters."""
        concat = range(2 + self._steps - self._multiplier, 2 + self._steps)
        normal, reduce = (self._select_largest(torch.softmax(alpha.detach(), dim=-1)) for alpha in self._alphas())
        return Genotype(normal, concat, reduce, concat)

    def _select_largest(self, shares: Tensor) -> list[tuple[str, int]]:
        """Select, for each node, the two inputs with the largest shares and the operation with the largest on each."""
        # Never 'none': its shares are replaced by -1, below all others.
        none = PRIMITIVES.index("none")
        best, operations = shares.index_fill(1, torch.tensor(none, device=shares.device), -1).max(dim=1)
        pairs: list[tuple[str, int]] = []
        offset = 0
        for node in range(self._steps):
            sources = torch.argsort(best[offset : offset + 2 + node], descending=True, stable=True)[:KEPT_INPUTS]
            pairs += [(PRIMITIVES[int(operations[offset + source])], source) for source in sources.tolist()]
            offset += 2 + node
        return pairs

    def _alphas(self) -> tuple[Tensor, Tensor]:
        # The attributes, not the list ``_arch_parameters``: code that assigns a new tensor to ``alphas_normal`` expects
        # the forward pass to use it. DARTS' forward reads the attributes, too.
        return self.alphas_normal, self.alphas_reduce

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return self._criterion(self(input), target)

    def _initialize_alphas(self) -> None:
        edges = sum(2 + node for node in range(self._steps))
        device = self.classifier.weight.device
        # Drawn on the CPU, so that a seed gives the same numbers on every device.
        self.alphas_normal = (1e-3 * torch.randn(edges, len(PRIMITIVES))).to(device).requires_grad_()
        self.alphas_reduce = (1e-3 * torch.randn(edges, len(PRIMITIVES))).to(device).requires_grad_()
        self._arch_parameters = [self.alphas_normal, self.alphas_reduce]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # ``to``, ``double`` and so on call this for parameters and buffers only. Alpha is converted in place, as torch
        # does with parameters, since an optimiser may hold it already. Attribute and list may hold different tensors.
        for alpha in {id(alpha): alpha for alpha in (*self._arch_parameters, *self._alphas())}.values():
            alpha.data = fn(alpha.data)
            if alpha.grad is not None:
                alpha.grad.data = fn(alpha.grad.data)
        return super()._apply(fn, recurse)
