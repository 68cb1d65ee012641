"""Agreement kernels of many tensors, added up: in how many units two images are positive alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter

import torch
from torch import Tensor

PIECE = 2**14
"""So many units of each image are compared at a time, to stay in the processor's cache."""
_EXACT_FLOAT32 = 2**24
_HALVED = 128
"""From so many images on a product is taken by halves."""


class Count(ABC):
    """What is told of every observed value; ``times`` says how often its units count in each mixture."""

    def add(self, times: tuple[int, ...], x: Tensor) -> None:
        """Count the units of a tensor [B, ...]."""
        for piece in rows(x).split(PIECE, dim=1):
            self.add_signs(times, positive(piece, self.room(x, piece.shape[1])))

    def room(self, images: Tensor, units: int) -> Tensor:
        """Where signs of so many units can be written: int8 [B, units]; they are to be counted in this order."""
        return images.new_empty((len(images), units), dtype=torch.int8)

    @abstractmethod
    def add_signs(self, times: tuple[int, ...], signs: Tensor) -> None:
        """Count units of which is known which are positive: int8 [B, units]."""


class Tally(Count):
    """The kernels of P mixtures. Units that count equally often in all of them are counted together."""

    def __init__(self) -> None:
        self._both: dict[tuple[int, ...], Tensor] = {}
        self._units: Counter[tuple[int, ...]] = Counter()

    def add_signs(self, times: tuple[int, ...], signs: Tensor) -> None:
        """Count units of which is known which are positive: int8 [B, units]."""
        both = both_positive(signs)
        self._both[times] = both if times not in self._both else self._both[times].add_(both)
        self._units[times] += signs.shape[1]

    def join(self, other: Tally) -> None:
        """Count what another one has counted."""
        for times, both in other._both.items():
            self._both[times] = both if times not in self._both else self._both[times].add_(both)
        self._units.update(other._units)

    def kernels(self) -> list[Tensor]:
        """K [B, B], int64, on the CPU, for each mixture: as ``Naswot.compute_kernel`` has it."""
        totals: list[Tensor] = []
        for times, both in self._both.items():
            both = both.cpu()
            alone = both.diagonal()
            kernel = 2 * both - alone[:, None] - alone[None, :] + self._units[times]
            totals = totals or [torch.zeros_like(kernel) for _ in times]
            for total, often in zip(totals, times, strict=True):
                total.add_(kernel, alpha=often)
        return totals


def rows(x: Tensor) -> Tensor:
    """[B, units], the units in the order in which they lie in memory: it is all the same."""
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)
    return x.flatten(1)


def positive(x: Tensor, out: Tensor) -> Tensor:
    """Write which units are positive: 1 or 0, int8 [B, units]."""
    # Straight into int8: by way of booleans it takes several times as long.
    return torch.gt(rows(x), 0, out=out)


def both_positive(signs: Tensor) -> Tensor:
    """How many of the units [B, units] are 1 in both of two images: [B, B], int64, exact."""
    if signs.device.type == "cpu" and len(signs) >= _HALVED:
        # The kernel is symmetric.
        first, second = signs.tensor_split(2)
        across = torch._int_mm(first, second.T).long()
        return torch.cat(
            [
                torch.cat([both_positive(first), across], dim=1),
                torch.cat([across.T, both_positive(second)], dim=1),
            ]
        )
    if _has_int8_product(signs):
        return torch._int_mm(signs, signs.T).long()
    both = torch.zeros(len(signs), len(signs), dtype=torch.int64, device=signs.device)
    for piece in signs.split(_EXACT_FLOAT32, dim=1):
        numbers = piece.float()
        both += (numbers @ numbers.T).long()
    return both


def _has_int8_product(signs: Tensor) -> bool:
    if signs.device.type == "cuda":
        return len(signs) > 16 and len(signs) % 8 == 0 and signs.shape[1] % 8 == 0
    return signs.device.type == "cpu"
