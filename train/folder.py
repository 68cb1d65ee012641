"""The user's own pictures, in PATH/train/CLASS/ and PATH/test/CLASS/ or PATH/val/CLASS/."""

from __future__ import annotations

import random
import statistics
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import functional as F

from train.images import ImageSet, InMemoryImages
from zcpt.errors import DataError
from zcpt.progress import show_progress

_MAX_MEMORY = 2 * 2**30
"""Bytes of decoded pictures that are kept in memory."""
_MEASURED_PICTURES = 2000
"""Pictures whose size is read to choose the common size."""
_MAX_SIDE = 224
"""Side of the common square, in pixels, if the pictures differ in size."""
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


class PictureFolder:
    """Folder of pictures with a training and a test part.

    Raises:
        DataError: A part is missing or empty, there are fewer than two classes, or the parts have different classes.
    """

    def __init__(self, root: Path) -> None:
        train, test = _list_pictures(root, ["train"]), _list_pictures(root, ["test", "val"])
        if train.classes != test.classes:
            differing = sorted(set(train.classes) ^ set(test.classes))
            raise DataError(
                f"the training and test folders of {root.absolute()} must have the same classes; "
                f"only one of them has {', '.join(differing[:5])}."
            )
        if len(train.classes) < 2:
            raise DataError(f"{root.absolute()} has one class only, {train.classes[0]}: at least 2 are needed.")
        self.classes = tuple(train.classes)
        self._train_samples = train.samples
        self._test_samples = test.samples

    @cached_property
    def image_size(self) -> tuple[int, int]:
        """Height and width of all images of both parts.

        If all training pictures (of 2,000 drawn at random) have one size, that is the size. Else it is a square of the
        median shorter side, at most 224.
        """
        return _choose_image_size(self._train_samples)

    def load_images(self, train: bool) -> FolderImages:
        """Load the training or the test part."""
        return FolderImages(self._train_samples if train else self._test_samples, self.image_size)


class FolderImages(Dataset[tuple[Tensor, int]]):
    """Pictures that are decoded on access to RGB and brought to one size.

    A picture of another size is scaled to cover the size and cropped at the centre. Decoded pictures are kept in memory
    if all of them fit into 2 GiB.

    Args:
        samples: Path and label of each picture.
        size: Height and width of the images.
    """

    def __init__(self, samples: list[tuple[str, int]], size: tuple[int, int]) -> None:
        self.samples = samples
        self.size = size
        self.fits_in_memory = len(samples) * 3 * size[0] * size[1] <= _MAX_MEMORY
        self._decoded: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        image = self._decoded.get(index)
        if image is None:
            image = self._decode(path)
            if self.fits_in_memory:
                self._decoded[index] = image
        return image, label

    def _decode(self, path: str) -> Tensor:
        try:
            with Image.open(path) as picture:
                image = F.pil_to_tensor(_convert_to_rgb(picture))
        except _DECODING_ERRORS as error:
            raise _make_decoding_error(path, error) from None
        return image if tuple(image.shape[-2:]) == self.size else _cover_and_crop(image, self.size)

    def decode_all(self) -> ImageSet:
        """Decode all pictures now if they fit into 2 GiB, so that worker processes share them; else return ``self``."""
        if not self.fits_in_memory:
            return self
        images = torch.empty(len(self), 3, *self.size, dtype=torch.uint8)
        for index, (path, _) in enumerate(show_progress(self.samples, "reading pictures", leave=False)):
            images[index] = self._decode(path)
        return InMemoryImages(images, torch.tensor([label for _, label in self.samples]))


def _list_pictures(root: Path, names: list[str]) -> ImageFolder:
    """List the pictures below the first of these subfolders that exists."""
    part = next((root / name for name in names if (root / name).is_dir()), None)
    if part is None:
        if not root.exists():
            raise DataError(f"there is no folder {root.absolute()}: give the folder of your pictures as folder:PATH.")
        raise DataError(
            f"{root.absolute()} has no folder {' or '.join(names)}: pictures are expected in "
            f"{root.name}/{names[0]}/CLASS/."
        )
    try:
        return ImageFolder(str(part))
    except OSError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"{part.absolute()} holds no pictures that can be used: {reason}.") from None


def _convert_to_rgb(picture: Image.Image) -> Image.Image:
    """Convert to 8 bits for each of three channels; ValueError if the range of the values is unknown."""
    if picture.mode.startswith("I"):  # 16 bits, which PIL would clip at 255 instead of scaling
        values = np.asarray(picture)
        if values.min() < 0 or values.max() >= 2**16:
            raise ValueError("its values do not fit into 16 bits")
        picture = Image.fromarray((values >> 8).astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError("it holds floating-point numbers, whose range is not known")
    return picture.convert("RGB")


def _make_decoding_error(path: str, error: Exception) -> DataError:
    return DataError(f"the picture {path} cannot be read ({error}): replace or remove it.")


def _choose_image_size(samples: list[tuple[str, int]]) -> tuple[int, int]:
    picked = random.Random(0).sample(samples, min(_MEASURED_PICTURES, len(samples)))
    sizes = []
    for path, _ in picked:
        try:
            with Image.open(path) as picture:
                sizes.append((picture.height, picture.width))
        except _DECODING_ERRORS as error:
            raise _make_decoding_error(path, error) from None
    if len(set(sizes)) == 1:
        return sizes[0]
    side = min(_MAX_SIDE, round(statistics.median(min(size) for size in sizes)))
    return side, side


def _cover_and_crop(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale an image [C, H, W], keeping its proportions, until it covers ``size``, and crop it at the centre."""
    scale = max(size[0] / image.shape[-2], size[1] / image.shape[-1])
    covering = [max(size[i], round(scale * image.shape[i - 2])) for i in (0, 1)]
    resized = F.resize(image, covering, antialias=True)
    cropped: Tensor = F.center_crop(resized, list(size))
    return cropped
