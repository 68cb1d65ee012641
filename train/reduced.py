"""Reduced trainings: fewer channels, pixels, images and epochs, to compare architectures by short trainings (EcoNAS).

A recipe with a share of the width or of the resolution is a reduced setting; ``train/recipes`` has published ones.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from train.checkpoint import save_checkpoint
from train.data import ImageData, choose_recipe
from train.holdout import draw_samples, split_holdout
from train.images import ImageSet, Statistics, load_into_memory
from train.loop import DivergenceError, Trainer, keep_random_state
from train.recipe import Recipe, TrainConfig, choose_width_depth, make_train_config, read_recipe, reduce_channels
from zcpt.architecture import Architecture
from zcpt.devices import resolve_device, use_standard_settings
from zcpt.errors import ConfigError
from zcpt.space import SearchSpace

MIN_SIDE = 8
"""Smallest height and width to which a recipe reduces images: the smallest ones that were published."""
_STATED_IMAGES = 50_000
"""Training images for which the batch sizes of reduced recipes are stated: those of CIFAR-10."""
_MIN_BATCH = 32
"""Smallest batch that follows from fewer images."""


def limit_image_size(data: ImageData, recipe: Recipe) -> ImageData:
    """Return the data with images as large as the recipe says; never smaller than ``MIN_SIDE`` by its resolution."""
    side = recipe.image_size
    if side and min(data.image_shape[1:]) > side:
        data = data.resize((side, side))
    if recipe.resolution < 1:
        height, width = data.image_shape[1:]
        share = max(recipe.resolution, min(1.0, MIN_SIDE / min(height, width)))
        if share < 1:
            data = data.resize((round(share * height), round(share * width)))
    return data


def reduce_settings(space: SearchSpace, data: ImageData, recipe: Recipe) -> dict[str, Any]:
    """Return the settings of a reduced recipe that follow from the data set; nothing for other recipes.

    Width and depth are those that the data set's own recipe has, times the recipe's share of the channels. Images which
    that recipe does not flip, such as digits, are not flipped. Where there are fewer images than in CIFAR-10, a batch
    has fewer too, so that an epoch keeps its number of updates.

    Args:
        space: Space of the networks.
        data: Data set, at its full resolution.
        recipe: Recipe.
    """
    if not recipe.is_reduced:
        return {}
    settings: dict[str, Any] = {}
    usual = read_recipe(choose_recipe(data))
    if recipe.size == "usual":
        size = choose_width_depth(space, usual, data.name)
        settings |= {"channels": reduce_channels(size.channels, recipe), "layers": size.layers}
    if usual.values.get("flip") is False:
        settings["flip"] = False
    stated = recipe.values.get("batch_size")
    if stated:
        share = min(1.0, len(data.train) / _STATED_IMAGES)
        settings["batch_size"] = min(stated, max(_MIN_BATCH, round(share * stated)))
    return settings


@dataclass(frozen=True)
class Outcome:
    """Outcome of a short training."""

    value: float
    """Top-1 accuracy in percent on the training images kept back; nan if the loss did not stay finite."""
    report: Mapping[str, float]
    """Accuracy and loss on the training images in the last epoch, and the number of epochs."""
    seconds: float


@dataclass(frozen=True)
class ReducedTraining:
    """Short trainings that measure architectures by training images kept back; test images are never read.

    All trainings have the same images, and the same ones are kept back. ``prepare_training`` makes one. It can be sent
    to other processes.
    """

    name: str
    """'train:' with the name of the recipe."""
    space: SearchSpace
    config: TrainConfig
    images: ImageSet
    """Images that are trained on."""
    held_back: ImageSet
    """Images that measure."""
    classes: tuple[str, ...]
    statistics: Statistics
    data_name: str
    device: str = "cpu"

    def measure(self, architecture: Architecture, seed: int = 0) -> Outcome:
        """Train a network for all epochs, and measure it on the images kept back.

        Args:
            architecture: Architecture.
            seed: Seed of weights, order and augmentation.
        """
        return self._train(architecture, seed, self.config.epochs)

    def measure_share(
        self, architecture: Architecture, seed: int, share: float, checkpoint: Path | None = None
    ) -> Outcome:
        """Train a network for a share of the epochs, and measure it.

        A checkpoint only saves time: weights, momentum and learning rates go on from it, so the outcome is the same as
        without it.

        Args:
            architecture: Architecture.
            seed: Seed, as in ``measure``.
            share: Share of the epochs of the whole training.
            checkpoint: File of an earlier share of this training, which is replaced; if it is missing, or does not fit,
                the training begins anew.

        Raises:
            ZcptError: The architecture is of another space, or the checkpoint cannot be written.
        """
        return self._train(architecture, seed, max(1, round(share * self.config.epochs)), checkpoint)

    @use_standard_settings()
    def _train(self, architecture: Architecture, seed: int, epochs: int, checkpoint: Path | None = None) -> Outcome:
        start, device = time.perf_counter(), resolve_device(self.device)
        trainer = self._build_trainer(architecture, seed, device)
        if checkpoint is not None and checkpoint.exists() and not _load_checkpoint(trainer, checkpoint, epochs):
            trainer = self._build_trainer(architecture, seed, device)
        try:
            with keep_random_state(device):
                while trainer.epoch < epochs:
                    trainer.run_epoch(measure=False)
        except DivergenceError:
            return Outcome(float("nan"), {"epochs": float(trainer.epoch)}, time.perf_counter() - start)
        if checkpoint is not None:
            save_checkpoint(checkpoint, trainer.state_dict())
        measured, last = trainer.evaluate(trainer.test_loader), trainer.history[-1]
        report = {name: float(last[name]) for name in ("train_accuracy", "train_loss")}
        return Outcome(measured.accuracy, {**report, "epochs": float(trainer.epoch)}, time.perf_counter() - start)

    def _build_trainer(self, architecture: Architecture, seed: int, device: torch.device) -> Trainer:
        return Trainer(self.space, architecture, self._make_data(), replace(self.config, seed=seed), device)

    def _make_data(self) -> ImageData:
        """Return the images as a trainer takes them; its test images are those kept back."""
        return ImageData(
            self.classes,
            lambda train: self.images if train else self.held_back,
            self.data_name,
            known_statistics=self.statistics,
        )

    def describe(self) -> dict[str, Any]:
        """Return what the outcomes depend on, for a run folder."""
        return {
            "value": self.name,
            "channels": self.config.channels,
            "layers": self.config.layers,
            "epochs": self.config.epochs,
            "batch_size": self.config.batch_size,
            "image_size": list(self.images[0][0].shape[-2:]),
            "trained_images": len(self.images),
            "held_back_images": len(self.held_back),
            "data": self.data_name,
        }


def _load_checkpoint(trainer: Trainer, path: Path, epochs: int) -> bool:
    """Continue from a checkpoint of at most so many epochs; return False if it cannot be used."""
    try:
        trainer.load_checkpoint(path)
    except ConfigError:
        return False
    return trainer.epoch <= epochs


def prepare_training(
    space: SearchSpace,
    data: ImageData,
    recipe: str | Recipe = "econas",
    *,
    device: str | torch.device = "cpu",
    seed: int = 0,
    **options: Any,
) -> ReducedTraining:
    """Prepare short trainings by a recipe: bring images to its resolution, and keep some of them back.

    Args:
        space: Space of the architectures.
        data: Data set, of which only training images are read.
        recipe: Recipe, its name or its file; any one works, not only reduced ones.
        device: Device to train on.
        seed: Seed of which images are kept back, and of the sample that is trained on.
        options: Fields of ``TrainConfig``, which take precedence.

    Raises:
        ConfigError: The recipe keeps no images back, or a setting is wrong.
    """
    name, recipe = (recipe, read_recipe(recipe)) if isinstance(recipe, str) else (recipe.name, recipe)
    settings = reduce_settings(space, data, recipe) | options
    data = limit_image_size(data, recipe)
    config = make_train_config(space, recipe, data.name, data.image_shape[1:], **settings)
    if not config.holdout:
        raise ConfigError(
            f"recipe {recipe.name} keeps no training images back, which short trainings are measured on: give it a "
            "'holdout', such as 0.2."
        )
    trained, held_back = split_holdout(load_into_memory(data.train), config.holdout, seed)
    assert held_back is not None
    return ReducedTraining(
        f"train:{name}",
        space,
        replace(config, holdout=0.0, samples=1.0),
        draw_samples(trained, config.samples, seed),
        held_back,
        data.classes,
        data.statistics,
        data.name,
        str(device),
    )
