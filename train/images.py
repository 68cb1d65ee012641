"""Sets of uint8 images, and what is measured on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, for values in [0, 1]."""

ImageSet = Dataset[tuple[Tensor, int]]
"""A map-style data set of (uint8 image [C, H, W], label)."""


class InMemory(Dataset[tuple[Tensor, int]]):
    """Images [N, C, H, W], uint8, and labels [N]."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images, self.labels = images, labels.tolist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


class Transformed(Dataset[tuple[Tensor, int]]):
    """A data set with a transform on its images."""

    def __init__(self, images: ImageSet, transform: Callable[[Tensor], Tensor]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return count(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        return self.transform(image), label


def count(images: ImageSet) -> int:
    """Number of images (torch's Dataset declares no length)."""
    return len(cast(Any, images))


def measured_statistics(images: ImageSet, at_most: int = 10_000) -> Statistics:
    """Statistics of at most so many images, evenly picked."""
    step = -(-count(images) // at_most)
    picked = torch.stack([images[i][0] for i in range(0, count(images), step)]).double() / 255
    std, mean = torch.std_mean(picked, dim=(0, 2, 3), correction=0)
    return tuple(mean.tolist()), tuple(std.clamp_min(1e-3).tolist())
