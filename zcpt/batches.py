"""Mini-batches that are a function of a seed: the same seed draws the same images and augmentations."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Sized
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
)

from zcpt.errors import ConfigError, DataError
from zcpt.seeding import use_seed


class Batch(NamedTuple):
    """Normalised images [B, C, H, W] and their labels [B]."""

    images: Tensor
    labels: Tensor
    seed: int = 0
    """Seed of the random numbers that a network draws while it is scored on this batch."""


class Batches(Protocol):
    """Source of mini-batches. ``as_batches`` makes one from a data set, a DataLoader or tensors."""

    num_classes: int
    about: Mapping[str, object]
    """Description of the data, for the run folder."""

    def __len__(self) -> int:
        """Return the number of images to draw from."""
        ...

    def draw(self, size: int, seed: int) -> Batch:
        """Return the batch of a seed, always the same. ``size`` must be at most ``len``."""
        ...


class DatasetBatches:
    """Batches from a torch data set of pairs (image tensor [C, H, W], label), augmented by its own transform.

    Args:
        dataset: Any map-style data set. Its transform may draw from torch's generator.
        indices: Indices to draw from; None draws from the whole data set.
        num_classes: Number of classes; None reads ``dataset.classes``.
        about: Description of the data, for the run folder.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        indices: Sequence[int] | None = None,
        num_classes: int | None = None,
        about: Mapping[str, object] | None = None,
    ) -> None:
        self.dataset = dataset
        self.indices = range(len(cast(Sized, dataset))) if indices is None else indices
        if num_classes is None and not hasattr(dataset, "classes"):
            raise ConfigError(
                "the data set has no attribute classes: pass the number of classes, for example num_classes=10."
            )
        self.num_classes = num_classes or len(cast(Any, dataset).classes)
        self.about = about or {}

    def __len__(self) -> int:
        return len(self.indices)

    def draw(self, size: int, seed: int) -> Batch:
        """Draw images without repetition and augment them, with torch's generator seeded for this batch."""
        with use_seed(seed):
            chosen = torch.randperm(len(self.indices))[:size].tolist()
            images, labels = zip(*(_check_pair(self.dataset[self.indices[i]]) for i in chosen), strict=True)
        return Batch(_stack(images), torch.as_tensor(labels), seed)


def _check_pair(item: Any) -> tuple[Any, Any]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        given = f"{len(item)} values" if isinstance(item, tuple | list) else type(item).__name__
        raise DataError(f"the items of the data set must be pairs (image, label), not {given}: wrap the data set.")
    return item[0], item[1]


def _stack(images: Sequence[Any]) -> Tensor:
    for image in images:
        if not isinstance(image, Tensor) or not image.is_floating_point() or image.ndim != 3:
            given = f"{image.dtype} {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
            raise DataError(f"images must be float tensors [C, H, W], normalised, not {given}: add a transform.")
        if image.shape != images[0].shape:
            raise DataError(f"images must have one size, not {list(images[0].shape)} and {list(image.shape)}.")
    return torch.stack(list(images))


def as_batch(given: object) -> Batch:
    """Convert a batch, or a pair of images [B, C, H, W] and labels [B], to a ``Batch``; else raise ConfigError."""
    if (
        not isinstance(given, tuple | list)
        or len(given) not in (2, 3)
        or not all(isinstance(tensor, Tensor) for tensor in given[:2])
    ):
        raise ConfigError("the batch must be a pair of tensors: images [B, C, H, W] and labels [B].")
    images, labels = given[:2]
    if labels.shape != images.shape[:1]:
        raise ConfigError(
            f"the batch must have one label for each image, not labels {list(labels.shape)} for images "
            f"{list(images.shape)}: give images [B, C, H, W] and labels [B]."
        )
    return Batch(*given)


def as_batches(data: object, num_classes: int | None = None) -> Batches:
    """Convert data to a source of mini-batches.

    Args:
        data: ``Batches``; a map-style data set; a DataLoader over one, of which only the data set and the indices of
            its sampler are used; or a pair of tensors (images [N, C, H, W], labels [N]).
        num_classes: Number of classes; None reads it from the data.

    Raises:
        ConfigError: The data is something else, or the indices of the DataLoader's sampler are not known.
    """
    if hasattr(data, "draw"):
        return cast(Batches, data)
    indices = None
    if isinstance(data, DataLoader):
        indices = None if isinstance(data.dataset, IterableDataset) else _get_sampled_indices(data)
        data = data.dataset
    if isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(t, Tensor) for t in data):
        num_classes = num_classes or int(data[1].max()) + 1
        data = TensorDataset(*data)
    map_style = hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, str | Mapping)
    if map_style and not isinstance(data, IterableDataset | Tensor):
        return DatasetBatches(cast(Any, data), indices, num_classes)
    raise ConfigError(
        f"batches cannot be drawn from {type(data).__name__}: pass a map-style data set, a DataLoader over one, "
        "a pair of tensors (images, labels), or an object with draw(size, seed)."
    )


def _get_sampled_indices(loader: DataLoader[Any]) -> Sequence[int]:
    """Return the indices that the sampler of a DataLoader draws."""
    batches = loader.batch_sampler
    sampler = loader.sampler if batches is None else getattr(batches, "sampler", batches)
    if isinstance(sampler, SubsetRandomSampler):
        return list(sampler.indices)
    if isinstance(sampler, SequentialSampler | RandomSampler):
        return range(len(sampler.data_source))
    raise ConfigError(
        f"the images that a DataLoader with a {type(sampler).__name__} draws are not known: give it a "
        "SubsetRandomSampler, a RandomSampler or a SequentialSampler, or pass "
        "torch.utils.data.Subset(data_set, indices)."
    )


def compute_fingerprint(batch: Batch) -> str:
    """Return a hash of a batch. With a fixed seed it identifies the images, their order and their augmentation."""
    digest = hashlib.sha256()
    for tensor in (batch.images, batch.labels):
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
