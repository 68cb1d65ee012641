"""Data sets by name: embedded, torchvision's, or a folder of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torchvision import datasets

from train.augment import scoring_transform
from train.folder import FolderImages, folder_classes
from train.images import ImageSet, InMemory, Pictures, Statistics, Transformed, count, measured_statistics
from zcpt.batches import DatasetBatches
from zcpt.errors import ConfigError, DataError
from zcpt.registry import Registry, get_docstring_summary
from zcpt.seeding import derive_seed

_TORCHVISION: dict[str, tuple[Callable[..., Any], str, Statistics]] = {
    "cifar10": (
        datasets.CIFAR10,
        "50,000 + 10,000 pictures 32x32 of 10 things",
        ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    ),
    "cifar100": (
        datasets.CIFAR100,
        "50,000 + 10,000 pictures 32x32 of 100 things",
        ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    ),
    "svhn": (
        datasets.SVHN,
        "73,257 + 26,032 house numbers 32x32",
        ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    ),
}


@dataclass(frozen=True)
class ImageData:
    """A data set. Its two parts are read when they are first asked for."""

    classes: tuple[str, ...]
    load: Callable[[bool], ImageSet]
    """True: the training images; False: the test images."""
    name: str = ""
    directory: Path | None = None
    """The ``data_dir`` that it was read from."""
    known_statistics: Statistics | None = None

    @cached_property
    def train(self) -> ImageSet:
        return self.load(True)

    @cached_property
    def test(self) -> ImageSet:
        return self.load(False)

    @cached_property
    def statistics(self) -> Statistics:
        """Mean and standard deviation of each channel of the training images, whose values lie in [0, 1]."""
        return self.known_statistics or measured_statistics(self.train)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.train[0][0].shape
        return channels, height, width

    def in_memory(self) -> ImageData:
        """The same images, for who needs all of them, many times: pictures in folders are read at once."""
        return replace(self, load=lambda train: _stored(self.load(train)))


def _stored(images: ImageSet) -> ImageSet:
    return images.stored() if isinstance(images, FolderImages) else images


def load_data(name: str, data_dir: Path | None = None, download: bool = False) -> ImageData:
    """Find a data set.

    Args:
        name: One of ``DATASETS``.
        data_dir: Where the files of data sets lie, or are downloaded to; None means ``data``.
        download: Fetch what is missing.

    Raises:
        DataError: It is unknown, missing, empty or broken.
        ConfigError: ``data_dir`` or ``download`` is given for a data set that has no use for it.
    """
    if name.startswith("folder:"):
        return _folder(name, data_dir, download)
    return DATASETS[name].find(name, data_dir, download)


def _refuse_files(name: str, data_dir: Path | None, download: bool) -> None:
    if data_dir is not None or download:
        extra = "--download" if download else "--data-dir"
        raise ConfigError(f"{extra} is for {', '.join(_TORCHVISION)}: leave it out with --dataset {name}.")


def _folder(name: str, data_dir: Path | None, download: bool) -> ImageData:
    _refuse_files(name, data_dir, download)
    try:
        root = Path(name.removeprefix("folder:")).expanduser()
    except RuntimeError as error:
        raise DataError(f"{name} cannot be found: {error}") from None
    return ImageData(folder_classes(root), lambda train: FolderImages(root, train), name)


def _digits(name: str, data_dir: Path | None, download: bool) -> ImageData:
    _refuse_files(name, data_dir, download)
    return ImageData(tuple("0123456789"), _digit_images, name)


def _digit_images(train: bool) -> ImageSet:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = torch.from_numpy(digits.images).mul(255 / 16).round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(digits.target)
    parts = train_test_split(range(len(labels)), test_size=0.2, random_state=0, stratify=digits.target)
    indices = torch.tensor(parts[0 if train else 1])
    return InMemory(images[indices], labels[indices])


def _torchvision(name: str, data_dir: Path | None, download: bool) -> ImageData:
    make, _, statistics = _TORCHVISION[name]
    data_dir = data_dir or Path("data")

    def read(train: bool) -> Any:
        split = {"split": "train" if train else "test"} if name == "svhn" else {"train": train}
        try:
            return make(str(data_dir.expanduser()), download=download, **split)
        except (OSError, RuntimeError) as error:
            if download:
                reason = str(error).rstrip(".")
                raise DataError(f"{name} could not be downloaded to {data_dir.absolute()}: {reason}.") from None
            raise DataError(
                f"{name} was not found in {data_dir.absolute()}, or its files are damaged: add --download to fetch "
                "it, or --data-dir PATH if it lies elsewhere."
            ) from None

    def load(train: bool) -> ImageSet:
        raw = read(train)
        images = torch.as_tensor(raw.data)
        if images.shape[-1] == 3:
            images = images.permute(0, 3, 1, 2)
        return InMemory(images.contiguous(), torch.as_tensor(raw.labels if name == "svhn" else raw.targets))

    classes = getattr(read(True), "classes", list("0123456789"))
    return ImageData(tuple(classes), load, name, data_dir, statistics)


@dataclass(frozen=True)
class Source:
    """What a name of a data set stands for."""

    summary: str
    """One line for ``zcpt list``."""
    find: Callable[[str, Path | None, bool], ImageData]
    """(name, data_dir, download) -> the data set."""
    recipe: str = "cifar"
    """What networks are trained by on it where no recipe is named."""


DATASETS: Registry[Source] = Registry(
    "data set",
    DataError,
    "zcpt list datasets",
    {
        "digits": Source("1,797 handwritten digits 8x8, embedded in scikit-learn, split 80/20", _digits, "digits"),
        **{name: Source(summary, _torchvision) for name, (_, summary, _) in _TORCHVISION.items()},
        "folder:PATH": Source(
            "pictures of your own in PATH/train/CLASS/ and PATH/test/CLASS/ or PATH/val/CLASS/", _folder
        ),
    },
)
Find = Callable[[Path, bool], ImageData]


def recipe_for(name: str) -> str:
    """The recipe for a data set where none is named."""
    return "cifar" if name.startswith("folder:") else DATASETS[name].recipe


def register_dataset(name: str, recipe: str = "cifar") -> Callable[[Find], Find]:
    """Decorate a function that finds a data set, so that ``--dataset NAME`` means it.

    It is given the folder that files lie in or belong in (``--data-dir``) and whether to download what is missing
    (``--download``). The ``ImageData`` that it returns may ``load`` any map-style data set of (picture, label): PIL
    pictures or uint8 tensors [C, H, W], all of one size, and labels that count from 0 in the order of ``classes``.
    The first line of its docstring is what ``zcpt list`` says. ``recipe`` is what networks are trained by on it where
    none is named.

    Raises:
        DataError: The name is taken.
    """

    def to_source(function: Find) -> Source:
        def find(name: str, data_dir: Path | None, download: bool) -> ImageData:
            folder = data_dir or Path("data")
            found = function(folder, download)
            classes = tuple(found.classes)
            return replace(
                found,
                classes=classes,
                load=lambda train: Pictures(found.load(train), name, len(classes)),
                name=name,
                directory=folder,
            )

        return Source(get_docstring_summary(function), find, recipe)

    return DATASETS.decorator(name, convert=to_source)


def scoring_batches(data: ImageData, seed: int) -> DatasetBatches:
    """The mini-batches that a search scores on: from one half of the training images, randomly cropped and flipped.

    Which half depends on the seed; it is never the order of the files.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "half"))
    half = torch.randperm(count(data.train), generator=generator)[: (count(data.train) + 1) // 2]
    about = {"dataset": data.name, "directory": data.directory and str(data.directory), "images": len(half)}
    transform = scoring_transform(data.image_shape[1:], data.statistics)
    return DatasetBatches(Transformed(data.train, transform), half.tolist(), len(data.classes), about)
