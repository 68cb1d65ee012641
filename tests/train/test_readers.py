"""Data sets that timm reads."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from train.data import get_named_recipe, load_data, name_dataset
from train.images import ImageOptions, InMemoryImages, load_into_memory
from zcpt import ConfigError, DataError


def encode_picture(size: tuple[int, int] = (12, 10), mode: str = "RGB", seed: int = 0) -> bytes:
    """Return the bytes of a picture of this width and height."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "png")
    return file.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def test_a_tar_file_is_split_by_a_seed(tmp_path: Path) -> None:
    files = {f"{label}/{i}.png": encode_picture((12, 10 + i), seed=i) for label in ("cat", "dog") for i in range(5)}
    write_tar(tmp_path / "all.tar", files)
    name = f"tar:{tmp_path}/all.tar"
    data = load_data(name)
    assert data.classes == ("cat", "dog")
    assert data.image_shape == (3, 12, 12)
    assert (len(data.train), len(data.test)) == (8, 2)
    assert sorted(data.test[i][1] for i in range(2)) == [0, 1]
    assert "2 pictures of 10 are the test part: 20 % of each class" in data.notes[1]
    loaded = load_into_memory(data.train)
    assert isinstance(loaded, InMemoryImages)
    assert all(torch.equal(loaded[i][0], data.train[i][0]) for i in range(8))
    again = load_data(name, options=data.options)
    assert all(torch.equal(again.test[i][0], data.test[i][0]) for i in range(2))
    other = load_data(name, options=ImageOptions((6, 6), 0.4, 3))
    assert other.image_shape == (3, 6, 6)
    assert (len(other.train), len(other.test)) == (6, 4)


def test_folders_of_tar_files_are_parts_and_tar_files_classes(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("val", 2)):
        for label in ("cat", "dog"):
            files = {f"{i}.png": encode_picture(mode=("RGB", "L", "RGBA")[i]) for i in range(count)}
            write_tar(tmp_path / part / f"{label}.tar", files)
    data = load_data(f"tar:{tmp_path}")
    assert data.classes == ("cat", "dog")
    assert (len(data.train), len(data.test)) == (6, 4)
    assert {tuple(data.train[i][0].shape) for i in range(6)} == {(3, 10, 12)}
    with pytest.raises(ConfigError, match="has a test part of its own"):
        load_data(f"tar:{tmp_path}", options=ImageOptions(split_seed=1))


def test_damaged_and_missing_tar_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="there is no tar file .*nowhere"):
        load_data(f"tar:{tmp_path}/nowhere")
    (tmp_path / "text.tar").write_text("text")
    with pytest.raises(DataError, match=r"text.tar cannot be read: .*ReadError"):
        load_data(f"tar:{tmp_path}/text.tar")
    write_tar(tmp_path / "bad.tar", {"a/0.png": encode_picture()[:100], "b/0.png": encode_picture()})
    with pytest.raises(DataError, match="bad.tar cannot be read"):
        load_data(f"tar:{tmp_path}/bad.tar")
    write_tar(tmp_path / "one.tar", {"a/0.png": encode_picture(), "a/1.png": encode_picture()})
    with pytest.raises(DataError, match="has one class only"):
        load_data(f"tar:{tmp_path}/one.tar")
    monkeypatch.chdir(tmp_path)
    assert name_dataset("tar:all.tar") == f"tar:{tmp_path}/all.tar"


def test_data_sets_of_torchvision_are_read_by_name(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 6), ("t10k", 4)):
        images = struct.pack(">IIII", 0x803, count, 28, 28) + bytes(range(count)) * 784
        (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, count) + bytes(range(count)))
    data = load_data("torch/mnist", tmp_path)
    assert len(data.classes) == 10
    assert data.image_shape == (1, 28, 28)
    assert (len(data.train), len(data.test)) == (6, 4)
    assert data.test[3][1] == 3
    assert get_named_recipe("torch/mnist") == ""
    with pytest.raises(DataError, match="Unknown torchvision dataset foo"):
        load_data("torch/foo", tmp_path)
    with pytest.raises(DataError, match=r"torch/kmnist cannot be read \(--data-dir says where"):
        load_data("torch/kmnist", tmp_path)


@pytest.mark.parametrize(
    ("name", "package"), [("hfds/a/b", "datasets"), ("wds/a", "webdataset"), ("tfds/a", "tensorflow-datasets")]
)
def test_a_missing_package_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=f"--dataset {name} needs the package {package}: pip install {package}"):
        load_data(name)


class Stream:
    """Stands for a stream of timm; its labels alone tell the classes."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[tuple[Image.Image, int]]:
        for index in range(self.count):
            yield Image.new("RGB", (8 + index % 2, 6), (index, 0, 0)), index % 3


@pytest.mark.parametrize(
    ("message", "has_test_part"),
    [
        ("Unknown split 'SPLIT'. Should be one of ['train'].", False),  # datasets, tensorflow-datasets
        ("split SPLIT not found in info (dict_keys(['train']))", False),  # timm's reader of webdataset
        ("Unknown value 'SPLIT' for argument split. Valid values are ('train',).", False),  # torchvision
        ("the shard SPLIT-3.tar ends unexpectedly", True),
        ("Dataset not found or corrupted. You can use download=True to download it", True),
    ],
)
def test_a_damaged_test_part_is_no_missing_one(
    message: str, has_test_part: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def create(name: str, split: str, **options: Any) -> Stream:
        if split != "train":
            raise RuntimeError(message.replace("SPLIT", split))
        return Stream(10)

    monkeypatch.setattr("train.readers.create_dataset", create)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    if has_test_part:
        with pytest.raises(DataError, match="wds/colours cannot be read"):
            load_data("wds/colours", tmp_path)
    else:
        data = load_data("wds/colours", tmp_path)
        assert (len(data.train), len(data.test)) == (7, 3)  # one of each class is a test picture
        data = load_data("wds/colours", tmp_path, options=ImageOptions(validation_split=1))
        assert (data.classes, len(data.test)) == (("0", "1", "2"), 10)


def test_streams_are_read_into_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def create(name: str, split: str, **options: Any) -> Stream:
        if split == "validation":
            raise RuntimeError("split validation not found")
        return Stream({"train": 7, "test": 3}[split])

    monkeypatch.setattr("train.readers.create_dataset", create)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    data = load_data("wds/colours", tmp_path)
    assert data.classes == ("0", "1", "2")
    assert data.image_shape == (3, 6, 6)
    assert (len(data.train), len(data.test)) == (7, 3)
    assert data.train[5][0][0].unique().tolist() == [5]
    with pytest.raises(ConfigError, match="needs the folder of the shards"):
        load_data("wds/colours")
    monkeypatch.setattr("train.readers.MAX_MEMORY", 6 * 3 * 36)
    with pytest.raises(DataError, match="is a stream of more than the 6 pictures that fit into memory at 6x6"):
        load_data("wds/colours", tmp_path)
