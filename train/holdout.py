"""Parts of the training images: those kept back, to choose by images not trained on, and a sample to train on."""

from __future__ import annotations

import torch

from train.images import ImageSet, select_images
from zcpt.seeding import derive_seed


def split_holdout(images: ImageSet, share: float, seed: int) -> tuple[ImageSet, ImageSet | None]:
    """Split images at random into those to train on and those that are kept back; None if ``share`` is 0."""
    if not share:
        return images, None
    generator = torch.Generator().manual_seed(derive_seed(seed, "holdout"))
    order = torch.randperm(len(images), generator=generator)
    count = max(1, round(share * len(images)))
    kept_back, trained = (sorted(part.tolist()) for part in (order[:count], order[count:]))
    return select_images(images, trained), select_images(images, kept_back)


def draw_samples(images: ImageSet, share: float, seed: int) -> ImageSet:
    """Draw a share of the images, at least one, in their order; all of them if ``share`` is 1."""
    if share == 1:
        return images
    generator = torch.Generator().manual_seed(derive_seed(seed, "samples"))
    order = torch.randperm(len(images), generator=generator)
    return select_images(images, sorted(order[: max(1, round(share * len(images)))].tolist()))
