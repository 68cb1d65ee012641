"""Pictures in folders: PATH/train/CLASS/picture, and PATH/test/ or PATH/val/ likewise."""

from __future__ import annotations

import random
import statistics
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import functional as F
from tqdm import tqdm

from train.images import ImageSet, InMemory
from zcpt.errors import DataError

_IN_MEMORY = 2 * 2**30  # bytes of decoded training images
_SIZED = 2000  # pictures whose size is looked at
_LARGEST = 224
_UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)


def _part(root: Path, train: bool) -> Path:
    names = ["train"] if train else ["test", "val"]
    for name in names:
        if (root / name).is_dir():
            return root / name
    if not root.exists():
        raise DataError(f"there is no folder {root.absolute()}: give the folder of your pictures as folder:PATH.")
    raise DataError(
        f"{root.absolute()} has no folder {' or '.join(names)}: pictures are expected in {root.name}/{names[0]}/CLASS/."
    )


def _listed(root: Path, train: bool) -> ImageFolder:
    part = _part(root, train)
    try:
        return ImageFolder(str(part))
    except OSError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(f"{part.absolute()} holds no pictures that can be used: {reason}.") from None


def folder_classes(root: Path) -> tuple[str, ...]:
    """Names of the classes; DataError where training and test folders do not have the same."""
    classes, tested = _listed(root, True).classes, _listed(root, False).classes
    if classes != tested:
        differing = sorted(set(classes) ^ set(tested))
        raise DataError(
            f"the training and test folders of {root.absolute()} must have the same classes; "
            f"only one of them has {', '.join(differing[:5])}."
        )
    if len(classes) < 2:
        raise DataError(f"{root.absolute()} has one class only, {classes[0]}: there is nothing to tell it from.")
    return tuple(classes)


class FolderImages(Dataset[tuple[Tensor, int]]):
    """One part of a folder, decoded to RGB on access and brought to one size.

    If all training pictures have the same size (of the first 2,000 drawn at random), that is the size. Else it
    is a square of the median shorter side, at most 224: the picture is scaled to cover it and cut at the centre.
    What was decoded once is kept, if all of it will fit into 2 GiB.
    """

    def __init__(self, root: Path, train: bool) -> None:
        self.samples = _listed(root, train).samples
        self.size = _common_size(self.samples if train else _listed(root, True).samples)
        self.fits = len(self) * 3 * self.size[0] * self.size[1] <= _IN_MEMORY
        self._kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        image = self._kept.get(index)
        if image is None:
            image = self._decoded(path)
            if self.fits:
                self._kept[index] = image
        return image, label

    def _decoded(self, path: str) -> Tensor:
        try:
            with Image.open(path) as picture:
                image = F.pil_to_tensor(_as_rgb(picture))
        except _UNREADABLE as error:
            raise _broken(path, error) from None
        return image if tuple(image.shape[-2:]) == self.size else _fitted(image, self.size)

    def stored(self) -> ImageSet:
        """All images, decoded at once for processes to share, where they fit into 2 GiB; else this data set."""
        if not self.fits:
            return self
        images = torch.empty(len(self), 3, *self.size, dtype=torch.uint8)
        for index, (path, _) in enumerate(tqdm(self.samples, "reading pictures", leave=False, disable=None)):
            images[index] = self._decoded(path)
        return InMemory(images, torch.tensor([label for _, label in self.samples]))


def _as_rgb(picture: Image.Image) -> Image.Image:
    """Eight bits for each of three channels; ValueError where the range of the values is not known."""
    if picture.mode.startswith("I"):  # 16 bits, which PIL would clip rather than scale
        values = np.asarray(picture)
        if values.min() < 0 or values.max() >= 2**16:
            raise ValueError("its values do not fit into 16 bits")
        picture = Image.fromarray((values >> 8).astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError("it holds floating-point numbers, whose range is not known")
    return picture.convert("RGB")


def _broken(path: str, error: Exception) -> DataError:
    return DataError(f"the picture {path} cannot be read ({error}): replace or remove it.")


def _common_size(samples: list[tuple[str, int]]) -> tuple[int, int]:
    picked = random.Random(0).sample(samples, min(_SIZED, len(samples)))
    sizes = []
    for path, _ in picked:
        try:
            with Image.open(path) as picture:
                sizes.append((picture.height, picture.width))
        except _UNREADABLE as error:
            raise _broken(path, error) from None
    if len(set(sizes)) == 1:
        return sizes[0]
    side = min(_LARGEST, round(statistics.median(min(size) for size in sizes)))
    return side, side


def _fitted(image: Tensor, size: tuple[int, int]) -> Tensor:
    scale = max(size[0] / image.shape[-2], size[1] / image.shape[-1])
    covering = [max(size[i], round(scale * image.shape[i - 2])) for i in (0, 1)]
    resized = F.resize(image, covering, antialias=True)
    fitted: Tensor = F.center_crop(resized, list(size))
    return fitted
