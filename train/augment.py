"""Augmentation and normalisation of images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from train.images import Statistics
from train.recipe import TrainConfig


class Cutout(nn.Module):
    """Set a square of a normalised image to 0, which is the mean (DeVries and Taylor, arXiv 1708.04552).

    The centre of the square is any pixel of the image, so part of the square may lie outside.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, image: Tensor) -> Tensor:
        """Cut a hole into a copy of the image [C, H, W]."""
        image = image.clone()
        top, left = (int(torch.randint(side, ())) - self.length // 2 for side in image.shape[-2:])
        bottom, right = top + self.length, left + self.length
        image[..., max(top, 0) : bottom, max(left, 0) : right] = 0
        return image


def build_normalisation(statistics: Statistics) -> list[nn.Module]:
    """Build the last steps of every pipeline: from uint8 to float with mean 0 and standard deviation 1."""
    mean, std = statistics
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]


def build_scoring_transform(image_size: tuple[int, int], statistics: Statistics) -> v2.Compose:
    """Build the augmentation of a search's batches: random crops and flips.

    The padding of the crops is an eighth of the image, which is the usual 4 pixels on 32x32 images.
    """
    padding = max(1, round(min(image_size) / 8))
    crop = v2.RandomCrop(list(image_size), padding=padding)
    return v2.Compose([crop, v2.RandomHorizontalFlip(), *build_normalisation(statistics)])


def build_training_transform(config: TrainConfig, image_size: tuple[int, int], statistics: Statistics) -> v2.Compose:
    """Build the augmentation of a training from its settings."""
    steps: list[nn.Module] = []
    if config.crop_padding:
        steps.append(v2.RandomCrop(list(image_size), padding=config.crop_padding))
    if config.flip:
        steps.append(v2.RandomHorizontalFlip())
    steps += build_normalisation(statistics)
    if config.cutout:
        steps.append(Cutout(config.cutout))
    return v2.Compose(steps)
