"""Random transforms of single pictures, by timm: crops that are resized, changes of colours, automatic augmentation."""

from __future__ import annotations

from timm.data import create_transform
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from train.images import ImageSet, Statistics, read_picture
from train.recipe import TrainConfig
from zcpt.errors import ConfigError


def has_picture_transforms(config: TrainConfig) -> bool:
    """Return whether a training transforms pictures one by one, before they become batches."""
    return config.crop == "resized" or bool(config.auto_augment or config.color_jitter or config.hue_jitter)


class TransformedPictures(Dataset[tuple[Tensor, int]]):
    """Images [C, H, W], uint8, that are made from pictures by timm's random transforms.

    They draw from the global generators of Python, NumPy and torch. With ``crop="resized"`` the pictures have their own
    sizes, else that of the images.

    Args:
        images: Images or pictures.
        config: Settings.
        image_size: Height and width of the images.
        statistics: Mean and standard deviation of the channels; the mean fills what operations leave empty.

    Raises:
        ConfigError: The channels are neither gray nor RGB, or ``auto_augment`` cannot be understood.
    """

    def __init__(
        self, images: ImageSet, config: TrainConfig, image_size: tuple[int, int], statistics: Statistics
    ) -> None:
        self.images = images
        self.is_gray = len(statistics[0]) == 1
        if len(statistics[0]) not in (1, 3):
            raise ConfigError(
                "--crop resized, --auto-augment, --color-jitter and --hue-jitter are for pictures of 1 or 3 channels: "
                f"turn them off for images of {len(statistics[0])}."
            )
        jitter = (config.color_jitter,) * 3 + (config.hue_jitter,)
        try:
            crop, change, _ = create_transform(
                image_size,
                is_training=True,
                scale=(config.crop_scale, 1.0),
                hflip=0.0,  # whole batches are flipped
                color_jitter=jitter if any(jitter) else None,
                auto_augment=config.auto_augment or None,
                interpolation=config.interpolation,
                mean=statistics[0] * 3 if self.is_gray else statistics[0],
                separate=True,
            )
        except (AssertionError, ValueError, KeyError, NameError) as error:
            raise ConfigError(
                f"--auto-augment {config.auto_augment} cannot be understood by timm ({error or type(error).__name__}): "
                "give for example rand-m9-mstd0.5, augmix-m3-w3, original or v0."
            ) from None
        self.steps = (crop, change) if config.crop == "resized" else (change,)
        self.reads_pictures = config.crop == "resized"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.reads_pictures:
            picture, label = read_picture(self.images, index)
        else:
            image, label = self.images[index]
            picture = F.to_pil_image(image)
        picture = picture.convert("RGB")
        for step in self.steps:
            picture = step(picture)
        return F.pil_to_tensor(picture.convert("L") if self.is_gray else picture), label
