"""Metrics of an epoch of training."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

EpochMetrics = dict[str, float]
"""Losses, accuracies, learning rate and speed of an epoch: a line of ``summary.csv``."""


@dataclass
class EpochSums:
    """Sums over the training images of an epoch, of one process or of all."""

    images: int = 0
    loss_sum: float = 0.0
    """Sum of the losses of the main head."""
    correct: int = 0
    norms: list[float] = field(default_factory=list)
    """Norm of the gradient in each update."""
    _parts: list[tuple[Tensor, Tensor, int]] = field(default_factory=list)
    _norms: list[Tensor] = field(default_factory=list)

    def add_part(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add images with their mean loss, logits [b, classes] and classes [b].

        Kept as tensors until ``close``: reading a number would make the host wait for the device in every batch.
        """
        self._parts.append((loss.detach(), (logits.argmax(1) == labels).sum(), len(labels)))

    def add_norm(self, norm: Tensor) -> None:
        """Add the norm of the gradient of an update."""
        self._norms.append(norm.detach())

    def close(self) -> None:
        """Compute the sums."""
        losses, hits, sizes = zip(*self._parts, strict=True)
        sizes_tensor = torch.tensor(sizes, dtype=torch.float64)
        self.loss_sum = float(torch.stack(losses).cpu().double() @ sizes_tensor)
        self.correct = int(torch.stack(hits).sum())
        self.images = sum(sizes)
        self.norms = torch.stack(self._norms).tolist()
        self._parts, self._norms = [], []

    @classmethod
    def add(cls, parts: Sequence[EpochSums]) -> EpochSums:
        """Return the sums over all processes; the gradients, and so their norms, are the same in all."""
        return cls(
            sum(part.images for part in parts),
            sum(part.loss_sum for part in parts),
            sum(part.correct for part in parts),
            parts[0].norms,
        )

    @property
    def loss(self) -> float:
        """Mean loss of the main head."""
        return self.loss_sum / self.images

    @property
    def accuracy(self) -> float:
        """Accuracy in percent; with mixup, of the network's answers for mixed images."""
        return 100 * self.correct / self.images

    @property
    def gradient_norm(self) -> float:
        """Mean norm of the gradient before clipping. An update that float16 skips, for its infinity, does not count."""
        finite = [norm for norm in self.norms if math.isfinite(norm)]
        return sum(finite) / len(finite) if finite else math.inf


def reset_memory(device: torch.device) -> None:
    """Begin to measure the memory of a GPU anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def measure_memory(device: torch.device) -> float:
    """Return the largest memory in use, in MiB: on a GPU since ``reset_memory``, else of the process until now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    if sys.platform == "win32":
        return math.nan
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
