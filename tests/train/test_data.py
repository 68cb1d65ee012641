"""Data sets by name."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from train.data import (
    _TORCHVISION,
    DATASETS,
    ImageData,
    _load_digit_images,
    build_scoring_batches,
    load_data,
    register_dataset,
)
from train.images import ImageSet, load_into_memory
from train.layout import Part, read_part
from train.readers import READERS
from zcpt import DataError


def test_digits_are_the_1797_of_scikit_learn_split_evenly() -> None:
    data = load_data("digits")
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert data.image_shape == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    image, label = data.train[0]
    assert image.dtype == torch.uint8
    assert isinstance(label, int)
    both = {data.train[i][0].numpy().tobytes() for i in range(1437)} & {
        data.test[i][0].numpy().tobytes() for i in range(360)
    }
    assert not both
    counts = np.bincount([data.test[i][1] for i in range(360)])
    assert counts.min() >= 34
    assert torch.equal(load_data("digits").train[5][0], data.train[5][0])


def test_statistics_normalise_the_training_images() -> None:
    data = load_data("digits")
    (mean,), (std,) = data.statistics
    pixels = torch.stack([data.train[i][0] for i in range(1437)]) / 255
    assert mean == pytest.approx(pixels.mean().item(), abs=1e-6)
    assert std == pytest.approx(pixels.std(correction=0).item(), abs=1e-6)


def write_cifar(folder: Path, images: int = 20) -> None:
    """Write the files of CIFAR-10 with few images."""
    base = folder / "cifar-10-batches-py"
    base.mkdir(parents=True)
    generator = np.random.default_rng(0)
    names = [name for name, _ in datasets.CIFAR10.train_list + datasets.CIFAR10.test_list]
    for name in names:
        entry = {
            "data": generator.integers(0, 256, (images, 3072), dtype=np.uint8),
            "labels": [i % 10 for i in range(images)],
        }
        (base / name).write_bytes(pickle.dumps(entry))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))


def test_cifar_is_read_from_the_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path)
    monkeypatch.setattr(datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *a: True)
    data = load_data("cifar10", tmp_path)
    assert data.image_shape == (3, 32, 32)
    assert (len(data.train), len(data.test)) == (100, 20)
    assert data.classes == tuple("abcdefghij")
    assert data.statistics[0] == (0.49139968, 0.48215827, 0.44653124)
    raw = datasets.CIFAR10(str(tmp_path))
    assert torch.equal(data.train[7][0], torch.from_numpy(raw.data[7]).permute(2, 0, 1))


class FakeTorchvision:
    """Data set of torchvision that records each read as (training part?, download?)."""

    def __init__(self, complete: bool = True) -> None:
        self.complete = complete
        self.reads: list[tuple[bool, bool]] = []

    def __call__(self, root: str, train: bool = True, split: str = "train", download: bool = False) -> SimpleNamespace:
        train = train and split == "train"
        self.reads.append((train, download))
        if not self.complete and not download:
            raise RuntimeError("Dataset not found or corrupted.")
        labels = [0, 1, 2]
        data = np.zeros((3, 3, 32, 32) if split != "train" else (3, 32, 32, 3), dtype=np.uint8)
        return SimpleNamespace(data=data, targets=labels, labels=labels, classes=["a", "b", "c"])


def use_everything(data: ImageData) -> None:
    """Access all that commands access, in the way of a search and of a training."""
    _ = data.classes, data.image_shape, data.statistics
    for part in (data.train, data.test):
        assert load_into_memory(part) is load_into_memory(part)
    assert len(data.train) >= len(data.test) >= 1


@pytest.mark.parametrize("download", [False, True])
@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_each_part_of_a_torchvision_data_set_is_read_once(
    name: str, download: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTorchvision()
    monkeypatch.setitem(_TORCHVISION, name, (fake, "", ((0.5,) * 3, (0.5,) * 3)))
    data = load_data(name, tmp_path, download)
    assert fake.reads == [(True, False)]  # files that are there are not downloaded, nor hashed for it
    use_everything(data)
    assert fake.reads == [(True, False), (False, False)]


def test_missing_files_are_downloaded_when_the_data_set_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeTorchvision(complete=False)
    monkeypatch.setitem(_TORCHVISION, "cifar10", (fake, "", ((0.5,) * 3, (0.5,) * 3)))
    data = load_data("cifar10", tmp_path, download=True)
    assert fake.reads == [(True, False), (True, True)]
    use_everything(data)
    assert fake.reads[2:] == [(False, False), (False, True)]


def test_each_part_of_the_digits_is_loaded_once_and_on_access(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []

    def load(train: bool) -> ImageSet:
        calls.append(train)
        return _load_digit_images(train)

    monkeypatch.setattr("train.data._load_digit_images", load)
    data = load_data("digits")
    assert not calls
    use_everything(data)
    assert calls == [True, False]


def test_each_part_of_a_registered_data_set_is_loaded_once_and_on_access(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []

    def load(train: bool) -> Any:
        calls.append(train)
        return [(torch.arange(64, dtype=torch.uint8).view(1, 8, 8), 0)] * 3

    monkeypatch.setattr(DATASETS, "_parts", dict(DATASETS._parts))
    register_dataset("ramp")(lambda data_dir, download: ImageData(("a", "b"), load))
    data = load_data("ramp")
    assert not calls
    use_everything(data)
    assert calls == [True, False]


def test_a_folder_is_listed_and_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part, label in product(("train", "test"), "ab"):
        (tmp_path / part / label).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / part / label / "0.png")
    listed: list[Path] = []
    opened: list[str] = []
    open_image = Image.open

    def list_images(folder: Path, other_parts: Sequence[str] = ()) -> Part:
        listed.append(folder)
        return read_part(folder, other_parts)

    def count_and_open(path: str, formats: list[str]) -> Any:
        opened.append(path)
        return open_image(path, formats=formats)

    monkeypatch.setattr("train.layout.read_part", list_images)
    monkeypatch.setattr("train.pictures.Image.open", count_and_open)
    data = load_data(f"folder:{tmp_path}")
    assert (len(data.train), len(data.test)) == (2, 2)
    assert len(listed) == 2
    assert sorted(opened) == sorted(str(path) for path in (tmp_path / "train").rglob("*.png"))  # for their size


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn"])
def test_a_missing_data_set_names_the_path_and_the_flag(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{name} was not found in {tmp_path}.*add --download .*--data-dir"):
        load_data(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_data_set_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(DataError, match="unknown data set 'cifar-10': did you mean 'cifar10'"):
        load_data("cifar-10")


def test_scoring_draws_from_one_half_which_depends_on_the_seed() -> None:
    data = load_data("digits")
    halves = [set(build_scoring_batches(data, seed).indices) for seed in (0, 1)]
    assert [len(half) for half in halves] == [719, 719]
    assert halves[0] != halves[1]
    assert halves[0] == set(build_scoring_batches(data, 0).indices)


def test_scoring_batches_are_normalised_augmented_and_repeatable() -> None:
    batches = build_scoring_batches(load_data("digits"), 0)
    assert (len(batches), batches.num_classes) == (719, 10)
    assert batches.about == {"dataset": "digits", "directory": None, "images": 719}
    one, again, other = batches.draw(500, 3), batches.draw(500, 3), batches.draw(500, 4)
    assert one.images.shape == (500, 1, 8, 8)
    assert torch.equal(one.images, again.images)
    assert torch.equal(one.labels, again.labels)
    assert not torch.equal(one.images, other.images)
    assert abs(one.images.mean().item()) < 0.15
    assert len({tuple(image.flatten().tolist()) for image in one.images}) == 500


def test_every_data_set_is_listed() -> None:
    assert {*DATASETS} - {"parity"} == {"digits", "cifar10", "cifar100", "svhn", "folder:PATH", *READERS}
