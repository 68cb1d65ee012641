"""Folders of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from train.data import load_data
from train.folder import FolderImages
from train.images import InMemoryImages, load_into_memory
from train.pictures import ValueScale, View, decode_picture
from zcpt import DataError


def write_picture(path: Path, size: tuple[int, int] = (12, 10), mode: str = "RGB", seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, number in (("train", 4), ("val", 2)):
        for label in ("cat", "dog"):
            for i in range(number):
                write_picture(tmp_path / part / label / f"{i}.png", seed=i)
    return tmp_path


def test_classes_size_and_pictures_are_found(folder: Path) -> None:
    data = load_data(f"folder:{folder}")
    assert data.classes == ("cat", "dog")
    assert data.image_shape == (3, 10, 12)
    assert (len(data.train), len(data.test)) == (8, 4)
    image, label = data.train[5]
    assert label == 1
    expected = np.random.default_rng(1).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)
    mean, std = data.statistics
    pixels = torch.stack([data.train[i][0] for i in range(8)]).double() / 255
    assert mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist())
    assert std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist())


def test_a_folder_named_test_is_preferred_to_val(folder: Path) -> None:
    for label in ("cat", "dog"):
        write_picture(folder / "test" / label / "a.png")
    assert len(load_data(f"folder:{folder}").test) == 2


def test_pictures_of_different_sizes_and_modes_are_brought_to_one_square(folder: Path) -> None:
    write_picture(folder / "train" / "cat" / "large.png", (40, 20))
    write_picture(folder / "train" / "dog" / "grey.png", (9, 30), "L")
    write_picture(folder / "train" / "dog" / "palette.png", (16, 16), "P")
    data = load_data(f"folder:{folder}")
    assert data.image_shape == (3, 10, 10)
    assert all(data.train[i][0].shape == (3, 10, 10) for i in range(len(data.train)))
    assert data.test[0][0].shape == (3, 10, 10)


def test_a_picture_is_scaled_to_cover_the_size_and_cut_at_the_centre(tmp_path: Path) -> None:
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 10:20] = 255
    path = tmp_path / "train" / "a" / "wide.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(wide).save(path)
    images = FolderImages([(str(path), 0)], View((10, 10)))
    assert images[0][0].min() == 255


def test_pictures_are_decoded_on_access_and_kept_if_all_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def count_and_decode(path: str, view: View, scale: ValueScale) -> Tensor:
        decoded.append(path)
        return decode_picture(path, view, scale)

    monkeypatch.setattr("train.folder.decode_picture", count_and_decode)
    images = load_data(f"folder:{folder}").train
    assert len(images) == 8
    assert not decoded
    assert torch.equal(images[5][0], images[5][0])
    assert len(decoded) == 1
    monkeypatch.setattr("train.folder.MAX_MEMORY", 8 * 3 * 120 - 1)
    large = load_data(f"folder:{folder}").train
    assert torch.equal(large[5][0], large[5][0])
    assert len(decoded) == 3


def test_in_memory_decodes_all_pictures_at_once_unless_they_are_too_many(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_data(f"folder:{folder}")
    stored = load_into_memory(data.train)
    assert isinstance(stored, InMemoryImages)
    assert [label for _, label in (stored[i] for i in range(8))] == [0] * 4 + [1] * 4
    assert all(torch.equal(stored[i][0], data.train[i][0]) for i in range(8))
    monkeypatch.setattr("train.folder.MAX_MEMORY", 8 * 3 * 120 - 1)
    large = load_into_memory(load_data(f"folder:{folder}").train)
    assert isinstance(large, FolderImages)
    assert large[5][1] == 1


def test_a_picture_of_absurd_size_is_named_in_the_error(folder: Path) -> None:
    Image.new("1", (20000, 20000)).save(folder / "train" / "cat" / "huge.png")
    with pytest.raises(DataError, match="huge.png cannot be read"):
        _ = load_into_memory(load_data(f"folder:{folder}").train)


def test_one_class_is_not_enough(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write_picture(tmp_path / part / "cat" / "0.png")
    with pytest.raises(DataError, match="has one class only, cat"):
        load_data(f"folder:{tmp_path}")


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"there is no folder {tmp_path}/nowhere"):
        load_data(f"folder:{tmp_path}/nowhere")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no folder train"):
        load_data(f"folder:{tmp_path}")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        load_data(f"folder:{tmp_path}")
    (tmp_path / "train" / "cat").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        load_data(f"folder:{tmp_path}")


def test_training_and_test_must_have_the_same_classes(folder: Path) -> None:
    write_picture(folder / "val" / "zebra" / "0.png")
    with pytest.raises(DataError, match="same classes; only one of them has zebra"):
        load_data(f"folder:{folder}")


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_broken_picture_is_named_in_the_error(folder: Path, content: bytes | None) -> None:
    path = folder / "train" / "dog" / "2.png"
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(DataError, match=rf"the picture {path} cannot be read"):
        _ = load_data(f"folder:{folder}").train[6]
