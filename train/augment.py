"""What training does to an image before the network sees it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from train.images import Statistics
from train.recipe import TrainConfig


class Cutout(nn.Module):
    """Set a square of a normalised image to 0, that is to the mean (DeVries and Taylor, arXiv 1708.04552).

    Its centre is anywhere in the image, so part of the square may lie outside.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length

    def forward(self, image: Tensor) -> Tensor:
        """image: [C, H, W]."""
        image = image.clone()
        top, left = (int(torch.randint(side, ())) - self.length // 2 for side in image.shape[-2:])
        bottom, right = top + self.length, left + self.length
        image[..., max(top, 0) : bottom, max(left, 0) : right] = 0
        return image


def normalisation(statistics: Statistics) -> list[nn.Module]:
    """The end of every pipeline: from uint8 to mean 0 and standard deviation 1."""
    mean, std = statistics
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]


def scoring_transform(image_size: tuple[int, int], statistics: Statistics) -> v2.Compose:
    """The augmentation of a search's mini-batches: crops padded by 4 pixels on 32x32 images, scaled, and flips."""
    padding = max(1, round(min(image_size) / 8))
    crop = v2.RandomCrop(list(image_size), padding=padding)
    return v2.Compose([crop, v2.RandomHorizontalFlip(), *normalisation(statistics)])


def training_transform(config: TrainConfig, image_size: tuple[int, int], statistics: Statistics) -> v2.Compose:
    """The augmentation of a training, as its recipe says."""
    steps: list[nn.Module] = []
    if config.crop_padding:
        steps.append(v2.RandomCrop(list(image_size), padding=config.crop_padding))
    if config.flip:
        steps.append(v2.RandomHorizontalFlip())
    steps += normalisation(statistics)
    if config.cutout:
        steps.append(Cutout(config.cutout))
    return v2.Compose(steps)
