"""How a trained network's images are made from pictures: crop, scale of deep pictures, normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as F

from train.augment import build_normalisation
from train.images import Statistics
from train.pictures import DEFAULT_SCALE, ValueScale, View, convert_picture, read_picture
from zcpt.errors import DataError
from zcpt.items import describe_value

Picture = str | Path | Image.Image | Tensor
"""A file, a PIL picture, or an image [C, H, W], uint8."""


@dataclass(frozen=True)
class Preprocessing:
    """Settings of the test images of a training, with which other pictures become images of the same kind."""

    test_crop: float = 1.0
    """Side of the centre crop, as a share of the side to which a picture is resized."""
    interpolation: str = "bilinear"
    scale: ValueScale = DEFAULT_SCALE
    """Scale of pictures of more than 8 bits."""

    def to_document(self) -> dict[str, Any]:
        """Return the settings as JSON can hold them."""
        return {
            "test_crop": self.test_crop,
            "interpolation": self.interpolation,
            "integers": list(self.scale.integers),
            "floats": list(self.scale.floats),
        }

    @classmethod
    def from_document(cls, document: Any) -> Preprocessing:
        """Read the settings from ``to_document``; ValueError if they are damaged."""
        if not isinstance(document, dict) or sorted(document) != sorted(cls().to_document()):
            raise ValueError("it must have test_crop, interpolation, integers and floats")
        crop, interpolation = document["test_crop"], document["interpolation"]
        if type(crop) not in (int, float) or not 0 < crop <= 1 or interpolation not in ("bilinear", "bicubic"):
            raise ValueError("test_crop must be above 0 and at most 1, and interpolation bilinear or bicubic")
        for name, kinds in (("integers", (int,)), ("floats", (int, float))):
            low_high = document[name]
            if not isinstance(low_high, list) or [type(v) in kinds and abs(v) < 1e30 for v in low_high] != [True] * 2:
                raise ValueError(f"{name} must be two numbers")
            if low_high[0] >= low_high[1]:
                raise ValueError(f"{name} must rise")
        scale = ValueScale(*(tuple(document[name]) for name in ("integers", "floats")))
        return cls(crop, interpolation, scale)


DEFAULT_PREPROCESSING = Preprocessing()
"""What version 0.1.0 did."""


class PictureTransform:
    """Transform of a picture to the image [C, H, W] that a trained network takes.

    Args:
        image_size: Height and width of the image.
        statistics: Mean and standard deviation of each channel.
        preprocessing: Settings.
    """

    def __init__(self, image_size: tuple[int, int], statistics: Statistics, preprocessing: Preprocessing) -> None:
        self.view = View(image_size, preprocessing.test_crop, preprocessing.interpolation)
        self.scale = preprocessing.scale
        self.statistics = statistics
        self._normalise = nn.Sequential(*build_normalisation(statistics))

    def __call__(self, picture: Picture) -> Tensor:
        """Return the normalised image [C, H, W] of a picture.

        Raises:
            DataError: The picture cannot be read, or has other channels than the network.
        """
        image: Tensor = self._normalise(self.view.cut(self._read(picture)))
        return image

    def _read(self, picture: Picture) -> Tensor:
        """Return the values [C, H, W], uint8, at the size of the picture."""
        channels = len(self.statistics[0])
        if isinstance(picture, Tensor):
            if picture.dtype != torch.uint8 or picture.ndim != 3 or len(picture) != channels or not picture.numel():
                raise DataError(
                    f"the image is {describe_value(picture)}, and the network takes uint8 images [{channels}, H, W]."
                )
            return picture
        if isinstance(picture, Image.Image):
            picture = convert_picture(picture, self.scale)
        elif isinstance(picture, str | Path):
            picture = read_picture(str(picture), self.scale)
        else:
            raise DataError(f"{describe_value(picture)} is no file, PIL picture or image [C, H, W].")
        if channels not in (1, 3):
            raise DataError(f"the network takes images of {channels} channels, and pictures have 1 or 3: give tensors.")
        image: Tensor = F.pil_to_tensor(picture.convert("L") if channels == 1 else picture)
        return image
