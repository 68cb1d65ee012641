"""DataLoaders of training and test images, with worker processes that live as long as the loader."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, Subset, get_worker_info
from torchvision.transforms import v2

from train.augment import build_normalisation, build_training_transform
from train.distributed import SINGLE_SHARE, Share
from train.images import ImageSet, Statistics, TransformedImages
from train.recipe import TrainConfig
from zcpt.devices import move_images
from zcpt.errors import LostError, ZcptError
from zcpt.seeding import derive_seed

LabelledImages = tuple[Tensor, Tensor]
"""Images [B, C, H, W] and labels [B]."""


@dataclass(frozen=True)
class Batch:
    """This process's part of a global batch, on the device."""

    images: Tensor
    """Normalised images [b, C, H, W]."""
    targets: Tensor
    """What the loss compares with: classes [b], int64; or [b, classes], float, if images are mixed."""
    labels: Tensor
    """True classes [b], int64."""
    size: int
    """Number of images of the global batch."""


class EpochLoader(Protocol):
    """Loader of the images of an epoch. The images and their order are functions of the seed and the epoch alone."""

    wait_seconds: float
    """Seconds that the consumer has waited for images, from the first epoch on."""

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""

    def load_epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield this process's parts of all batches of an epoch, counted from 0.

        Training images are cut by ``Share``. Of N test images process r has the consecutive ones that
        ``Share.find_part(N)`` names, so that results gathered by rank are in order; it may have none.
        """


class EpochSampler(Sampler[tuple[int, int]]):
    """Shuffled order of an epoch, as (seed of the workers, index of the image).

    Order and seed depend on (seed, epoch) alone. The numbers are those of a ``DataLoader(shuffle=True)`` that is made
    anew for each epoch, which trainings used before workers were kept.

    Args:
        size: Number of images.
        seed: Seed of the training.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.epoch = 0
        """Epoch whose order comes next; set it before each iteration."""

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
        # A DataLoader draws the seed of its workers first, and then the order, from its generator.
        worker_seed = int(torch.empty((), dtype=torch.int64).random_(generator=generator))
        for index in torch.randperm(self.size, generator=generator).tolist():
            yield worker_seed, index


class EpochImages(Dataset[tuple[Tensor, int]]):
    """Augmented images, indexed by the pairs of ``EpochSampler``.

    At the first image of an epoch, a kept worker process seeds its generators as a new one would. So augmentation does
    not depend on earlier epochs, and a resumed training uses the same images. Without workers the main process
    augments; it seeds its own generator at the start of an epoch.
    """

    def __init__(self, images: TransformedImages) -> None:
        self.images = images
        self._worker_seed: int | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, int]:
        worker_seed, index = item
        worker = get_worker_info()
        if worker is not None and worker_seed != self._worker_seed:
            self._worker_seed = worker_seed
            seed = worker_seed + worker.id
            random.seed(seed)
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # for registered data sets that use the global generator
        return self.images[index]


class _DataLoaderEpochs:
    """``EpochLoader`` of a DataLoader of global batches.

    Args:
        loader: DataLoader.
        count: Number of global batches of an epoch.
        device: Device of the batches.
        share: Part of this process in each batch.
    """

    def __init__(self, loader: DataLoader[Any], count: int, device: torch.device, share: Share) -> None:
        self.loader = loader
        self.count = count
        self.device = device
        self.share = share
        self.wait_seconds = 0.0

    def __len__(self) -> int:
        return self.count

    def load_epoch(self, epoch: int) -> Iterator[Batch]:
        if isinstance(self.loader.sampler, EpochSampler):
            self.loader.sampler.epoch = epoch
        batches = load_batches(self.loader, self.device, channels_last=False)
        for _ in range(self.count):
            start = time.perf_counter()
            images, labels = next(batches)
            part = self.share.find_part(len(labels))
            own = slice(part.start, part.stop)
            self.wait_seconds += time.perf_counter() - start
            yield Batch(images[own], labels[own], labels[own], len(labels))


def build_train_loader(
    images: ImageSet,
    statistics: Statistics,
    config: TrainConfig,
    image_size: tuple[int, int],
    num_classes: int,
    device: torch.device,
    share: Share = SINGLE_SHARE,
) -> EpochLoader:
    """Build the loader of shuffled and augmented training images."""
    transform = build_training_transform(config, image_size, statistics)
    loader = DataLoader(
        EpochImages(TransformedImages(images, transform)),
        config.batch_size,
        sampler=EpochSampler(len(images), config.seed),
        **_make_loader_options(config.workers, device),
    )
    return _DataLoaderEpochs(loader, share.count_batches(len(images), config.batch_size), device, share)


@dataclass(frozen=True)
class TestOptions:
    """Settings of a loader of test images where there is no ``TrainConfig``, which has them too."""

    __test__ = False  # of pytest, which would take it for a test

    batch_size: int = 256
    workers: int = 0


def build_test_loader(
    images: ImageSet,
    statistics: Statistics,
    options: TestOptions | TrainConfig,
    image_size: tuple[int, int],
    device: torch.device,
    share: Share = SINGLE_SHARE,
) -> EpochLoader:
    """Build the loader of test images: in order, and normalised."""
    transform = v2.Compose(build_normalisation(statistics))
    part = Subset(TransformedImages(images, transform), share.find_part(len(images)))
    loader: DataLoader[Any] = DataLoader(part, options.batch_size, **_make_loader_options(options.workers, device))
    return _DataLoaderEpochs(loader, len(loader), device, SINGLE_SHARE)


def _make_loader_options(workers: int, device: torch.device) -> dict[str, Any]:
    return {
        "num_workers": workers,
        "persistent_workers": workers > 0,
        "pin_memory": device.type == "cuda",
        # A loader draws a seed for its workers. Without a generator of its own it would advance torch's global one.
        "generator": torch.Generator(),
    }


def load_batches(loader: DataLoader[Any], device: torch.device, channels_last: bool) -> Iterator[LabelledImages]:
    """Yield all batches of a loader, moved to the device.

    Raises:
        LostError: A worker process was killed.
        ZcptError: An image cannot be used.
    """
    for images, labels in _name_errors(loader):
        # From pinned memory the copies run while the device computes; from other memory non_blocking has no effect.
        moved = images.to(device, non_blocking=True)
        yield move_images(moved, device, channels_last), labels.to(device, non_blocking=True)


def _name_errors(loader: DataLoader[Any]) -> Iterator[LabelledImages]:
    """Yield the batches, and raise the errors of worker processes as what they are."""
    try:
        yield from loader
    except ZcptError as error:
        # torch puts the traceback of the worker into the message; its last line is "module.DataError: the message".
        lines = str(error).strip().splitlines()
        if len(lines) < 2 or "in DataLoader worker process" not in lines[0]:
            raise
        raise type(error)(lines[-1].partition(": ")[2]) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error) or "Caught " in str(error):
            raise
        raise LostError(
            "a process that reads images was killed, perhaps because memory ran out: close other programs, or train "
            "with fewer --workers or a smaller --batch-size. All finished epochs are on disk."
        ) from error
