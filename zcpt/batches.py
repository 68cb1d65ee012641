"""Mini-batches that are a function of a seed: the same seed draws the same images and augmentations."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from zcpt.errors import ConfigError, DataError
from zcpt.items import (
    check_num_classes,
    count_items,
    describe_value,
    read_image,
    read_item,
    read_label,
    stack_images,
)
from zcpt.seeding import use_seed

ANY_CLASSES = 2**31
"""Number of classes for data whose labels a network of the user's own defines."""
_MANY_CLASSES = 100_000
"""Number of classes that needs no justification: several times that of all of ImageNet."""


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


def check_batch_sizes(batches: Batches, sizes: Mapping[str, int]) -> None:
    """Raise DataError if mini-batches have more images than there are; ``sizes`` has their sizes by the flag.

    One error names all of them: with few images, the defaults of several are too large.
    """
    large = {flag: size for flag, size in sizes.items() if size > len(batches)}
    if large:
        # Only the batches of the command line name a data set.
        half = ", one half of the training images (a search leaves out the other)" if "dataset" in batches.about else ""
        given = " and ".join(f"{flag} {size}" for flag, size in large.items())
        remedy = " ".join(f"{flag} {len(batches)}" for flag in large)
        raise DataError(
            f"{given} {'is' if len(large) == 1 else 'are'} more than the {len(batches)} images to draw from{half}: "
            f"use {remedy} or less."
        )


def check_class_count(batches: Batches) -> None:
    """Raise DataError if the images cannot have so many classes.

    A few images have at most the classes of a larger data set that they are from. Beyond that a number is a mistake,
    such as identifiers in place of labels, and gradients of its classifier would take minutes and gigabytes.
    """
    limit = max(_MANY_CLASSES, 2 * len(batches))  # one half of the images may have been kept back
    if batches.num_classes > limit:
        raise DataError(
            f"{batches.num_classes} classes are more than {len(batches)} images can have, at most {limit}: number the "
            "labels from 0 without gaps, and give their number as num_classes."
        )


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
        self.indices = range(count_items(dataset)) if indices is None else indices
        self.num_classes = _read_num_classes(dataset) if num_classes is None else check_num_classes(num_classes)
        self.about = about or {}

    def __len__(self) -> int:
        return len(self.indices)

    def draw(self, size: int, seed: int) -> Batch:
        """Draw images without repetition and augment them, with torch's generator seeded for this batch.

        Raises:
            DataError: An item cannot be read or used; the message has its index.
        """
        images, labels = [], []
        with use_seed(seed):
            drawn = [int(self.indices[i]) for i in torch.randperm(len(self.indices))[:size].tolist()]
            for index in drawn:
                image, label = read_item(self.dataset, index)
                images.append(read_image(image, index))
                labels.append(read_label(label, index, self.num_classes))
        return Batch(stack_images(images, drawn), torch.tensor(labels), seed)


def _read_num_classes(dataset: object) -> int:
    """Return the number of a data set's ``classes``, also below torch's ``Subset``."""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    try:
        return check_num_classes(len(cast(Any, dataset).classes))
    except (AttributeError, TypeError) as error:
        problem = "has no attribute classes" if isinstance(error, AttributeError) else "has classes without a length"
        raise ConfigError(f"the data set {problem}: pass the number of classes, for example num_classes=10.") from None


def as_batch(given: object) -> Batch:
    """Convert a batch, or a pair of images [B, C, H, W] and labels [B], to a ``Batch``; else raise ConfigError."""
    if (
        not isinstance(given, tuple | list)
        or len(given) not in (2, 3)
        or not all(isinstance(values, Tensor | np.ndarray) for values in given[:2])
    ):
        raise ConfigError("the batch must be a pair of tensors: images [B, C, H, W] and labels [B].")
    return Batch(*_check_pair(*given[:2]), *given[2:])


def _check_pair(images: Tensor | NDArray[Any], labels: Tensor | NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Return images [N, C, H, W] and labels [N], int64, as tensors; ConfigError if they are no such pair."""
    images, labels = (
        torch.from_numpy(np.ascontiguousarray(values)) if isinstance(values, np.ndarray) else values
        for values in (images, labels)
    )
    # Networks of vectors [B, features] can be scored too.
    if images.ndim not in (2, 4) or not images.is_floating_point():
        raise ConfigError(f"the images must be a float tensor [B, C, H, W], normalised, not {describe_value(images)}.")
    if labels.shape not in (images.shape[:1], (*images.shape[:1], 1)):
        raise ConfigError(
            f"the batch must have one label for each image, not labels {list(labels.shape)} for images "
            f"{list(images.shape)}: give images [B, C, H, W] and labels [B]."
        )
    labels = labels.flatten()
    if labels.is_complex() or (labels.is_floating_point() and not labels.eq(labels.trunc()).all()):
        raise ConfigError("the labels must be whole numbers, the indices of the classes.")
    return images, labels.long()


def as_batches(data: object, num_classes: int | None = None) -> Batches:
    """Convert data to a source of mini-batches.

    Args:
        data: ``Batches``; a map-style data set; a DataLoader over one, of which only the data set and the indices of
            its sampler are used; or a pair of tensors or arrays (images [N, C, H, W], labels [N]).
        num_classes: Number of classes; None reads it from the data.

    Raises:
        ConfigError: The data is something else, or the indices of the DataLoader's sampler are not known.
    """
    if hasattr(data, "draw"):
        return _check_batches(cast(Batches, data), num_classes)
    indices = None
    if isinstance(data, DataLoader):
        indices = None if isinstance(data.dataset, IterableDataset) else _get_sampled_indices(data)
        data = data.dataset
    if isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(t, Tensor | np.ndarray) for t in data):
        images, labels = _check_pair(*data)
        if num_classes is None:
            if not len(labels):
                raise DataError("there are no images to draw from.")
            num_classes = int(labels.max()) + 1
        data = TensorDataset(images, labels)
    map_style = hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, str | Mapping)
    if map_style and not isinstance(data, IterableDataset | Tensor):
        return DatasetBatches(cast(Any, data), indices, num_classes)
    raise ConfigError(
        f"batches cannot be drawn from {type(data).__name__}: pass a map-style data set, a DataLoader over one, "
        "a pair of tensors (images, labels), or an object with draw(size, seed)."
    )


def _check_batches(batches: Batches, num_classes: int | None) -> Batches:
    """Return batches of a class of the user's own; ConfigError if something is missing, or classes are contradicted."""
    missing = [name for name in ("__len__", "num_classes", "about") if not hasattr(batches, name)]
    if missing:
        raise ConfigError(f"{type(batches).__name__} draws batches, but has no {', '.join(missing)}: add it.")
    check_num_classes(batches.num_classes)
    if num_classes not in (None, ANY_CLASSES, batches.num_classes):
        raise ConfigError(f"the batches have {batches.num_classes} classes, and num_classes is {num_classes}.")
    return batches


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
        # As bytes, since NumPy lacks bfloat16.
        digest.update(tensor.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
