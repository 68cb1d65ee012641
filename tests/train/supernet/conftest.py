"""Small data for the training of supernets."""

from __future__ import annotations

import pytest
import torch

from train.data import ImageData
from train.images import InMemoryImages


def make_pictures(count: int = 20, classes: int = 10) -> ImageData:
    """Return random RGB pictures of 8x8 pixels; asking for test images is an error."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    part = InMemoryImages(images, torch.arange(count) % classes)

    def load(train: bool) -> InMemoryImages:
        assert train, "test images are never read"
        return part

    names = tuple("abcdefghij"[:classes])
    return ImageData(names, load, "cifar10", known_statistics=((0.5,) * 3, (0.25,) * 3))


@pytest.fixture(scope="session")
def random_pictures() -> ImageData:
    return make_pictures()
