"""Augmentation and normalisation of images, in whole batches on the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2

from train.images import Statistics
from train.recipe import TrainConfig
from zcpt.seeding import derive_seed

Draws = dict[str, Tensor]
"""Random numbers in [0, 1) by what they decide, [B] each."""
_DRAWS = (
    "crop_top", "crop_left", "flip", "hole_row", "hole_column",
    "erase", "area", "aspect", "top", "left", "noise_top", "noise_left",
)  # fmt: skip
# The defaults of timm.data.RandomErasing.
_ERASED_AREA = (0.02, 1 / 3)
_ERASED_ASPECT = (0.3, 1 / 0.3)


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


class BatchAugmentation:
    """Random augmentation of batches: padded crops, flips, random erasing and Cutout.

    All random numbers of an epoch are drawn at once, a row for each image of the data set. So what happens to an image
    is a function of (seed, epoch, index of the image), whatever the batches, the processes and their device.

    Args:
        config: Settings.
        image_size: Height and width of the images.
        statistics: Mean and standard deviation of the channels.
        count: Number of images of the data set.
        device: Device of the batches.
    """

    def __init__(
        self,
        config: TrainConfig,
        image_size: tuple[int, int],
        statistics: Statistics,
        count: int,
        device: torch.device,
    ) -> None:
        self.config = config
        self.image_size = image_size
        self.channels = len(statistics[0])
        self.count = count
        self.device = device
        self.padding = config.crop_padding if config.crop == "pad" else 0
        self.normalise = nn.Sequential(*build_normalisation(statistics))
        self._draws = self._noise = torch.empty(0)

    def start_epoch(self, epoch: int) -> None:
        """Draw the random numbers of an epoch, counted from 0."""
        # On the CPU, so that every device gets the same numbers.
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, "augmentation", epoch))
        self._draws = torch.rand(self.count, len(_DRAWS), generator=generator).to(self.device)
        if self.config.random_erase:
            height, width = self.image_size
            noise = torch.randn(self.channels, 2 * height, 2 * width, generator=generator)
            self._noise = noise.to(self.device)

    def __call__(self, images: Tensor, indices: Tensor) -> Tensor:
        """Augment and normalise images [B, C, H, W], uint8, which have these indices [B] in the data set."""
        rows = self._draws[indices.to(self.device, non_blocking=True)]
        draws = dict(zip(_DRAWS, rows.unbind(1), strict=True))
        if self.padding:
            images = crop_padded(images, self.padding, draws)
        if self.config.flip:
            flipped = draws["flip"] < 0.5
            images = torch.where(flipped[:, None, None, None], images.flip(-1), images)
        augmented: Tensor = self.normalise(images)
        if self.config.random_erase:
            augmented = erase_rectangles(augmented, self.config.random_erase, self._noise, draws)
        if self.config.cutout:
            augmented = cut_squares(augmented, self.config.cutout, draws)
        return augmented


def crop_padded(images: Tensor, padding: int, draws: Draws) -> Tensor:
    """Cut a window of the old size out of each image [B, C, H, W] after zeros were added on all sides."""
    height, width = images.shape[-2:]
    padded = F.pad(images, [padding] * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # views [B, C, 2p + 1, 2p + 1, H, W]
    top, left = (_choose(draws[name], 2 * padding + 1) for name in ("crop_top", "crop_left"))
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def cut_squares(images: Tensor, length: int, draws: Draws) -> Tensor:
    """Set a square of each normalised image to 0, which is the mean (Cutout, arXiv 1708.04552).

    The centre of the square is any pixel of the image, so part of the square may lie outside.
    """
    height, width = images.shape[-2:]
    top = _choose(draws["hole_row"], height) - length // 2
    left = _choose(draws["hole_column"], width) - length // 2
    return images.masked_fill(_mark_rectangles(images, top, left, top + length, left + length), 0)


def erase_rectangles(images: Tensor, probability: float, noise: Tensor, draws: Draws) -> Tensor:
    """Replace a rectangle of some normalised images by noise, as ``timm.data.RandomErasing`` does.

    A rectangle that is too long for the image is cut, where timm draws another one.

    Args:
        images: Images [B, C, H, W].
        probability: Share of the images.
        noise: Numbers [C, 2H, 2W] of the standard normal distribution, of which each image has a random window.
        draws: Random numbers.
    """
    height, width = images.shape[-2:]
    least, most = _ERASED_AREA
    area = (least + (most - least) * draws["area"]) * (height * width)
    low, high = map(math.log, _ERASED_ASPECT)
    aspect = torch.exp(low + (high - low) * draws["aspect"])
    rows = (area * aspect).sqrt().round().clamp(1, max(1, height - 1))
    columns = (area / aspect).sqrt().round().clamp(1, max(1, width - 1))
    top, left = _choose(draws["top"], height - rows + 1), _choose(draws["left"], width - columns + 1)
    marked = _mark_rectangles(images, top, left, top + rows, left + columns)
    marked &= (draws["erase"] < probability)[:, None, None, None]
    windows = noise.unfold(1, height, 1).unfold(2, width, 1)  # views [C, H + 1, W + 1, H, W]
    window = windows[:, _choose(draws["noise_top"], height + 1), _choose(draws["noise_left"], width + 1)]
    return torch.where(marked, window.transpose(0, 1), images)


def _choose(draws: Tensor, count: int | Tensor) -> Tensor:
    """Return whole numbers from 0 to below ``count``."""
    return (draws * count).long()


def _mark_rectangles(images: Tensor, top: Tensor, left: Tensor, bottom: Tensor, right: Tensor) -> Tensor:
    """Return which pixels lie in a rectangle of their image [B, 1, H, W]."""
    row, column = (torch.arange(side, device=images.device) for side in images.shape[-2:])
    rows = (row >= top[:, None]) & (row < bottom[:, None])
    columns = (column >= left[:, None]) & (column < right[:, None])
    return (rows[:, :, None] & columns[:, None, :])[:, None]
