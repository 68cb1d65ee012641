"""Sets of uint8 images and their statistics."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from train.pictures import ValueScale, View, convert_to_rgb
from zcpt.errors import ConfigError, DataError
from zcpt.items import count_items, describe_value, read_item, read_label
from zcpt.progress import show_progress

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, for values in [0, 1]."""


MAX_MEMORY = 2 * 2**30
"""Bytes of decoded images that are kept in memory."""
MAX_SIDE = 8192
"""Largest height and width of images, in pixels; a mini-batch of larger ones would take all memory."""


@dataclass(frozen=True)
class ImageOptions:
    """Settings of how a data set is read; None leaves a setting to the data.

    Raises:
        ConfigError: A value is out of range.
    """

    image_size: tuple[int, int] | None = None
    """Height and width to which images are brought."""
    validation_split: float | None = None
    """Share of the pictures of each class that become the test part, for a folder that has none."""
    split_seed: int | None = None
    """Seed of that split."""
    is_optional: bool = False
    """The split is used where there is no test part, and has no effect elsewhere; else it is refused there."""

    def __post_init__(self) -> None:
        if self.image_size is not None and not 1 <= min(self.image_size) <= max(self.image_size) <= MAX_SIDE:
            raise ConfigError(f"--image-size must be from 1 to {MAX_SIDE} pixels, not {self.image_size}.")
        if self.validation_split is not None and not 0 <= self.validation_split <= 1:
            raise ConfigError(f"--validation-split {self.validation_split} must be from 0 to 1.")

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ImageOptions:
        """Read the settings from the description of the data in a run folder; ConfigError if one is of a wrong kind."""
        size, share, seed = (document.get(name) for name in IMAGE_OPTIONS)
        try:
            image_size = None if size is None else parse_image_size(size)
        except ValueError as error:
            raise ConfigError(f"the run folder is damaged: its image_size {error}.") from None
        if type(share) not in (int, float, type(None)) or type(seed) not in (int, type(None)):
            raise ConfigError(f"the run folder is damaged: its split of the pictures is {share!r} by seed {seed!r}.")
        return cls(image_size, share, seed)

    def to_document(self) -> dict[str, Any]:
        """Return the settings that are given, for a run folder, as their flags take them."""
        size = self.image_size and "{}x{}".format(*self.image_size)
        values = dict(zip(IMAGE_OPTIONS, (size, self.validation_split, self.split_seed), strict=True))
        return {name: value for name, value in values.items() if value is not None}


def parse_image_size(text: object) -> tuple[int, int]:
    """Parse 224, or height and width as 160x224; ValueError with a sentence for the user if it is no size."""
    sides = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", str(text), re.ASCII)
    size = (int(sides[1]), int(sides[2] or sides[1])) if sides else (0, 0)
    if not 1 <= min(size) <= max(size) <= MAX_SIDE:
        raise ValueError(
            f"{str(text)[:40]!r} is no image size: give pixels per side, such as 224 or 160x224, at most {MAX_SIDE}"
        )
    return size


DEFAULT_OPTIONS = ImageOptions()
IMAGE_OPTIONS = ("image_size", "validation_split", "split_seed")
"""Settings of ``ImageOptions`` that are flags, and that run folders keep."""


class ImageSet(Protocol):
    """Map-style data set of (uint8 image [C, H, W], label). torch's Dataset itself declares no length."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]: ...


@runtime_checkable
class PictureSet(Protocol):
    """Image set whose images come from pictures of other sizes."""

    def read_picture(self, index: int, /) -> tuple[Image.Image, int]:
        """Return a picture at its own size, and its label."""

    def change_view(self, view: View, /) -> ImageSet:
        """Return the same set with images that are cut out of the pictures in this way."""

    def decode_all(self) -> ImageSet:
        """Return the images in memory if they fit into ``MAX_MEMORY``, else this set."""


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
        images: Map-style data set of (image, label), where images are PIL pictures, tensors [C, H, W], or arrays
            [H, W] or [H, W, C]; those that are not uint8 are scaled.
        name: Name of the data set, for errors.
        classes: Number of classes.
        get_scale: Function that returns the scale of images that are not uint8.

    Raises:
        DataError: ``images`` is no map-style data set; or, on access, an item is of another kind.
    """

    def __init__(self, images: Any, name: str, classes: int, get_scale: Callable[[], ValueScale]) -> None:
        self.name = f"data set '{name}'"
        if not hasattr(images, "__getitem__") or not hasattr(images, "__len__"):
            raise DataError(f"{self.name} must load a data set with a length and items, not {images!r}.")
        self.images = images
        self.classes = classes
        self.get_scale = get_scale
        self._length = count_items(images, self.name)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = read_item(self.images, index, self.name)
        number = read_label(label, index, self.classes, self.name)
        if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3 and image.numel():
            return image, number
        values = self._read_values(image, index)
        if values.dtype != np.uint8:
            values = self.get_scale().to_uint8(values)
        return torch.from_numpy(values.transpose(2, 0, 1).copy()), number

    def read_deep_values(self, count: int = 100) -> Iterator[NDArray[np.generic]]:
        """Yield the values of those images, of some evenly spaced in the set, that are not uint8."""
        for index in range(0, len(self), max(1, len(self) // count)):
            values = self._read_values(read_item(self.images, index, self.name)[0], index)
            if values.dtype != np.uint8:
                yield values

    def _read_values(self, image: Any, index: int) -> NDArray[Any]:
        """Return the values [H, W, C] of an image."""
        values = image
        try:
            if isinstance(image, Image.Image):
                is_plain = image.mode in ("L", "RGB") and "transparency" not in image.info
                values = np.asarray(image if is_plain or image.mode[0] in "IF" else convert_to_rgb(image))
            elif isinstance(image, Tensor):
                wide = image.detach().cpu()
                values = (wide.float() if wide.dtype == torch.bfloat16 else wide).numpy()
                values = values.transpose(1, 2, 0) if values.ndim == 3 else None
        except Exception as error:  # of a picture that is decoded only now, or a tensor without values
            raise DataError(f"image {index} of {self.name} cannot be read: {type(error).__name__}: {error}.") from error
        if not isinstance(values, np.ndarray) or values.ndim not in (2, 3) or values.dtype.kind not in "uif":
            raise DataError(
                f"image {index} of {self.name} is {describe_value(image)}: it must be a PIL picture, a tensor "
                "[C, H, W] or an array [H, W, C]. Leave out transforms: zcpt normalises and augments."
            )
        values = values[..., None] if values.ndim == 2 else values
        if min(values.shape) < 1 or not np.isfinite(values).all():
            raise DataError(f"image {index} of {self.name} has no pixels, or values that are not finite numbers.")
        return values


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


class ResizedImages(Dataset[tuple[Tensor, int]]):
    """Image set whose images are brought to one size on access."""

    def __init__(self, images: ImageSet, view: View) -> None:
        self.images = images
        self.view = view

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.images[index]
        return self.view.cut(image), label

    def read_picture(self, index: int) -> tuple[Image.Image, int]:
        """Return an image at its own size as a picture, and its label."""
        return read_picture(self.images, index)

    def change_view(self, view: View) -> ImageSet:
        """Return the images at another size."""
        return change_view(self.images, view)

    def decode_all(self) -> ImageSet:
        """Resize all images now if they fit into memory, as training needs them in every epoch."""
        channels = len(self[0][0]) if len(self) else 0
        if not channels or len(self) * channels * self.view.size[0] * self.view.size[1] > MAX_MEMORY:
            return self
        images, labels = zip(*(self[i] for i in range(len(self))), strict=True)
        return InMemoryImages(torch.stack(images), torch.tensor(labels))


class SelectedImages(Dataset[tuple[Tensor, int]]):
    """Some images of a picture set, in the order of their indices."""

    def __init__(self, images: ImageSet, indices: Sequence[int]) -> None:
        self.images = images
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[self.indices[index]]

    def read_picture(self, index: int) -> tuple[Image.Image, int]:
        """Return a picture at its own size, and its label."""
        return read_picture(self.images, self.indices[index])

    def change_view(self, view: View) -> ImageSet:
        """Return the same images at another size."""
        return SelectedImages(change_view(self.images, view), self.indices)

    def decode_all(self) -> ImageSet:
        """Return the images in memory if the whole set can be kept there."""
        loaded = load_into_memory(self.images)
        return select_images(loaded, self.indices) if isinstance(loaded, InMemoryImages) else self


def select_images(images: ImageSet, indices: Sequence[int]) -> ImageSet:
    """Return the images with these indices, in their order."""
    if isinstance(images, InMemoryImages):
        return InMemoryImages(images.images[indices], torch.tensor(images.labels)[indices])
    return SelectedImages(images, indices)


def read_picture(images: ImageSet, index: int) -> tuple[Image.Image, int]:
    """Return an image of a set as a picture, at its own size if that is known, and its label."""
    if isinstance(images, PictureSet):
        return images.read_picture(index)
    image, label = images[index]
    return F.to_pil_image(image), label


def change_view(images: ImageSet, view: View) -> ImageSet:
    """Return the images brought to a size in this way."""
    if isinstance(images, PictureSet):
        return images.change_view(view)
    is_plain = view.crop == 1 and len(images) > 0 and images[0][0].shape[-2:] == view.size
    return images if is_plain else ResizedImages(images, view)


def load_into_memory(images: ImageSet) -> ImageSet:
    """Return the images as ``InMemoryImages`` if they are of this project's kinds and fit into ``MAX_MEMORY``.

    Those of registered data sets are returned as they are, because reading them again may give other images.
    """
    return images.decode_all() if isinstance(images, PictureSet) else images


def compute_statistics(images: ImageSet, name: str, max_images: int = 10_000) -> Statistics:
    """Compute mean and standard deviation of each channel from at most ``max_images``, evenly spaced in the set.

    Raises:
        DataError: The set is empty, its images differ in size, or all of them have one and the same colour.
    """
    if len(images) == 0:
        raise DataError(f"{name} has no training images.")
    shape = images[0][0].shape
    # Sums of whole numbers are exact, whatever their order, and need the memory of one image.
    pixels, total, squares = 0, torch.zeros(shape[0], dtype=torch.int64), torch.zeros(shape[0], dtype=torch.int64)
    for index in show_progress(range(0, len(images), -(-len(images) // max_images)), "measuring images", leave=False):
        image = images[index][0]
        if image.shape != shape:
            raise DataError(
                f"the images of {name} must have one size, and image {index} has {list(image.shape)} where image 0 has "
                f"{list(shape)}: give --image-size HxW."
            )
        values = image.flatten(1).long()
        pixels += values.shape[1]
        total += values.sum(1)
        squares += values.square().sum(1)
    sums = list(zip(total.tolist(), squares.tolist(), strict=True))
    mean = tuple(s / (255 * pixels) for s, _ in sums)
    std = tuple(math.sqrt(pixels * q - s * s) / (255 * pixels) for s, q in sums)
    if not any(std):
        raise DataError(f"all training images of {name} have one and the same colour: there is nothing to learn.")
    # A channel that is constant would otherwise be divided by 0.
    return mean, tuple(max(value, 1e-3) for value in std)
