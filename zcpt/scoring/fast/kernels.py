"""Agreement kernels of observed activations: in how many units two images are positive or not alike.

With signs S in {0, 1}, [B, units], two images i and j are both positive in P[i, j] = (S @ S.T)[i, j] units and agree in
K[i, j] = 2 P[i, j] - P[i, i] - P[j, j] + units. So one product of signs is enough.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter

import torch
from torch import Tensor

UNITS_PER_PIECE = 2**14
"""Units of each image whose signs are taken and multiplied at a time, to stay in the processor's cache."""
_EXACT_FLOAT32 = 2**24
"""Largest count up to which float32 represents every integer."""
_SPLIT_FROM = 128
"""Number of images from which on a symmetric product is computed by halves."""

Counts = tuple[int, ...]
"""How often an observed tensor's units count in each of P mixtures."""


class SignRecorder(ABC):
    """Receives which units of the observed activations are positive."""

    def record(self, counts: Counts, x: Tensor) -> None:
        """Record the signs of an activation [B, ...]."""
        for piece in flatten_units(x).split(UNITS_PER_PIECE, dim=1):
            self.record_signs(counts, write_signs(piece, self.allocate_signs(x, piece.shape[1])))

    def allocate_signs(self, images: Tensor, units: int) -> Tensor:
        """Return a tensor for signs, int8 [B, units]; tensors must be recorded in the order they were allocated."""
        return images.new_empty((len(images), units), dtype=torch.int8)

    @abstractmethod
    def record_signs(self, counts: Counts, signs: Tensor) -> None:
        """Record units whose signs are known: 1 where positive, int8 [B, units]."""


class KernelAccumulator(SignRecorder):
    """Accumulates the kernels of P mixtures. Units that count equally often in all of them share one product."""

    def __init__(self) -> None:
        self._both_positive: dict[Counts, Tensor] = {}
        self._units: Counter[Counts] = Counter()

    def record_signs(self, counts: Counts, signs: Tensor) -> None:
        self._add(counts, count_both_positive(signs))
        self._units[counts] += signs.shape[1]

    def add(self, other: KernelAccumulator) -> None:
        """Add what another accumulator has counted."""
        for counts, both in other._both_positive.items():
            self._add(counts, both)
        self._units.update(other._units)

    def _add(self, counts: Counts, both: Tensor) -> None:
        if counts in self._both_positive:
            self._both_positive[counts].add_(both)
        else:
            self._both_positive[counts] = both

    def compute_kernels(self) -> list[Tensor]:
        """Return K [B, B], int64, on the CPU, for each mixture; equal to ``Naswot.compute_kernel``."""
        totals: list[Tensor] = []
        for counts, both in self._both_positive.items():
            both = both.cpu()
            alone = both.diagonal()
            kernel = 2 * both - alone[:, None] - alone[None, :] + self._units[counts]
            totals = totals or [torch.zeros_like(kernel) for _ in counts]
            for total, count in zip(totals, counts, strict=True):
                total.add_(kernel, alpha=count)
        return totals


def flatten_units(x: Tensor) -> Tensor:
    """Return [B, units] without a copy, units in memory order; a kernel sums over units, so any order works."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.flatten(1)


def write_signs(x: Tensor, out: Tensor) -> Tensor:
    """Write into int8 [B, units] a 1 where a unit is positive and a 0 elsewhere, and return it."""
    # Compared straight into int8: through a tensor of booleans it takes several times as long.
    return torch.gt(flatten_units(x), 0, out=out)


def count_both_positive(signs: Tensor) -> Tensor:
    """Count the units, of [B, units], that are 1 in both of two images: [B, B], int64, exact."""
    if signs.device.type == "cpu" and len(signs) >= _SPLIT_FROM:
        # The result is symmetric: of its four blocks one is another's transpose, which saves a quarter of the product.
        first, second = signs.tensor_split(2)
        across = torch._int_mm(first, second.T).long()
        return torch.cat(
            [
                torch.cat([count_both_positive(first), across], dim=1),
                torch.cat([across.T, count_both_positive(second)], dim=1),
            ]
        )
    if _has_int8_product(signs):
        # int8 products are summed up in int32, exactly.
        return torch._int_mm(signs, signs.T).long()
    both = torch.zeros(len(signs), len(signs), dtype=torch.int64, device=signs.device)
    for piece in signs.split(_EXACT_FLOAT32, dim=1):
        numbers = piece.float()
        both += (numbers @ numbers.T).long()
    return both


def _has_int8_product(signs: Tensor) -> bool:
    if signs.device.type == "cuda":
        # The sizes that torch._int_mm accepts on CUDA.
        return len(signs) > 16 and len(signs) % 8 == 0 and signs.shape[1] % 8 == 0
    return signs.device.type == "cpu"
