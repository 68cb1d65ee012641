"""Loaders: fresh-worker augmentation in kept workers, and what reaches the device."""

from __future__ import annotations

import multiprocessing
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

import zcpt
from tests.conftest import LAYERS, random_architecture
from train.augment import build_training_transform
from train.data import ImageData
from train.images import InMemoryImages, TransformedImages
from train.loaders import TestOptions, build_test_loader, build_train_loader, load_batches
from train.loop import Trainer
from train.recipe import TrainConfig, make_train_config
from zcpt.seeding import derive_seed

CPU = torch.device("cpu")
STATISTICS = ((0.5,), (0.25,))
SPACE = zcpt.get_space("nasbench201")


def make_images(count: int = 21) -> InMemoryImages:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return InMemoryImages(images, torch.arange(count) % 3)


def make_config(workers: int = 0, **options: Any) -> TrainConfig:
    return make_train_config(
        SPACE, "digits", **{"batch_size": 4, "channels": 2, "layers": LAYERS[SPACE.name], "workers": workers, **options}
    )


def make_trainer(config: TrainConfig) -> Trainer:
    data = ImageData(("a", "b", "c"), lambda train: make_images(21 if train else 10), "random", None, STATISTICS)
    return Trainer(SPACE, random_architecture(SPACE, 0), data, config, CPU)


def load_epoch_with_new_loader(config: TrainConfig, epoch: int) -> list[list[Tensor]]:
    """Load an epoch as before workers were kept: by a loader that is made for this epoch."""
    transform = build_training_transform(config, (8, 8), STATISTICS)
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "order", epoch))
    loader = DataLoader(
        TransformedImages(make_images(), transform),
        config.batch_size,
        shuffle=True,
        num_workers=config.workers,
        drop_last=True,  # the last batch has one image
        generator=generator,
    )
    return list(loader)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_order_and_augmentation_are_those_of_a_loader_made_for_each_epoch(workers: int) -> None:
    config = make_config(workers)
    trainer = make_trainer(config)
    for epoch in (0, 1, 2, 1):
        trainer.history = [{}] * epoch
        torch.manual_seed(epoch)
        batches = list(trainer.load_train_batches())
        torch.manual_seed(epoch)
        expected = load_epoch_with_new_loader(config, epoch)
        assert len(batches) == len(expected) == 5
        for batch, (expected_images, expected_labels) in zip(batches, expected, strict=True):
            assert torch.equal(batch.images, expected_images)
            assert torch.equal(batch.labels, expected_labels)


class Noise(InMemoryImages):
    """Images with the next number of every global generator that a registered data set may use."""

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        values = [random.random(), np.random.rand(), torch.rand(()).item()]
        return torch.tensor(values).mul(255).to(torch.uint8).reshape(1, 1, 3).expand(1, 3, 3), index


@pytest.mark.parametrize("workers", [1, 2])
def test_kept_workers_draw_the_numbers_that_fresh_ones_draw(workers: int) -> None:
    config = make_config(workers, crop_padding=0, cutout=0)
    noise = Noise(torch.empty(9), torch.empty(9))
    kept, fresh = (build_train_loader(noise, STATISTICS, config, (1, 3), 10, CPU) for _ in range(2))
    list(kept.load_epoch(0))
    epochs = [torch.cat([batch.images for batch in loader.load_epoch(1)]) for loader in (kept, fresh)]
    assert torch.equal(*epochs)
    assert not torch.equal(epochs[0], torch.cat([batch.images for batch in kept.load_epoch(2)]))


def test_workers_live_for_all_epochs() -> None:
    trainer = make_trainer(make_config(2))
    trainer.run_epoch()
    children = {process.pid for process in multiprocessing.active_children()}
    trainer.run_epoch()
    assert {process.pid for process in multiprocessing.active_children()} == children
    assert len(children) >= 4  # two for training and two for test images


def test_the_order_of_test_images_is_that_of_the_set() -> None:
    images = make_images(10)
    for workers in (0, 2):
        batches = build_test_loader(images, STATISTICS, TestOptions(4, workers), (8, 8), CPU).load_epoch(0)
        assert torch.cat([batch.labels for batch in batches]).tolist() == images.labels


def test_loaders_leave_the_global_generator_alone() -> None:
    config = make_config(1, crop_padding=0, cutout=0, flip=False)
    torch.manual_seed(0)
    expected = torch.rand(())
    torch.manual_seed(0)
    list(build_train_loader(make_images(), STATISTICS, config, (8, 8), 3, CPU).load_epoch(0))
    list(build_test_loader(make_images(), STATISTICS, TestOptions(4, 1), (8, 8), CPU).load_epoch(0))
    assert torch.equal(torch.rand(()), expected)


class Copied:
    """Stands for a tensor in pinned memory, and records how it is copied."""

    def __init__(self) -> None:
        self.copies: list[dict[str, Any]] = []

    def to(self, device: object, **options: Any) -> Copied:
        self.copies.append(options)
        return self


@pytest.mark.parametrize("kind", ["train", "test"])
def test_batches_are_pinned_for_a_gpu_and_copied_without_waiting(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda:0")
    images = make_images()
    if kind == "train":
        loader = build_train_loader(images, STATISTICS, make_config(), (8, 8), 3, gpu)
    else:
        loader = build_test_loader(images, STATISTICS, TestOptions(4), (8, 8), gpu)
    assert loader.loader.pin_memory  # type: ignore[attr-defined]
    batch: Any = Copied(), Copied()
    list(load_batches([batch], gpu, channels_last=True))  # type: ignore[arg-type]  # stands for the loader
    assert all(tensor.copies[0] == {"non_blocking": True} for tensor in batch)
