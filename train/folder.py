"""The user's own pictures, in a folder for each class."""

from __future__ import annotations

import random
import statistics
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from train.images import DEFAULT_OPTIONS, MAX_MEMORY, ImageOptions, ImageSet, InMemoryImages
from train.layout import Samples, read_layout
from train.pictures import (
    PictureHeader,
    ValueScale,
    View,
    decode_picture,
    measure_scale,
    read_header,
    read_picture,
    read_values,
)
from zcpt.errors import DataError
from zcpt.progress import show_progress

_MEASURED_PICTURES = 2000
"""Pictures whose header is read to choose the common size."""
_MEASURED_VALUES = 500
"""Pictures of more than 8 bits whose values are read to choose the scale."""
_MAX_SIDE = 224
"""Side of the common square, in pixels, if the pictures differ in size."""
_DARK = 32
"""Value of 255 below which the upper bytes of 16-bit values tell too little."""


class PictureFolder:
    """Folder of pictures with a training and a test part.

    If all training pictures (of 2,000 drawn at random) have one size, that is the size of all images of both parts.
    Else it is a square of the median shorter side, at most 224. An image size among the options takes precedence.

    Args:
        root: The folder.
        options: How the pictures are split and scaled.

    Raises:
        DataError: The folder has no usable layout, or a picture is damaged.
        ConfigError: An option does not fit the folder.
    """

    def __init__(self, root: Path, options: ImageOptions = DEFAULT_OPTIONS) -> None:
        layout = read_layout(root, options)
        self.classes = layout.classes
        self._samples = {True: layout.train, False: layout.test}
        headers = _read_headers(layout.train or layout.test)
        sizes = [header.size for header in headers.values()]
        self.image_size, reason = choose_image_size(sizes, options.image_size)
        self.scale, about_scale = _choose_scale(headers)
        share, seed = (layout.split.share, layout.split.seed) if layout.split else (None, None)
        self.options = ImageOptions(options.image_size, share, seed)
        self.notes = (*layout.notes, reason, *about_scale)
        """Sentences that say what was found, and how it is used."""

    def load_images(self, train: bool) -> FolderImages:
        """Load the training or the test part."""
        return FolderImages(self._samples[train], View(self.image_size), self.scale)


class FolderImages(Dataset[tuple[Tensor, int]]):
    """Pictures that are decoded on access to RGB and brought to one size.

    Decoded pictures are kept in memory if all of them fit into 2 GiB.

    Args:
        samples: Path and label of each picture.
        view: How they are brought to one size.
        scale: Scale of pictures of more than 8 bits.
    """

    def __init__(self, samples: Samples, view: View, scale: ValueScale | None = None) -> None:
        self.samples = samples
        self.view = view
        self.scale = scale or ValueScale()
        self.fits_in_memory = len(samples) * 3 * view.size[0] * view.size[1] <= MAX_MEMORY
        self._decoded: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.samples[index]
        image = self._decoded.get(index)
        if image is None:
            image = decode_picture(path, self.view, self.scale)
            if self.fits_in_memory:
                self._decoded[index] = image
        return image, label

    def read_picture(self, index: int) -> tuple[Image.Image, int]:
        """Read a picture at its own size; return it with its label."""
        path, label = self.samples[index]
        return read_picture(path, self.scale), label

    def change_view(self, view: View) -> FolderImages:
        """Return the same pictures, brought to one size in another way."""
        return self if view == self.view else FolderImages(self.samples, view, self.scale)

    def decode_all(self) -> ImageSet:
        """Decode all pictures now if they fit into 2 GiB, so that worker processes share them; else return ``self``."""
        if not self.fits_in_memory:
            return self
        images = torch.empty(len(self), 3, *self.view.size, dtype=torch.uint8)
        for index, (path, _) in enumerate(show_progress(self.samples, "reading pictures", leave=False)):
            image = self._decoded.pop(index, None)  # of which one copy is enough
            images[index] = decode_picture(path, self.view, self.scale) if image is None else image
        return InMemoryImages(images, torch.tensor([label for _, label in self.samples]))


def _read_headers(samples: Samples) -> dict[str, PictureHeader]:
    """Read the headers of a sample of the pictures."""
    picked = random.Random(0).sample(samples, min(_MEASURED_PICTURES, len(samples)))
    return {path: read_header(path) for path, _ in show_progress(picked, "measuring pictures", leave=False)}


def choose_image_size(sizes: list[tuple[int, int]], given: tuple[int, int] | None) -> tuple[tuple[int, int], str]:
    """Return height and width of the images, and the sentence that gives the reason."""
    if given:
        return given, f"the images have {given[0]}x{given[1]} pixels, as --image-size says"
    if len(set(sizes)) == 1:
        height, width = sizes[0]
        hint = "; a smaller --image-size takes less time and memory" if min(sizes[0]) > _MAX_SIDE else ""
        return sizes[0], f"the images have {height}x{width} pixels, as all pictures do{hint}"
    median = round(statistics.median(min(size) for size in sizes))
    side = min(_MAX_SIDE, median)
    limit = "" if side == median else f", limited to {side}"
    reason = f"the median of the pictures' shorter sides, {median}{limit}; --image-size sets another size"
    return (side, side), f"the images have {side}x{side} pixels: {reason}"


def _choose_scale(headers: dict[str, PictureHeader]) -> tuple[ValueScale, list[str]]:
    """Return the scale of pictures of more than 8 bits, and a sentence if there are any.

    Raises:
        DataError: The scale of the pictures is so small that their upper 8 bits, which can be read, tell little.
    """
    deep = [path for path, header in headers.items() if header.is_deep][:_MEASURED_VALUES]
    cut = [path for path, header in headers.items() if header.is_cut][:_MEASURED_VALUES]
    if cut and max(int(read_values(path).max()) for path in cut) < _DARK:
        raise DataError(
            f"{cut[0]} and others are colour TIFFs that use the lower ones of 16 bits, and only the upper 8 are read: "
            "convert them to PNG, or to 8 bits."
        )
    if not deep:
        return ValueScale(), []
    values = show_progress(map(read_values, deep), "measuring pictures", len(deep), leave=False)
    scale = measure_scale(values)
    return scale, [f"pictures of more than 8 bits are scaled by the data: {scale}"]
