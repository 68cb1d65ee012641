"""Data sets by name: embedded, torchvision's, registered, or a folder of pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torchvision import datasets

from train.augment import build_scoring_transform
from train.folder import PictureFolder
from train.images import (
    DEFAULT_OPTIONS,
    ImageOptions,
    ImageSet,
    InMemoryImages,
    RegisteredImages,
    Statistics,
    TransformedImages,
    change_view,
    compute_statistics,
)
from train.pictures import DEFAULT_SCALE, ValueScale, View, measure_scale
from train.readers import READERS, ReaderSet, has_reader
from train.recipe import suggest_recipe
from zcpt.batches import DatasetBatches
from zcpt.errors import ConfigError, DataError, ZcptError, describe_error
from zcpt.items import describe_value
from zcpt.registry import Registry, get_docstring_summary
from zcpt.seeding import derive_seed

_log = logging.getLogger(__name__)
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
    options: ImageOptions = DEFAULT_OPTIONS
    """How the images are read, with which the same images are read again."""
    notes: tuple[str, ...] = ()
    """Sentences on what was found and how it is used."""
    scale: ValueScale = DEFAULT_SCALE
    """Scale of pictures of more than 8 bits."""

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
        return self.known_statistics or compute_statistics(self.train, self.name)

    @cached_property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width; DataError if there is no image."""
        images = self.train if len(self.train) else self.test
        if not len(images):
            raise DataError(f"{self.name} has no images.")
        channels, height, width = images[0][0].shape
        return channels, height, width

    def resize(self, size: tuple[int, int]) -> ImageData:
        """Return the same data with images of this height and width, scaled to cover it and cropped at the centre."""

        def load(train: bool) -> ImageSet:
            return change_view(self._get_part(train), View(size))

        return replace(self, load=load, options=replace(self.options, image_size=size))

    def _get_part(self, train: bool) -> ImageSet:
        """Return a part of this data set, which is kept; ``load`` would read its files again."""
        return self.train if train else self.test


def name_dataset(name: str) -> str:
    """Return the full name of a data set: a path of a folder, with or without 'folder:', becomes 'folder:/PATH'.

    So does the path of 'tar:PATH'. A name of ``DATASETS`` or of a reader of timm is never taken for a folder.

    Raises:
        DataError: The path is empty, or begins with the home of an unknown user.
    """
    if has_reader(name) and not name.startswith("tar:"):
        return name
    kind = "tar" if name.startswith("tar:") else "folder"
    path = name.removeprefix(f"{kind}:")
    if path == name and "/" not in name and (not name or name in DATASETS or not _is_folder(name)):
        return name
    if not path:
        raise DataError(f"{kind}: names no folder: give the folder of your pictures as {kind}:PATH.")
    try:
        return f"{kind}:{Path(path).expanduser().absolute()}"
    except RuntimeError as error:
        raise DataError(f"{name} cannot be found: {error}") from None


def _is_folder(path: str) -> bool:
    try:
        return Path(path).expanduser().is_dir()
    except (RuntimeError, ValueError, OSError):  # no home, a null character, too long
        return False


def load_data(
    name: str,
    data_dir: Path | None = None,
    download: bool = False,
    options: ImageOptions = DEFAULT_OPTIONS,
) -> ImageData:
    """Load a data set by name, and log what was found in a folder.

    Args:
        name: One of ``DATASETS``, or a folder of pictures.
        data_dir: Folder with the files of data sets; None means ``data``.
        download: Download missing files to ``data_dir``.
        options: Size of the images, and how a folder is split.

    Raises:
        DataError: The data set is unknown, missing, empty or damaged.
        ConfigError: An argument is given for a data set that has no use for it.
    """
    name = name_dataset(name)
    if name.startswith("folder:"):
        _refuse_files(name, data_dir, download)
        folder = PictureFolder(Path(name.removeprefix("folder:")), options)
        data = ImageData(
            folder.classes,
            folder.load_images,
            name,
            options=folder.options,
            notes=folder.notes,
            scale=folder.scale,
        )
    elif has_reader(name):
        found = ReaderSet(name, data_dir, download, options)
        data = ImageData(found.classes, found.load_images, name, data_dir, options=found.options, notes=found.notes)
    else:
        if (options.validation_split, options.split_seed) != (None, None) and not options.is_optional:
            raise ConfigError(
                f"{name} has a test part of its own: leave out --validation-split and --split-seed, which are for "
                "folders of pictures."
            )
        data = DATASETS[name].load(name, data_dir, download)
        if options.image_size:
            data = data.resize(options.image_size)
    if not dist.is_initialized() or dist.get_rank() == 0:
        for note in data.notes:
            _log.info(note)
    return data


def _refuse_files(name: str, data_dir: Path | None, download: bool) -> None:
    if data_dir is not None or download:
        flag = "--download" if download else "--data-dir"
        raise ConfigError(f"{flag} is for {', '.join(_TORCHVISION)}: leave it out with --dataset {name}.")


def _load_folder(name: str, data_dir: Path | None, download: bool) -> ImageData:
    raise DataError("PATH stands for a folder of your pictures: give it as folder:pictures, for example.")


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
    recipe: str = ""
    """Training recipe for this data set if the user names none; if empty, the size of its images decides."""


DATASETS: Registry[DatasetEntry] = Registry(
    "data set",
    DataError,
    "zcpt list datasets",
    {
        "digits": DatasetEntry(
            "1,797 handwritten digits 8x8, embedded in scikit-learn, split 80/20", _load_digits, "digits"
        ),
        **{name: DatasetEntry(summary, _load_torchvision, "cifar") for name, (_, summary, _) in _TORCHVISION.items()},
        "folder:PATH": DatasetEntry(
            "pictures of your own in PATH/CLASS/, or PATH/train/CLASS/ and PATH/test/CLASS/ or PATH/val/CLASS/",
            _load_folder,
        ),
        **{name: DatasetEntry(summary, _load_folder) for name, summary in READERS.items()},
    },
)
DatasetLoader = Callable[[Path, bool], ImageData]
"""Function (data_dir, download) -> data set."""


def choose_recipe(data: ImageData) -> str:
    """Return the training recipe for a data set if the user names none: its own, or the one for its images."""
    return get_named_recipe(data.name) or suggest_recipe(data.image_shape[1:])


def get_named_recipe(name: str) -> str:
    """Return the training recipe that a data set names by itself; empty if the size of its images decides."""
    name = name_dataset(name)
    return "" if name.startswith("folder:") or has_reader(name) else DATASETS[name].recipe


def register_dataset(name: str, recipe: str = "") -> Callable[[DatasetLoader], DatasetLoader]:
    """Register the decorated function as the loader of ``--dataset NAME``.

    The function takes the folder of ``--data-dir`` and whether to download missing files (``--download``). The first
    line of its docstring is shown by ``zcpt list``. The ``load`` of the ``ImageData`` that it returns may return any
    map-style data set of (image, label): PIL pictures, tensors [C, H, W] or arrays [H, W, C], all of one size, and
    labels that count from 0 in the order of ``classes``. Images that are not uint8 are scaled by the range of the
    training images.

    Args:
        name: Name of the data set.
        recipe: Training recipe for this data set if the user names none; if empty, the size of its images decides.

    Raises:
        DataError: The name is taken.
    """

    def make_entry(function: DatasetLoader) -> DatasetEntry:
        def load(name: str, data_dir: Path | None, download: bool) -> ImageData:
            return _check_registered(name, function, data_dir or Path("data"), download)

        return DatasetEntry(get_docstring_summary(function), load, recipe)

    return DATASETS.decorator(name, convert=make_entry)


def _check_registered(name: str, function: DatasetLoader, folder: Path, download: bool) -> ImageData:
    """Call the loader of a registered data set, and check and convert whatever it loads."""

    def call(work: Callable[..., Any], *arguments: object) -> Any:
        try:
            return work(*arguments)
        except ZcptError:
            raise
        except Exception as error:  # whatever the user's code raises
            raise DataError(f"data set '{name}' cannot be loaded: {describe_error(error)}.") from error

    data = call(function, folder, download)
    if not isinstance(data, ImageData):
        raise DataError(f"data set '{name}' must be loaded as ImageData, not {describe_value(data)}.")
    classes = tuple(map(str, call(tuple, data.classes)))
    if len(classes) < 2:
        raise DataError(f"data set '{name}' has {len(classes)} classes: at least 2 are needed.")

    @cache
    def load(train: bool) -> RegisteredImages:
        return RegisteredImages(call(data.load, train), name, len(classes), get_scale)

    @cache
    def get_scale() -> ValueScale:
        return measure_scale(load(True).read_deep_values())

    return replace(data, classes=classes, load=load, name=name, directory=folder)


def build_scoring_batches(data: ImageData, seed: int) -> DatasetBatches:
    """Build the source of a search's mini-batches: one half of the training images, randomly cropped and flipped.

    The half is drawn by the seed; it does not depend on the order of the classes or files.
    """
    generator = torch.Generator().manual_seed(derive_seed(seed, "half"))
    count = len(data.train)
    half = torch.randperm(count, generator=generator)[: (count + 1) // 2]
    about = {
        "dataset": data.name,
        "directory": data.directory and str(data.directory.absolute()),
        "images": len(half),
        **data.options.to_document(),
    }
    transform = build_scoring_transform(data.image_shape[1:], data.statistics)
    return DatasetBatches(TransformedImages(data.train, transform), half.tolist(), len(data.classes), about)
