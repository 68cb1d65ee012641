"""Recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import zcpt
from train.data import choose_recipe, get_named_recipe, load_data
from train.recipe import (
    TrainConfig,
    check_augmentation,
    list_recipes,
    make_train_config,
    read_recipe,
    suggest_recipe,
)
from zcpt import ConfigError

RECIPES = Path(__file__).parents[2] / "train" / "recipes"
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


def test_the_recipe_follows_from_the_images() -> None:
    assert {name: get_named_recipe(name) for name in ("digits", "cifar10", "svhn", "folder:x")} == {
        "digits": "digits",
        "cifar10": "cifar",
        "svhn": "cifar",
        "folder:x": "",
    }
    assert choose_recipe(load_data("digits")) == "digits"
    sizes = [(8, 8), (32, 32), (28, 40), (64, 64), (224, 320)]
    assert [suggest_recipe(size) for size in sizes] == ["digits", "cifar-fast", "cifar-fast", "imagenet", "imagenet"]


def test_imagenet_is_the_published_recipe() -> None:
    config = make_train_config(DARTS, "imagenet")
    assert (config.epochs, config.batch_size, config.channels, config.layers) == (250, 128, 48, 14)
    assert (config.optimizer, config.lr, config.momentum, config.weight_decay) == ("momentum", 0.1, 0.9, 3e-5)
    assert (config.schedule, config.decay_epochs, config.decay_rate, config.schedule_per) == ("step", 1, 0.97, "epoch")
    assert (config.clip_grad, config.label_smoothing, config.auxiliary_weight) == (5.0, 0.1, 0.4)
    assert (config.crop, config.color_jitter, config.hue_jitter, config.test_crop) == ("resized", 0.4, 0.2, 0.875)
    assert (config.drop_path, config.cutout, config.auxiliary_norm, config.decay_all) == (0.0, 0, False, True)
    assert make_train_config(zcpt.get_space("nasbench201"), "imagenet").channels == 16  # has no size for ImageNet


@pytest.mark.parametrize("name", list_recipes())
def test_each_recipe_states_its_source_beside_its_values(name: str) -> None:
    path = RECIPES / f"{name}.yaml"
    recipe = read_recipe(name)
    assert recipe.summary
    assert recipe.cost
    if name not in ("cifar", "digits"):  # the defaults are those of cifar
        assert {"epochs", "batch_size", "lr", "schedule", "cutout", "weight_decay"} <= set(recipe.values)
    assert read_recipe(str(path)) == recipe
    assert path.read_text().startswith("# ")
    for image_size in (None, (32, 32), (224, 224)):
        assert make_train_config(DARTS, name, image_size=image_size).recipe == name


def test_cifar_states_the_defaults() -> None:
    values = read_recipe("cifar").values
    assert TrainConfig(**values) == TrainConfig()
    assert len(values) > 20


def test_phases_are_shortened_with_the_epochs() -> None:
    config = make_train_config(DARTS, "imagenet-large-batch", epochs=50)
    assert (config.warmup_epochs, config.slow_epochs) == (1, 1)
    assert make_train_config(DARTS, "imagenet-large-batch", epochs=1).warmup_epochs == 0
    assert make_train_config(DARTS, "imagenet-large-batch", epochs=50, warmup_epochs=3).warmup_epochs == 3


def test_a_file_of_the_user_is_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("summary: my own\nimage_side: 16\nvalues: {epochs: 7, cutout: 4, lr: 1}\n")
    config = make_train_config(DARTS, str(path), image_size=(32, 32))
    assert (config.recipe, config.epochs, config.cutout, config.lr, config.batch_size) == ("mine", 7, 8, 1, 96)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("epochs: 7", "is no recipe: it must have the key 'values'"),
        ("values: {epoch: 7}", "unknown setting 'epoch': did you mean 'epochs'"),
        ("values: {epochs: many}", "--epochs takes a value of type int, not 'many'"),
        ("values: {}\nimageside: 8", "unknown key 'imageside': did you mean 'image_side'"),
        ("values: {}\nimage_side: big", "'image_side' takes a value of type int, not 'big'"),
        ("values: {}\nsize: huge", "size must be search, train, small, imagenet"),
        ("values: [", "is damaged"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=f"mine.yaml.*{complaint}"):
        read_recipe(str(tmp_path / "mine.yaml"))


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
