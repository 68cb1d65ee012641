"""Random transforms of single pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zcpt
from train.folder import FolderImages
from train.images import ImageSet, InMemoryImages, Statistics, select_images
from train.loaders import EpochLoader, TestOptions, build_test_loader, build_train_loader
from train.pictures import View
from train.recipe import make_train_config
from zcpt import ConfigError

CPU = torch.device("cpu")
RGB = ((0.0,) * 3, (1.0,) * 3)


def build_loader(images: ImageSet, statistics: Statistics = RGB, **options: Any) -> EpochLoader:
    off: dict[str, Any] = {"crop": "none", "flip": False, "cutout": 0, "batch_size": 4}
    config = make_train_config(zcpt.get_space("nasbench201"), "digits", **{**off, **options})
    return build_train_loader(images, statistics, config, (8, 8), 2, CPU)


def load(loader: EpochLoader, epoch: int = 0) -> torch.Tensor:
    return torch.cat([batch.images for batch in loader.load_epoch(epoch)])


@pytest.fixture
def pictures(tmp_path: Path) -> FolderImages:
    """Twelve pictures of 16x48: red on the left, green in the middle, blue on the right."""
    pixels = np.zeros((16, 48, 3), np.uint8)
    for channel in range(3):
        pixels[:, 16 * channel : 16 * (channel + 1), channel] = 255
    for index in range(12):
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    return FolderImages([(str(tmp_path / f"{index}.png"), index % 2) for index in range(12)], View((8, 8)))


def test_resized_crops_are_of_the_whole_picture(pictures: FolderImages) -> None:
    centre = load(build_loader(pictures))[0].mean((1, 2))
    assert centre[1] > 0.9
    assert centre.sum() < 1.1
    resized = load(build_loader(pictures, crop="resized"))
    assert resized.shape == (12, 3, 8, 8)
    assert all(resized[:, channel].max() > 0.9 for channel in range(3))
    assert len({image.numpy().tobytes() for image in resized}) > 3
    # The largest crop of a long picture has the aspect 4/3, at the centre.
    whole = load(build_loader(pictures, crop="resized", crop_scale=1.0))
    assert all(torch.equal(image, whole[0]) for image in whole)
    assert whole[0, 0].max() > 0


@pytest.mark.parametrize(
    "options",
    [
        {"crop": "resized"},
        {"crop": "resized", "interpolation": "bicubic"},
        {"color_jitter": 0.4},
        {"hue_jitter": 0.2},
        {"auto_augment": "rand-m9-mstd0.5"},
        {"auto_augment": "augmix-m3-w3", "crop": "resized"},
    ],
)
def test_transforms_depend_on_seed_epoch_and_image_alone(pictures: FolderImages, options: dict[str, Any]) -> None:
    kept = build_loader(pictures, workers=2, **options)
    batches = load(kept, 3)
    assert torch.equal(batches, load(build_loader(pictures, **options), 3))
    assert not torch.equal(batches, load(kept, 4))
    assert not torch.equal(batches, load(build_loader(pictures), 3))
    part = build_loader(select_images(pictures, range(6)), **options)
    assert len(load(part, 3)) == 6


@pytest.mark.parametrize("channels", [1, 3])
def test_images_in_memory_are_transformed_too(channels: int) -> None:
    pixels = torch.randint(0, 256, (8, channels, 8, 8), dtype=torch.uint8)
    statistics = ((0.5,) * channels, (0.25,) * channels)
    images = InMemoryImages(pixels, torch.arange(8) % 2)
    for options in ({"crop": "resized"}, {"auto_augment": "rand-m9"}, {"color_jitter": 0.4, "crop": "pad"}):
        assert load(build_loader(images, statistics, **options)).shape == (8, channels, 8, 8)


@pytest.mark.parametrize("spelling", ["rand-x9", "rand-m9-foo1", "fancy"])
def test_a_spelling_that_timm_does_not_know_is_refused(spelling: str, pictures: FolderImages) -> None:
    with pytest.raises(ConfigError, match=f"--auto-augment {spelling} cannot be understood by timm"):
        build_loader(pictures, auto_augment=spelling)


def test_images_of_other_channels_are_refused() -> None:
    images = InMemoryImages(torch.zeros(4, 2, 8, 8, dtype=torch.uint8), torch.zeros(4))
    with pytest.raises(ConfigError, match="for pictures of 1 or 3 channels: turn them off for images of 2"):
        build_loader(images, ((0.5,) * 2, (0.25,) * 2), crop="resized")


@pytest.mark.parametrize("crop", [1.0, 0.5])
def test_the_test_crop_is_the_centre_of_a_larger_picture(pictures: FolderImages, crop: float) -> None:
    options = TestOptions(5, test_crop=crop, interpolation="bicubic")
    batches = list(build_test_loader(pictures, RGB, options, (8, 8), CPU).load_epoch(0))
    assert [len(batch.labels) for batch in batches] == [5, 5, 2]
    view = View((8, 8), crop, "bicubic")
    expected = torch.stack([pictures.change_view(view)[index][0] for index in range(12)]) / 255
    torch.testing.assert_close(torch.cat([batch.images for batch in batches]), expected)


def test_selected_images_are_read_resized_and_decoded_as_the_whole_set(pictures: FolderImages) -> None:
    chosen: Sequence[int] = [7, 2, 9]
    part = select_images(pictures, chosen)
    loaded = select_images(pictures.decode_all(), chosen)
    assert isinstance(loaded, InMemoryImages)
    assert [part[i][1] for i in range(3)] == [loaded[i][1] for i in range(3)] == [1, 0, 1]
    assert all(torch.equal(part[i][0], loaded[i][0]) for i in range(3))
    (images,) = [batch.images for batch in build_test_loader(part, RGB, TestOptions(), (6, 4), CPU).load_epoch(0)]
    assert images.shape == (3, 3, 6, 4)
