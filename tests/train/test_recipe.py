"""Recipes."""

from __future__ import annotations

from typing import Any

import pytest

import zcpt
from train.data import get_default_recipe
from train.recipe import RECIPES, check_augmentation, make_train_config
from zcpt import ConfigError

DARTS = zcpt.get_space("darts")


def test_cifar_is_the_published_recipe() -> None:
    config = make_train_config(DARTS, "cifar")
    assert (config.epochs, config.batch_size, config.channels, config.layers) == (600, 96, 36, 20)
    assert (config.optimizer, config.lr, config.momentum, config.weight_decay) == ("momentum", 0.025, 0.9, 3e-4)
    assert (config.schedule, config.min_lr, config.clip_grad, config.label_smoothing) == ("cosine", 0.0, 5.0, 0.0)
    assert (config.crop_padding, config.flip, config.cutout) == (4, True, 16)
    assert (config.auxiliary_weight, config.drop_path) == (0.4, 0.2)


def test_width_and_depth_are_the_spaces_own() -> None:
    other = zcpt.get_space("nasbench201")
    assert (make_train_config(other, "cifar").channels, make_train_config(other, "cifar").layers) == (16, 5)
    assert make_train_config(other, "digits").layers < make_train_config(other, "cifar").layers
    assert make_train_config(DARTS, "cifar", layers=8).layers == 8


def test_cifar100_and_svhn_are_trained_as_small_as_published() -> None:
    for dataset in ("cifar100", "svhn"):
        config = make_train_config(DARTS, "cifar", dataset)
        assert (config.channels, config.layers) == (16, 8)
    assert make_train_config(DARTS, "cifar", "folder:x").channels == 36


def test_each_data_set_has_a_recipe() -> None:
    assert get_default_recipe("digits") == "digits"
    assert {get_default_recipe(name) for name in ("cifar10", "svhn", "folder:x")} == {"cifar"}
    assert set(RECIPES) == {"cifar", "digits"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"epochs": 0}, "--epochs 0 is too small"),
        ({"batch_size": 1}, "--batch-size 1 is too small: it must be at least 2"),
        ({"lr": -1.0}, "--lr -1.0 must not be negative"),
        ({"lr": "fast"}, "--lr takes a value of type float, not 'fast'"),
        ({"lr": float("nan")}, "--lr takes a finite number, not nan"),
        ({"drop_path": 1.0}, "--drop-path and --label-smoothing must be below 1"),
        ({"learning_rate": 0.1}, "unknown option of train 'learning_rate'"),
        ({"flip": 1}, "--flip takes a value of type bool"),
        ({"dropout": 1.0}, "--dropout 1.0 must be below 1"),
        ({"test_crop": 0.0}, "--test-crop 0.0 must be above 0 and at most 1"),
        ({"random_erase": 1.5}, "--random-erase 1.5 must be at most 1"),
        ({"hue_jitter": 0.6}, "--hue-jitter 0.6 must be at most 0.5"),
        ({"accumulate": 0}, "--accumulate 0 is too small"),
        ({"epochs": 5, "warmup_epochs": 5}, "--warmup-epochs 5 must be less than --epochs 5"),
        ({"auto_augment": "rand-m9", "color_jitter": 0.4}, "--auto-augment changes colours itself"),
    ],
)
def test_what_cannot_be_used_is_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        make_train_config(DARTS, "cifar", **options)


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown recipe 'cifer': did you mean 'cifar'"):
        make_train_config(DARTS, "cifer")


SIZES = [((32, 32), 4, 16), ((8, 8), 1, 4), ((12, 12), 2, 6), ((64, 96), 8, 32), ((224, 224), 28, 112), ((2, 2), 1, 1)]


@pytest.mark.parametrize(("size", "padding", "cutout"), SIZES)
def test_crops_and_cutout_grow_with_the_images(size: tuple[int, int], padding: int, cutout: int) -> None:
    config = make_train_config(DARTS, "cifar", image_size=size)
    assert (config.crop_padding, config.cutout) == (padding, cutout)
    check_augmentation(config, size)
    given = make_train_config(DARTS, "cifar", image_size=size, cutout=0, crop_padding=1)
    assert (given.crop_padding, given.cutout) == (1, 0)


def test_the_recipe_of_the_digits_is_stated_for_8_pixels() -> None:
    config = make_train_config(DARTS, "digits", image_size=(8, 8))
    assert (config.crop_padding, config.cutout) == (1, 2)


@pytest.mark.parametrize("name", ["cutout", "crop_padding"])
def test_augmentation_that_can_leave_nothing_is_refused(name: str) -> None:
    options: dict[str, Any] = {name: 8}
    config = make_train_config(DARTS, "cifar", image_size=(8, 12), **options)
    with pytest.raises(ConfigError, match="8 can leave nothing of an image of 8x12 pixels: give less than 8, or 0"):
        check_augmentation(config, (8, 12))
