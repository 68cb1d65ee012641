"""Augmentation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import zcpt
from train.augment import BatchAugmentation, build_scoring_transform
from train.images import Statistics
from train.recipe import make_train_config

STATISTICS = ((0.5,), (0.25,))


def augment(images: Tensor, statistics: Statistics = STATISTICS, epoch: int = 0, **options: Any) -> Tensor:
    """Augment images [B, C, H, W], uint8, of a data set of as many."""
    off = {"crop_padding": 0, "flip": False, "cutout": 0}
    config = make_train_config(zcpt.get_space("darts"), "digits", **{**off, **options})
    size = (images.shape[2], images.shape[3])
    augmentation = BatchAugmentation(config, size, statistics, len(images), torch.device("cpu"))
    augmentation.start_epoch(epoch)
    return augmentation(images, torch.arange(len(images)))


def find_box(marked: Tensor) -> tuple[int, int, int, int]:
    """Return top, left, height and width of the marked pixels [H, W], which are a rectangle."""
    rows, columns = (marked.any(axis).nonzero().flatten() for axis in (1, 0))
    height, width = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
    assert marked.sum() == height * width
    return int(rows[0]), int(columns[0]), height, width


def test_nothing_but_normalisation_is_left_when_all_is_off() -> None:
    images = torch.randint(0, 256, (5, 1, 6, 7), dtype=torch.uint8)
    torch.testing.assert_close(augment(images), (images / 255 - 0.5) / 0.25)


def test_cutout_clears_a_square_around_any_pixel_clipped_at_the_border() -> None:
    holes = augment(torch.full((500, 2, 9, 9), 255, dtype=torch.uint8), (((0.5,) * 2), (0.25,) * 2), cutout=4) == 0
    assert torch.equal(holes[:, 0], holes[:, 1])
    boxes = [find_box(hole) for hole in holes[:, 0]]
    assert max(height for _, _, height, _ in boxes) == max(width for *_, width in boxes) == 4
    areas = [height * width for _, _, height, width in boxes]
    assert (min(areas), max(areas)) == (4, 16)  # two by two in a corner
    assert holes[:, 0].any(0).all()


def test_crops_are_all_windows_of_the_padded_image() -> None:
    image = torch.arange(1, 31, dtype=torch.uint8).reshape(1, 1, 5, 6)
    padded = torch.nn.functional.pad(image, [2] * 4)
    windows = {padded[..., y : y + 5, x : x + 6].numpy().tobytes() for y in range(5) for x in range(5)}
    cropped = augment(image.expand(400, -1, -1, -1), ((0.0,), (1.0,)), crop_padding=2) * 255
    assert {view.round().to(torch.uint8).numpy().tobytes() for view in cropped} == windows


def test_half_of_the_images_are_flipped() -> None:
    image = torch.arange(8, dtype=torch.uint8).reshape(1, 1, 2, 4)
    views = augment(image.expand(1000, -1, -1, -1), ((0.0,), (1.0,)), flip=True).mul(255).round()
    is_flipped = (views == image.flip(-1)).all((1, 2, 3))
    assert ((views == image).all((1, 2, 3)) | is_flipped).all()
    assert 430 < is_flipped.sum() < 570


def test_random_erasing_replaces_rectangles_of_some_images_by_noise() -> None:
    images = torch.full((2000, 1, 20, 30), 255, dtype=torch.uint8)
    views = augment(images, random_erase=0.25)[:, 0]
    erased = views != 2
    marked = erased[erased.any((1, 2))]
    assert 420 < len(marked) < 580
    boxes = [find_box(mask) for mask in marked]
    areas = [height * width / 600 for _, _, height, width in boxes]
    assert 0.015 < min(areas) < 0.04
    assert 0.28 < max(areas) < 0.36
    assert abs(sum(areas) / len(areas) - (0.02 + 1 / 3) / 2) < 0.02
    ratios = [height / width for _, _, height, width in boxes]
    assert min(ratios) < 0.4
    assert max(ratios) > 2.5
    assert {top for top, *_ in boxes} >= set(range(16))
    noise = views[erased]
    assert abs(noise.mean()) < 0.1
    assert abs(noise.std() - 1) < 0.1


def test_augmentation_of_an_image_depends_on_seed_epoch_and_index_alone() -> None:
    images = torch.randint(0, 256, (12, 1, 8, 8), dtype=torch.uint8)
    options: dict[str, Any] = {"crop_padding": 2, "flip": True, "cutout": 3, "random_erase": 0.5}
    config = make_train_config(zcpt.get_space("darts"), "digits", **options)
    augmentation = BatchAugmentation(config, (8, 8), STATISTICS, 12, torch.device("cpu"))
    augmentation.start_epoch(3)
    picked = torch.tensor([7, 1, 4])
    assert torch.equal(augmentation(images[picked], picked), augment(images, epoch=3, **options)[picked])
    assert not torch.equal(augment(images, epoch=3, **options), augment(images, epoch=4, **options))
    assert not torch.equal(augment(images, epoch=3, **options), augment(images, epoch=3, seed=1, **options))


def test_scoring_crops_by_an_eighth_flips_and_normalises() -> None:
    torch.manual_seed(0)
    image = torch.arange(1, 65, dtype=torch.uint8).reshape(1, 8, 8)
    transform = build_scoring_transform((8, 8), STATISTICS)
    plain = (image / 255 - 0.5) / 0.25
    seen = [transform(image) for _ in range(200)]
    assert all(view.shape == (1, 8, 8) for view in seen)
    assert any(torch.allclose(view, plain) for view in seen)
    assert any(torch.allclose(view, plain.flip(-1)) for view in seen)
    centres = {round(view[0, 4, 4].item(), 4) for view in seen}
    assert len(centres) == 9 + 9 - 9 + 3  # nine shifts by at most a pixel, four columns with the mirrored ones
