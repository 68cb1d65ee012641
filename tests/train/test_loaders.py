"""Loaders: images that depend on seed and epoch alone, mixtures, and what reaches the device."""

from __future__ import annotations

import multiprocessing
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import zcpt
from tests.conftest import LAYERS
from train.distributed import SINGLE_SHARE, Share
from train.images import ImageSet, InMemoryImages
from train.loaders import Batch, ReadingSource, TestOptions, build_test_loader, build_train_loader
from train.recipe import TrainConfig, make_train_config

CPU = torch.device("cpu")
STATISTICS = ((0.5,), (0.25,))
SPACE = zcpt.get_space("nasbench201")
NAMES = ("images", "targets", "labels")


def make_images(count: int = 21) -> InMemoryImages:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return InMemoryImages(images, torch.arange(count) % 3)


def make_config(workers: int = 0, **options: Any) -> TrainConfig:
    return make_train_config(
        SPACE, "digits", **{"batch_size": 4, "channels": 2, "layers": LAYERS[SPACE.name], "workers": workers, **options}
    )


class ReadImages:
    """The same images, read one by one."""

    def __init__(self, images: InMemoryImages) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index]


def load_epoch(images: ImageSet, config: TrainConfig, epoch: int = 0, share: Share = SINGLE_SHARE) -> list[Batch]:
    return list(build_train_loader(images, STATISTICS, config, (8, 8), 3, CPU, share).load_epoch(epoch))


@pytest.mark.parametrize("options", [{}, {"random_erase": 0.5, "flip": True}, {"mixup": 0.4, "mixup_off_epochs": 5}])
def test_images_of_an_epoch_depend_on_seed_and_epoch_alone(options: dict[str, Any]) -> None:
    """In memory or not, with 0 to 2 workers, by a loader that is kept or new, among 1 to 3 processes."""
    config, images = make_config(batch_size=8, **options), make_images(22)
    kept = build_train_loader(ReadImages(images), STATISTICS, make_config(1, batch_size=8, **options), (8, 8), 3, CPU)
    seen = []
    for epoch in (0, 1, 29):  # mixed last, if at all
        expected = load_epoch(images, config, epoch)
        assert [batch.size for batch in expected] == [8, 8, 6]
        is_mixed = "mixup" in options and epoch < 25
        assert (expected[0].targets.ndim == 2) == is_mixed
        others = [list(kept.load_epoch(epoch))]
        if not is_mixed:
            shares = [
                [load_epoch(images, config, epoch, Share(rank, world)) for rank in range(world)] for world in (2, 3)
            ]
            others += [[join_parts(parts) for parts in zip(*ranks, strict=True)] for ranks in shares]
        for batches in others:
            for one, other in zip(batches, expected, strict=True):
                assert torch.equal(one.images, other.images)
                assert torch.equal(one.targets, other.targets)
        seen.append(torch.cat([batch.images for batch in expected]))
    assert not torch.equal(seen[0], seen[1])


def join_parts(parts: Sequence[Batch]) -> Batch:
    """Join the parts of the processes of a global batch."""
    images, targets, labels = (torch.cat([getattr(part, name) for part in parts]) for name in NAMES)
    return Batch(images, targets, labels, parts[0].size)


def test_every_image_is_loaded_once_an_epoch_in_a_new_order() -> None:
    config = make_config(crop_padding=0, cutout=0, flip=False)
    images = make_images(22)
    plain = (images.images / 255 - 0.5) / 0.25
    orders = []
    for epoch in range(2):
        loaded = torch.cat([batch.images for batch in load_epoch(images, config, epoch)])
        orders.append([(plain - image).abs().amax((1, 2, 3)).argmin().item() for image in loaded])
        torch.testing.assert_close(loaded, plain[orders[-1]])
    assert [sorted(order) for order in orders] == [list(range(22))] * 2
    assert orders[0] != orders[1]


def test_mixed_images_and_targets_are_the_same_mixture() -> None:
    """Images of one colour a class, so that the share of a class can be read off the pixels."""
    pixels = torch.tensor([0, 255]).to(torch.uint8).repeat(9)
    images = InMemoryImages(pixels[:, None, None, None].expand(18, 1, 8, 8).clone(), torch.arange(18) % 2)
    for name in ("mixup", "cutmix"):
        options: dict[str, Any] = {"crop_padding": 0, "cutout": 0, "flip": False, name: 1.0}
        config = make_config(**options)
        shares = []
        for batch in build_train_loader(images, ((0.0,), (1.0,)), config, (8, 8), 2, CPU).load_epoch(0):
            assert torch.equal(batch.labels.sort().values.unique(), torch.tensor([0, 1]))
            torch.testing.assert_close(batch.images.mean((1, 2, 3)), batch.targets[:, 1])
            assert torch.allclose(batch.targets.sum(1), torch.ones(len(batch.labels)))
            shares += batch.targets[:, 1].tolist()
        assert any(0.01 < share < 0.99 for share in shares)


class Noise:
    """Images with the next number of every global generator that a registered data set may use."""

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        values = [random.random(), np.random.rand(), torch.rand(()).item()]
        return torch.tensor(values).mul(255).to(torch.uint8).reshape(1, 1, 3), index % 3


@pytest.mark.parametrize("workers", [0, 2])
def test_random_numbers_of_a_registered_data_set_depend_on_image_and_epoch_alone(workers: int) -> None:
    config = make_config(workers, crop_padding=0, cutout=0)
    kept, fresh = (build_train_loader(Noise(), STATISTICS, config, (1, 3), 3, CPU) for _ in range(2))
    list(kept.load_epoch(0))
    epochs = [torch.cat([batch.images for batch in loader.load_epoch(1)]) for loader in (kept, fresh)]
    assert torch.equal(*epochs)
    assert len(epochs[0].unique()) > 20
    assert not torch.equal(epochs[0], torch.cat([batch.images for batch in kept.load_epoch(2)]))


def test_workers_live_for_all_epochs() -> None:
    images = ReadImages(make_images())
    train = build_train_loader(images, STATISTICS, make_config(2), (8, 8), 3, CPU)
    test = build_test_loader(images, STATISTICS, make_config(2), (8, 8), CPU)
    pids = []
    for epoch in range(2):
        _ = list(train.load_epoch(epoch)), list(test.load_epoch(epoch))
        pids.append({process.pid for process in multiprocessing.active_children()})
    assert pids[0] == pids[1]
    assert len(pids[0]) >= 4  # two for training and two for test images
    assert train.wait_seconds > 0


@pytest.mark.parametrize("workers", [0, 1])
def test_the_order_of_test_images_is_that_of_the_set_whatever_the_number_of_processes(workers: int) -> None:
    images = make_images(10)
    for world in (1, 3):
        loaders = [
            build_test_loader(ReadImages(images), STATISTICS, TestOptions(4, workers), (8, 8), CPU, Share(rank, world))
            for rank in range(world)
        ]
        batches = [batch for loader in loaders for batch in loader.load_epoch(0)]
        torch.testing.assert_close(torch.cat([batch.images for batch in batches]), (images.images / 255 - 0.5) / 0.25)
        assert torch.cat([batch.labels for batch in batches]).tolist() == images.labels
    assert list(build_test_loader(images, STATISTICS, TestOptions(), (8, 8), CPU, Share(0, 11)).load_epoch(0)) == []


def test_loaders_leave_the_global_generators_alone() -> None:
    config = make_config(1, mixup=0.2)
    expected = []
    for is_used in (False, True):
        torch.manual_seed(0), np.random.seed(0), random.seed(0)
        if is_used:
            for images in (make_images(), ReadImages(make_images())):
                load_epoch(images, config)
                list(build_test_loader(images, STATISTICS, TestOptions(4, 1), (8, 8), CPU).load_epoch(0))
        expected.append((torch.rand(()).item(), np.random.rand(), random.random()))
    assert expected[0] == expected[1]


class Copied:
    """Stands for a tensor in pinned memory, and records how it is copied."""

    def __init__(self) -> None:
        self.copies: list[dict[str, Any]] = []

    def to(self, device: object, **options: Any) -> Copied:
        self.copies.append(options)
        return self


def test_images_that_are_read_are_pinned_for_a_gpu_and_copied_without_waiting() -> None:
    source = ReadingSource(make_images(), 0, 0, torch.device("cuda:0"))
    assert source.loader.pin_memory
    batch: Any = Copied(), Copied()
    source.loader = [batch]  # type: ignore[assignment]  # stands for the loader
    list(source.load([], 0))
    assert all(tensor.copies == [{"non_blocking": True}] for tensor in batch)
