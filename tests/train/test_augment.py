"""Augmentation."""

from __future__ import annotations

import torch

import zcpt
from train.augment import Cutout, build_scoring_transform, build_training_transform
from train.recipe import make_train_config

STATISTICS = ((0.5,), (0.25,))


def test_cutout_clears_a_square_around_any_pixel_clipped_at_the_border() -> None:
    torch.manual_seed(0)
    cutout, image = Cutout(4), torch.ones(2, 9, 9)
    areas, cleared = set(), torch.zeros(9, 9)
    for _ in range(500):
        hole = cutout(image) == 0
        assert torch.equal(hole[0], hole[1])
        rows, columns = hole[0].any(1).nonzero(), hole[0].any(0).nonzero()
        assert hole[0].sum() == len(rows) * len(columns)
        assert rows.max() - rows.min() < 4
        areas.add(int(hole[0].sum()))
        cleared += hole[0]
    assert max(areas) == 16
    assert min(areas) == 4  # two by two in a corner
    assert cleared.min() > 0
    assert image.min() == 1


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


def test_training_augments_as_the_recipe_says() -> None:
    image = torch.full((1, 8, 8), 255, dtype=torch.uint8)
    space = zcpt.get_space("darts")
    off = make_train_config(space, "digits", crop_padding=0, flip=False, cutout=0)
    assert torch.equal(build_training_transform(off, (8, 8), STATISTICS)(image), torch.full((1, 8, 8), 2.0))
    torch.manual_seed(0)
    cut = make_train_config(space, "digits", crop_padding=0, flip=False, cutout=3)
    views = [build_training_transform(cut, (8, 8), STATISTICS)(image) for _ in range(20)]
    assert all(set(view.unique().tolist()) == {0.0, 2.0} for view in views)
    cropped = make_train_config(space, "digits", crop_padding=2, flip=False, cutout=0)
    views = [build_training_transform(cropped, (8, 8), STATISTICS)(image) for _ in range(50)]
    assert min((view == -2).sum() for view in views) == 0
    assert max((view == -2).sum() for view in views) == 64 - 36
