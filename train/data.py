"""Data sets by name: embedded, torchvision's, registered, or a folder of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torchvision import datasets

from train.augment import build_scoring_transform
from train.folder import FolderImages, PictureFolder
from train.images import (
    ImageSet,
    InMemoryImages,
    RegisteredImages,
    Statistics,
    TransformedImages,
    compute_statistics,
)
from zcpt.batches import DatasetBatches
from zcpt.errors import ConfigError, DataError
from zcpt.registry import Registry, get_docstring_summary
from zcpt.seeding import derive_seed

_TORCHVISION: dict[str, tuple[Callable[..., Any], str, Statistics]] = {
    "cifar10": (
        datasets.CIFAR10,
        "50,000 + 10,000 pictures 32x32, 10 classes of objects",
        ((0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)),
    ),
    "cifar100": (
        datasets.CIFAR100,
        "50,000 + 10,000 pictures 32x32, 100 classes of objects",
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
    """Data set with a training and a test part. Each part is loaded on first access, and once."""

    classes: tuple[str, ...]
    load: Callable[[bool], ImageSet]
    """Function that loads the training images (True) or the test images (False)."""
    name: str = ""
    directory: Path | None = None
    """The ``data_dir`` with its files; None for data sets that have no use for one."""
    known_statistics: Statistics | None = None
    """Published statistics of the training images; None computes them."""

    @cached_property
    def train(self) -> ImageSet:
        """Training images."""
        return self.load(True)

    @cached_property
    def test(self) -> ImageSet:
        """Test images."""
        return self.load(False)

    @cached_property
    def statistics(self) -> Statistics:
        """Mean and standard deviation of each channel of the training images, for values in [0, 1]."""
        return self.known_statistics or compute_statistics(self.train)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        channels, height, width = self.train[0][0].shape
        return channels, height, width

    def in_memory(self) -> ImageData:
        """Return the same data with pictures of a folder decoded at once, as training needs them in every epoch."""

        def load(train: bool) -> ImageSet:
            images = self.train if train else self.test  # not self.load, which would read the files again
            return images.decode_all() if isinstance(images, FolderImages) else images

        return replace(self, load=load)


def load_data(name: str, data_dir: Path | None = None, download: bool = False) -> ImageData:
    """Load a data set by name.

    Args:
        name: One of ``DATASETS``.
        data_dir: Folder with the files of data sets; None means ``data``.
        download: Download missing files to ``data_dir``.

    Raises:
        DataError: The data set is unknown, missing, empty or damaged.
        ConfigError: ``data_dir`` or ``download`` is given for a data set that has no use for it.
    """
    if name.startswith("folder:"):
        return _load_folder(name, data_dir, download)
    return DATASETS[name].load(name, data_dir, download)


def _refuse_files(name: str, data_dir: Path | None, download: bool) -> None:
    if data_dir is not None or download:
        flag = "--download" if download else "--data-dir"
        raise ConfigError(f"{flag} is for {', '.join(_TORCHVISION)}: leave it out with --dataset {name}.")


def _load_folder(name: str, data_dir: Path | None, download: bool) -> ImageData:
    _refuse_files(name, data_dir, download)
    try:
        root = Path(name.removeprefix("folder:")).expanduser()
    except RuntimeError as error:
        raise DataError(f"{name} cannot be found: {error}") from None
    folder = PictureFolder(root)
    # Absolute, so that a run folder tells where the pictures are from any current folder.
    return ImageData(folder.classes, folder.load_images, f"folder:{root.absolute()}")


def _load_digits(name: str, data_dir: Path | None, download: bool) -> ImageData:
    _refuse_files(name, data_dir, download)
    return ImageData(tuple("0123456789"), _load_digit_images, name)


def _load_digit_images(train: bool) -> ImageSet:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    scaled = torch.from_numpy(digits.images).mul(255 / 16)  # scikit-learn's values are 0 to 16
    images = scaled.round().to(torch.uint8)[:, None]
    labels = torch.from_numpy(digits.target)
    parts = train_test_split(range(len(labels)), test_size=0.2, random_state=0, stratify=digits.target)
    indices = torch.tensor(parts[0 if train else 1])
    return InMemoryImages(images[indices], labels[indices])


def _load_torchvision(name: str, data_dir: Path | None, download: bool) -> ImageData:
    make, _, statistics = _TORCHVISION[name]
    data_dir = data_dir or Path("data")
    root = str(data_dir.expanduser())

    def read(train: bool) -> Any:
        split = {"split": "train" if train else "test"} if name == "svhn" else {"train": train}
        try:
            return make(root, **split)
        except (OSError, RuntimeError):
            if not download:
                raise DataError(
                    f"{name} was not found in {data_dir.absolute()}, or its files are damaged: add --download to fetch "
                    "it, or --data-dir PATH if it lies elsewhere."
                ) from None
        # Only now, because download=True makes torchvision hash complete files once more.
        try:
            return make(root, download=True, **split)
        except (OSError, RuntimeError) as error:
            reason = str(error).rstrip(".")
            raise DataError(f"{name} could not be downloaded to {data_dir.absolute()}: {reason}.") from None

    @cache
    def load(train: bool) -> tuple[ImageSet, tuple[str, ...]]:
        raw = read(train)
        images = torch.as_tensor(raw.data)
        if images.shape[-1] == 3:  # CIFAR is stored as [N, H, W, C], SVHN as [N, C, H, W]
            images = images.permute(0, 3, 1, 2)
        labels = torch.as_tensor(raw.labels if name == "svhn" else raw.targets)
        return InMemoryImages(images.contiguous(), labels), tuple(getattr(raw, "classes", "0123456789"))

    # Missing files are reported or downloaded here and not on first access, so the training part is already read.
    _, classes = load(True)
    return ImageData(classes, lambda train: load(train)[0], name, data_dir, statistics)


@dataclass(frozen=True)
class DatasetEntry:
    """Entry of the registry of data sets."""

    summary: str
    """One line for ``zcpt list``."""
    load: Callable[[str, Path | None, bool], ImageData]
    """Function (name, data_dir, download) -> data set."""
    recipe: str = "cifar"
    """Training recipe for this data set if the user names none."""


DATASETS: Registry[DatasetEntry] = Registry(
    "data set",
    DataError,
    "zcpt list datasets",
    {
        "digits": DatasetEntry(
            "1,797 handwritten digits 8x8, embedded in scikit-learn, split 80/20", _load_digits, "digits"
        ),
        **{name: DatasetEntry(summary, _load_torchvision) for name, (_, summary, _) in _TORCHVISION.items()},
        "folder:PATH": DatasetEntry(
            "pictures of your own in PATH/train/CLASS/ and PATH/test/CLASS/ or PATH/val/CLASS/", _load_folder
        ),
    },
)
DatasetLoader = Callable[[Path, bool], ImageData]
"""Function (data_dir, download) -> data set."""


def get_default_recipe(name: str) -> str:
    """Return the training recipe for a data set if the user names none."""
    return "cifar" if name.startswith("folder:") else DATASETS[name].recipe


def register_dataset(name: str, recipe: str = "cifar") -> Callable[[DatasetLoader], DatasetLoader]:
    """Register the decorated function as the loader of ``--dataset NAME``.

    The function takes the folder of ``--data-dir`` and whether to download missing files (``--download``). The first
    line of its docstring is shown by ``zcpt list``. The ``load`` of the ``ImageData`` that it returns may return any
    map-style data set of (picture, label): PIL pictures or uint8 tensors [C, H, W], all of one size, and labels that
    count from 0 in the order of ``classes``.

    Args:
        name: Name of the data set.
        recipe: Training recipe for this data set if the user names none.

    Raises:
        DataError: The name is taken.
    """

    def make_entry(function: DatasetLoader) -> DatasetEntry:
        def load(name: str, data_dir: Path | None, download: bool) -> ImageData:
            folder = data_dir or Path("data")
            data = function(folder, download)
            classes = tuple(data.classes)
            return replace(
                data,
                classes=classes,
                load=lambda train: RegisteredImages(data.load(train), name, len(classes)),
                name=name,
                directory=folder,
            )

        return DatasetEntry(get_docstring_summary(function), load, recipe)

    return DATASETS.decorator(name, convert=make_entry)


def build_scoring_batches(data: ImageData, seed: int) -> DatasetBatches:
    """Build the source of a search's mini-batches: one half of the training images, randomly cropped and flipped.

    The half is drawn by the seed; it does not depend on the order of the classes or files.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "half"))
    count = len(data.train)
    half = torch.randperm(count, generator=generator)[: (count + 1) // 2]
    about = {"dataset": data.name, "directory": data.directory and str(data.directory.absolute()), "images": len(half)}
    transform = build_scoring_transform(data.image_shape[1:], data.statistics)
    return DatasetBatches(TransformedImages(data.train, transform), half.tolist(), len(data.classes), about)
