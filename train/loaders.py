"""Loaders of training and test images: where images come from, in which order, and how they are augmented."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from timm.data import Mixup
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from train.augment import BatchAugmentation, build_normalisation
from train.distributed import SINGLE_SHARE, Share
from train.images import ImageSet, InMemoryImages, Statistics, change_view, load_into_memory
from train.pictures import View
from train.recipe import TrainConfig
from train.transforms import TransformedPictures, has_picture_transforms
from zcpt.errors import LostError, ZcptError
from zcpt.seeding import derive_seed, use_seed

LabelledImages = tuple[Tensor, Tensor]
"""Images [B, C, H, W], uint8, and labels [B]."""


@dataclass(frozen=True)
class Batch:
    """This process's part of a global batch, on the device."""

    images: Tensor
    """Normalised images [b, C, H, W]."""
    targets: Tensor
    """What the loss compares with: classes [b], int64; or [b, classes], float, if images are mixed.

    Label smoothing is left to the loss: ``cross_entropy`` smooths both kinds.
    """
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


@dataclass(frozen=True)
class TestOptions:
    """Settings of a loader of test images where there is no ``TrainConfig``, which has them too."""

    __test__ = False  # of pytest, which would take it for a test

    batch_size: int = 256
    workers: int = 0
    test_crop: float = 1.0
    interpolation: str = "bilinear"


class ImageSource(Protocol):
    """Images that are taken by their indices."""

    index_device: torch.device
    """Device on which the indices are needed."""

    def load(self, batches: Sequence[Tensor], epoch: int) -> Iterator[LabelledImages]:
        """Yield the images of each batch of indices [b] and their labels, on the device."""


class MemorySource:
    """Images that lie in the memory of the device."""

    def __init__(self, images: InMemoryImages, device: torch.device) -> None:
        self.index_device = device
        self.images = images.images.to(device)
        self.labels = torch.tensor(images.labels, dtype=torch.int64, device=device)

    def load(self, batches: Sequence[Tensor], epoch: int) -> Iterator[LabelledImages]:
        """Yield the images and labels of each batch of indices."""
        for indices in batches:
            yield self.images[indices], self.labels[indices]


class ReadingSource:
    """Images that are read one by one, by worker processes that live as long as the source.

    Each image is read under random numbers of its own, those of (seed, epoch, index of the image).

    Args:
        images: Images of one size.
        seed: Seed of the training.
        workers: Number of processes; 0 reads in this one.
        device: Device to which the images are copied.
    """

    def __init__(self, images: ImageSet, seed: int, workers: int, device: torch.device) -> None:
        self.index_device = torch.device("cpu")
        self.device = device
        self._batches = _IndexBatches()
        self.loader: DataLoader[Any] = DataLoader(
            _SeededImages(images, seed),
            batch_sampler=self._batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            # A loader draws a seed for its workers. Without a generator of its own it would advance torch's global one.
            generator=torch.Generator(),
        )

    def load(self, batches: Sequence[Tensor], epoch: int) -> Iterator[LabelledImages]:
        """Yield the images and labels of each batch of indices.

        Raises:
            LostError: A worker process was killed.
            ZcptError: An image cannot be used.
        """
        self._batches.batches, self._batches.epoch = batches, epoch
        for images, labels in name_worker_errors(self.loader):
            # From pinned memory the copies run while the device computes; otherwise non_blocking has no effect.
            yield images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)


class _IndexBatches(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index), the batch sampler of a DataLoader; set both before each iteration."""

    def __init__(self) -> None:
        self.batches: Sequence[Tensor] = ()
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for indices in self.batches:
            yield [(self.epoch, index) for index in indices.tolist()]


class _SeededImages(Dataset[tuple[Tensor, int]]):
    """Images by (epoch, index), read under random numbers that depend on both and the seed alone."""

    def __init__(self, images: ImageSet, seed: int) -> None:
        self.images = images
        self.seed = seed

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = item
        with _use_global_seeds(derive_seed(self.seed, "image", epoch, index)):
            return self.images[index]


@contextmanager
def _use_global_seeds(seed: int) -> Iterator[None]:
    """Seed the global generators of torch, NumPy and Python for a block; transforms of timm draw from all three."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        with use_seed(seed):
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)


def name_worker_errors(loader: DataLoader[Any]) -> Iterator[LabelledImages]:
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


class BatchMixup:
    """Mixup and CutMix of the images of a batch by timm; targets are [b, classes].

    Args:
        config: Settings.
        num_classes: Number of classes.
    """

    def __init__(self, config: TrainConfig, num_classes: int) -> None:
        self.config = config
        self.num_classes = num_classes
        self._mix = Mixup(config.mixup, config.cutmix, label_smoothing=0.0, num_classes=num_classes)

    def is_used(self, epoch: int) -> bool:
        """Return whether the images of this epoch are mixed."""
        is_on = self.config.mixup > 0 or self.config.cutmix > 0
        return is_on and epoch < self.config.epochs - self.config.mixup_off_epochs

    def __call__(self, images: Tensor, labels: Tensor, epoch: int, batch: int) -> tuple[Tensor, Tensor]:
        """Mix images [b, C, H, W]; the shares depend on (seed, epoch, batch). An odd last image stays as it is."""
        even = len(images) // 2 * 2
        targets = nn.functional.one_hot(labels, self.num_classes).float()
        if even:
            with _use_global_seeds(derive_seed(self.config.seed, "mixup", epoch, batch)):
                # A copy, because timm mixes in place; it draws its shares from the global generator of NumPy.
                mixed, mixed_targets = self._mix(images[:even].clone(), labels[:even])
            images = torch.cat([mixed, images[even:]])
            targets = torch.cat([mixed_targets, targets[even:]])
        return images, targets


class _TimedLoader(ABC):
    """Loader that measures how long its consumer waits."""

    def __init__(self) -> None:
        self.wait_seconds = 0.0

    def load_epoch(self, epoch: int) -> Iterator[Batch]:
        batches = self._load(epoch)
        while True:
            start = time.perf_counter()
            batch = next(batches, None)
            self.wait_seconds += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    @abstractmethod
    def _load(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""


class TrainLoader(_TimedLoader):
    """``EpochLoader`` of shuffled and augmented training images.

    Args:
        source: Images.
        count: Number of images.
        augmentation: Augmentation of a batch.
        mixup: Mixup of a batch.
        config: Settings.
        share: Part of this process in each batch.
    """

    def __init__(
        self,
        source: ImageSource,
        count: int,
        augmentation: BatchAugmentation,
        mixup: BatchMixup,
        config: TrainConfig,
        share: Share,
    ) -> None:
        super().__init__()
        self.source = source
        self.count = count
        self.augmentation = augmentation
        self.mixup = mixup
        self.config = config
        self.share = share

    def __len__(self) -> int:
        return self.share.count_batches(self.count, self.config.batch_size)

    def _load(self, epoch: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(derive_seed(self.config.seed, "order", epoch))
        order = torch.randperm(self.count, generator=generator).to(self.source.index_device)
        whole = order.split(self.config.batch_size)[: len(self)]
        parts = [self.share.find_part(len(indices)) for indices in whole]
        own = [indices[part.start : part.stop] for indices, part in zip(whole, parts, strict=True)]
        self.augmentation.start_epoch(epoch)
        for number, (images, labels) in enumerate(self.source.load(own, epoch)):
            images = self.augmentation(images, own[number])
            targets = labels
            if self.mixup.is_used(epoch):
                images, targets = self.mixup(images, labels, epoch, number)
            yield Batch(images, targets, labels, len(whole[number]))


class TestLoader(_TimedLoader):
    """``EpochLoader`` of test images: in order, and normalised."""

    __test__ = False  # of pytest

    def __init__(self, source: ImageSource, part: range, batch_size: int, statistics: Statistics) -> None:
        super().__init__()
        self.source = source
        indices = torch.arange(part.start, part.stop, device=source.index_device)
        self.batches = indices.split(batch_size) if part else ()
        self.normalise = nn.Sequential(*build_normalisation(statistics))

    def __len__(self) -> int:
        return len(self.batches)

    def _load(self, epoch: int) -> Iterator[Batch]:
        for images, labels in self.source.load(self.batches, epoch):
            yield Batch(self.normalise(images), labels, labels, len(labels))


class RelabelledLoader:
    """``EpochLoader`` of images whose classes are those of another data set, in another order or fewer of them.

    Args:
        loader: Loader of the images.
        classes: Number of each of its classes in the other data set.
    """

    def __init__(self, loader: EpochLoader, classes: Sequence[int]) -> None:
        self.loader = loader
        self.classes = torch.tensor(classes)
        self.wait_seconds = 0.0

    def __len__(self) -> int:
        return len(self.loader)

    def load_epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield all batches, with the numbers of the other data set as labels."""
        for batch in self.loader.load_epoch(epoch):
            self.wait_seconds = self.loader.wait_seconds
            labels = self.classes.to(batch.labels.device)[batch.labels]
            yield replace(batch, labels=labels, targets=labels)


def build_train_loader(
    images: ImageSet,
    statistics: Statistics,
    config: TrainConfig,
    image_size: tuple[int, int],
    num_classes: int,
    device: torch.device,
    share: Share = SINGLE_SHARE,
) -> EpochLoader:
    """Build the loader of shuffled and augmented training images.

    Args:
        images: Images.
        statistics: Mean and standard deviation of the channels.
        config: Settings.
        image_size: Height and width of the images that the network gets.
        num_classes: Number of classes.
        device: Device of the batches.
        share: Part of this process in each batch.

    Raises:
        ConfigError: The transforms of pictures cannot be used.
    """
    if config.crop != "resized":
        images = load_into_memory(change_view(images, View(image_size, interpolation=config.interpolation)))
    if has_picture_transforms(config):
        images = TransformedPictures(images, config, image_size, statistics)
    source = _open_source(images, config.seed, config.workers, device)
    augmentation = BatchAugmentation(config, image_size, statistics, len(images), device)
    return TrainLoader(source, len(images), augmentation, BatchMixup(config, num_classes), config, share)


def build_test_loader(
    images: ImageSet,
    statistics: Statistics,
    options: TestOptions | TrainConfig,
    image_size: tuple[int, int],
    device: torch.device,
    share: Share = SINGLE_SHARE,
) -> EpochLoader:
    """Build the loader of test images: in order, and normalised; the arguments are those of training images."""
    images = load_into_memory(change_view(images, View(image_size, options.test_crop, options.interpolation)))
    source = _open_source(images, 0, options.workers, device)
    return TestLoader(source, share.find_part(len(images)), options.batch_size, statistics)


def _open_source(images: ImageSet, seed: int, workers: int, device: torch.device) -> ImageSource:
    """Return the source of images: memory or worker processes."""
    if isinstance(images, InMemoryImages):
        return MemorySource(images, device)
    return ReadingSource(images, seed, workers, device)
