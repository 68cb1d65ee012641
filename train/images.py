"""Sets of uint8 images, and what is measured on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from zcpt.errors import DataError

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


class Pictures(Dataset[tuple[Tensor, int]]):
    """The pictures of somebody's map-style data set as uint8 tensors [C, H, W], with their labels.

    Args:
        images: Its items are (PIL picture or uint8 tensor [C, H, W], label).
        name: What errors call it.
        classes: How many classes there are.

    Raises:
        DataError: It is no map-style data set, or, when an item is read, that one is something else.
    """

    def __init__(self, images: Any, name: str, classes: int) -> None:
        if not hasattr(images, "__getitem__") or not hasattr(images, "__len__"):
            raise DataError(f"data set '{name}' must load a data set with a length and items, not {images!r}.")
        self.images, self.name, self.classes = images, name, classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        if isinstance(image, Image.Image):
            image = F.pil_to_tensor(image if image.mode in ("L", "RGB") else image.convert("RGB"))
        if not isinstance(image, Tensor) or image.dtype != torch.uint8 or image.ndim != 3:
            kind = f"{image.dtype} {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise DataError(
                f"image {index} of data set '{self.name}' is a {kind}: it must be a PIL picture or a uint8 tensor "
                "[C, H, W]. Leave out transforms, zcpt brings its own."
            )
        if not 0 <= int(label) < self.classes:
            raise DataError(
                f"image {index} of data set '{self.name}' has label {label}, and there are {self.classes} classes: "
                "labels count from 0."
            )
        return image, int(label)


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
