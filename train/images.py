"""Sets of uint8 images and their statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from zcpt.errors import DataError

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, for values in [0, 1]."""


class ImageSet(Protocol):
    """Map-style data set of (uint8 image [C, H, W], label). torch's Dataset itself declares no length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]: ...


class InMemoryImages(Dataset[tuple[Tensor, int]]):
    """Images [N, C, H, W], uint8, with labels [N], held in memory."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels: list[int] = labels.tolist()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], self.labels[index]


class RegisteredImages(Dataset[tuple[Tensor, int]]):
    """Images of a registered data set, checked and converted to uint8 tensors [C, H, W] on access.

    Args:
        images: Map-style data set of (PIL picture or uint8 tensor [C, H, W], label).
        name: Name of the data set, for errors.
        classes: Number of classes.

    Raises:
        DataError: ``images`` is no map-style data set; or, on access, an item is of another kind.
    """

    def __init__(self, images: Any, name: str, classes: int) -> None:
        if not hasattr(images, "__getitem__") or not hasattr(images, "__len__"):
            raise DataError(f"data set '{name}' must load a data set with a length and items, not {images!r}.")
        self.images = images
        self.name = name
        self.classes = classes

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
                "[C, H, W]. Leave out transforms: zcpt normalises and augments."
            )
        if not 0 <= int(label) < self.classes:
            raise DataError(
                f"image {index} of data set '{self.name}' has label {label}, and there are {self.classes} classes: "
                "labels count from 0."
            )
        return image, int(label)


class TransformedImages(Dataset[tuple[Tensor, int]]):
    """Image set with a transform applied on access."""

    def __init__(self, images: ImageSet, transform: Callable[[Tensor], Tensor]) -> None:
        self.images = images
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        return self.transform(image), label


def compute_statistics(images: ImageSet, max_images: int = 10_000) -> Statistics:
    """Compute mean and standard deviation of each channel from at most ``max_images``, evenly spaced in the set."""
    step = -(-len(images) // max_images)
    sample = torch.stack([images[i][0] for i in range(0, len(images), step)]).double() / 255
    std, mean = torch.std_mean(sample, dim=(0, 2, 3), correction=0)
    # A channel that is constant would otherwise be divided by 0.
    return tuple(mean.tolist()), tuple(std.clamp_min(1e-3).tolist())
