"""Data sets of timm's readers: tar files, torchvision's, and those of datasets, webdataset and tensorflow-datasets."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from timm.data import ImageDataset, create_dataset
from timm.data.readers.reader_image_in_tar import ReaderImageInTar
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from train.folder import choose_image_size
from train.images import (
    MAX_MEMORY,
    ImageOptions,
    ImageSet,
    InMemoryImages,
    RegisteredImages,
    ResizedImages,
    select_images,
)
from train.pictures import ValueScale, View, convert_to_rgb, measure_scale
from zcpt.errors import ConfigError, DataError, describe_error
from zcpt.options import pluralize
from zcpt.progress import show_progress
from zcpt.seeding import derive_seed

READERS = {
    "tar:PATH": "pictures in PATH.tar or PATH/*.tar, by their folders or tar files; or below PATH/train and PATH/val",
    "torch/NAME": "torchvision's NAME, such as mnist, fashion_mnist, imagenet, places365",
    "hfds/NAME": "Hugging Face's NAME, by the package datasets",
    "hfids/NAME": "the same as a stream, which must fit into memory",
    "wds/NAME": "webdataset's shards in --data-dir, a stream that must fit into memory",
    "tfds/NAME": "TensorFlow's NAME, by the package tensorflow-datasets, likewise",
}
"""Names of data sets that timm reads, with a line for each."""
_PACKAGES = {"hfds": "datasets", "hfids": "datasets", "wds": "webdataset", "tfds": "tensorflow-datasets"}
_STREAMS = ("hfids", "wds", "tfds")
_PARTS = {True: ("train", "training"), False: ("validation", "test", "val", "valid")}
_MEASURED = 100
"""Pictures that are read to choose the common size."""


def _is_missing_split(error: Exception, split: str) -> bool:
    """Return whether a library says that a data set has no split of this name.

    There is no class of error for it: datasets and tensorflow-datasets raise "Unknown split 'test'", timm's webdataset
    reader "split test not found in info", torchvision "Unknown value 'test' for argument split".
    """
    text = str(error).lower()
    return "split" in text and split in text and ("unknown" in text or "not found" in text)


def has_reader(name: str) -> bool:
    """Return whether timm reads the data set of this name."""
    return name.startswith("tar:") or (name.partition("/")[0] in {"torch", *_PACKAGES} and "/" in name)


class ReaderSet:
    """Data set with a training and a test part that timm reads; a set without a test part is split by a seed.

    Args:
        name: Name of the data set.
        data_dir: Folder of its files.
        download: Download missing files.
        options: Size of the images, and how a set without test part is split.

    Raises:
        DataError: A package is missing, or the data cannot be found or read.
        ConfigError: An option does not fit the data set.
    """

    def __init__(self, name: str, data_dir: Path | None, download: bool, options: ImageOptions) -> None:
        self.name = name
        self.prefix = "tar" if name.startswith("tar:") else name.partition("/")[0]
        self.root = Path(name.removeprefix("tar:")) if self.prefix == "tar" else data_dir
        self.download = download
        self._check_package()
        train, test = self._open(True), self._open(False)
        if train is None:
            raise DataError(f"{name} has no training part: the names {', '.join(_PARTS[True])} are tried.")
        has_split = (options.validation_split, options.split_seed) != (None, None)
        if test is not None and has_split and not options.is_optional:
            raise ConfigError(f"{name} has a test part of its own: leave out --validation-split and --split-seed.")
        sizes = [picture.size[::-1] for picture, _ in itertools.islice(self._sample(train), _MEASURED)]
        if not sizes:
            raise DataError(f"{name} has no training images.")
        image_size, reason = choose_image_size(sizes, options.image_size)
        self.view = View(image_size)
        self.notes: tuple[str, ...] = (reason,)
        labels = None if self.prefix in _STREAMS else _list_labels(train)
        self.classes = _name_classes(train) or (tuple(map(str, range(max(labels) + 1))) if labels else ())
        self._load: Callable[[bool], ImageSet]
        share, seed = None, None
        if test is not None:
            self._load = cache(lambda is_train: self._read(train if is_train else test))
        else:
            share, seed = 0.2 if options.validation_split is None else options.validation_split, options.split_seed or 0
            whole = cache(lambda: self._read(train))
            if labels is None:  # a stream is read now: its length may be missing or wrong, and its labels are unknown
                stream = whole()
                assert isinstance(stream, InMemoryImages)
                labels = stream.labels
            kept = _draw_test_part(labels, share, seed)
            self._load = lambda is_train: select_images(whole(), [i for i, k in enumerate(kept) if k != is_train])
            self.notes += (
                f"{pluralize(sum(kept), 'picture')} of {len(kept)} are the test part: {100 * share:g} % of each class "
                f"(--validation-split), drawn by --split-seed {seed}",
            )
        if not self.classes:  # a stream tells them by its labels alone
            if labels is None:
                loaded = self._load(True)
                assert isinstance(loaded, InMemoryImages)
                labels = loaded.labels
            self.classes = tuple(map(str, range(max(labels) + 1)))
        if len(self.classes) < 2:
            raise DataError(f"{name} has one class only: at least 2 are needed.")
        self.options = ImageOptions(options.image_size, share, seed)

    def load_images(self, train: bool) -> ImageSet:
        """Load the training or the test part."""
        return self._load(train)

    def _check_package(self) -> None:
        package = _PACKAGES.get(self.prefix)
        if package and importlib.util.find_spec(package.replace("-", "_")) is None:
            raise DataError(f"--dataset {self.name} needs the package {package}: pip install {package}.")
        if self.prefix == "wds" and self.root is None:
            raise ConfigError(f"--dataset {self.name} needs the folder of the shards: give it with --data-dir.")

    def _open(self, train: bool) -> Any:
        """Open a part; return None if there is no test part. A damaged one is an error, never split anew in silence."""
        if self.prefix == "tar":
            root = _find_tar(Path(self.name.removeprefix("tar:")), train)
            return root and self._call(lambda: ImageDataset(root, ReaderImageInTar(str(root))))
        failure: Exception | None = None
        for split in _PARTS[train]:
            try:
                return self._create(split)
            except Exception as error:  # of any library
                failure = failure or error
                if not train and not _is_missing_split(error, split):
                    raise self._describe(error) from error
        if train:
            assert failure is not None
            raise self._describe(failure) from failure
        return None

    def _create(self, split: str) -> Any:
        root = "data" if self.root is None and self.prefix in ("torch", "tfds") else self.root
        return create_dataset(
            self.name, root=None if root is None else str(root), split=split, download=self.download, search_split=False
        )

    def _call(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:  # of any library
            raise self._describe(error) from error

    def _describe(self, error: Exception) -> DataError:
        reason = describe_error(error).splitlines()[0].rstrip(".")
        where = "" if self.prefix == "tar" else " (--data-dir says where its files are, --download fetches them)"
        return DataError(f"{self.name} cannot be read{where}: {reason}.")

    def _sample(self, dataset: Any) -> Iterator[tuple[Image.Image, int]]:
        """Yield some pictures of a part with their labels."""
        if self.prefix in _STREAMS:
            yield from itertools.islice(dataset, _MEASURED)
            return
        pictures = _ReaderPictures(dataset)
        for index in range(0, len(pictures), -(-len(pictures) // _MEASURED)):
            yield self._call(partial(pictures.__getitem__, index))

    def _read(self, dataset: Any) -> ImageSet:
        """Return the images of a part."""
        if self.prefix in _STREAMS:
            return self._read_stream(dataset)
        images = RegisteredImages(_ReaderPictures(dataset), self.name, len(self.classes), lambda: get_scale())

        @cache
        def get_scale() -> ValueScale:
            return measure_scale(images.read_deep_values())

        return ResizedImages(images, self.view)

    def _read_stream(self, dataset: Any) -> InMemoryImages:
        """Read a whole stream into memory, as its pictures cannot be taken by their indices."""
        images: list[Tensor] = []
        labels: list[int] = []
        most = MAX_MEMORY // (3 * self.view.size[0] * self.view.size[1])
        for picture, label in show_progress(dataset, f"reading {self.name}", leave=False):
            images.append(self.view.cut(F.pil_to_tensor(picture.convert("RGB"))))
            labels.append(int(label))
            if len(images) > most:
                raise DataError(
                    f"{self.name} is a stream of more than the {most} pictures that fit into memory at "
                    f"{self.view.size[0]}x{self.view.size[1]} pixels: give a smaller --image-size, or unpack it into "
                    "a folder."
                )
        return InMemoryImages(torch.stack(images), torch.tensor(labels))


class _ReaderPictures:
    """Pictures of a map-style data set of timm or torchvision, upright."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if not hasattr(self.dataset, "reader"):  # of torchvision, whose gray pictures stay gray
            picture, label = self.dataset[index]
            return picture, label
        # timm's own data set takes the next picture for one that it cannot decode; here that is an error.
        file, label = self.dataset.reader[index]
        with file, Image.open(file) as picture:
            upright = ImageOps.exif_transpose(picture)
            return upright if upright.mode[0] in "IF" else convert_to_rgb(upright), label


def _find_tar(path: Path, train: bool) -> Path | None:
    """Return the tar file or the folder of tar files of a part; a path without parts is the training part."""
    if path.is_file():
        return path if train else None
    for name in _PARTS[train]:
        for part in (path / name, path / f"{name}.tar"):
            if part.is_file() or (part.is_dir() and any(part.glob("*.tar"))):
                return part
    if train and any(path.glob("*.tar")):
        return path
    if train:
        raise DataError(f"there is no tar file {path}, and none in such a folder or in its train/: give tar:PATH.")
    return None


def _list_labels(dataset: Any) -> list[int] | None:
    """Return the labels of all pictures, if they can be told without their pixels."""
    reader = getattr(dataset, "reader", dataset)
    labels = getattr(reader, "targets", None)
    if labels is None and hasattr(reader, "label_key"):  # of Hugging Face
        labels = reader.dataset[reader.label_key]
    return None if labels is None else [int(label) for label in labels]


def _name_classes(dataset: Any) -> tuple[str, ...]:
    """Return the names of the classes; nothing if the data set has none."""
    reader = getattr(dataset, "reader", dataset)
    names: Sequence[Any] = getattr(reader, "classes", None) or ()
    numbers: dict[str, int] = getattr(reader, "class_to_idx", None) or getattr(reader, "class_name_to_idx", None) or {}
    if not names:
        names = sorted(numbers, key=lambda name: numbers[name])
    return tuple(", ".join(name) if isinstance(name, tuple) else str(name) for name in names)


def _draw_test_part(labels: Sequence[int], share: float, seed: int) -> list[bool]:
    """Return which pictures are the test part; a class of two and more has at least one of both parts."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "split"))
    order = torch.randperm(len(labels), generator=generator).tolist()
    kept = [False] * len(labels)
    members: dict[int, list[int]] = {}
    for index in order:
        members.setdefault(labels[index], []).append(index)
    for indices in members.values():
        count = round(share * len(indices))
        count = min(max(count, 1), len(indices) - 1) if 0 < share < 1 else count
        for index in indices[:count]:
            kept[index] = True
    return kept
