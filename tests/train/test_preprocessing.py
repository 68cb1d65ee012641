"""Transform of pictures to the images of a trained network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from train.folder import PictureFolder
from train.images import ImageOptions
from train.loaders import TestOptions, build_test_loader
from train.pictures import ValueScale
from train.preprocessing import PictureTransform, Preprocessing
from zcpt import DataError

STATISTICS = ((0.5, 0.4, 0.3), (0.25, 0.2, 0.15))


def save_pictures(folder: Path) -> None:
    """Save pictures of several sizes, modes and orientations in two classes."""
    draw = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for mode, size in (("RGB", (40, 30)), ("L", (20, 33)), ("P", (31, 31)), ("RGBA", (25, 40)), ("CMYK", (30, 30))):
            channels = {"L": (), "P": (), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
            values = draw.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
            picture = Image.fromarray(values, "L" if mode == "P" else mode)
            (picture.convert("P") if mode == "P" else picture).save(
                folder / name / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
            )
        deep = draw.integers(0, 4096, (24, 36)).astype(np.uint16)  # 12 bits, as of cameras
        Image.fromarray(deep).save(folder / name / "deep.png")
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = Image.fromarray(draw.integers(0, 256, (20, 40, 3), dtype=np.uint8))
        turned.save(folder / name / "turned.jpg", exif=exif)


def test_a_picture_becomes_the_image_of_the_test_loader(tmp_path: Path) -> None:
    save_pictures(tmp_path)
    folder = PictureFolder(tmp_path, ImageOptions((16, 12), 1.0))
    images = folder.load_images(False)
    loader = build_test_loader(images, STATISTICS, TestOptions(64, 0, 0.8, "bicubic"), (16, 12), torch.device("cpu"))
    (batch,) = loader.load_epoch(0)
    transform = PictureTransform((16, 12), STATISTICS, Preprocessing(0.8, "bicubic", folder.scale))
    assert len(images) == 14
    assert folder.scale == ValueScale((0, 4095))
    for (path, _), image in zip(images.samples, batch.images, strict=True):
        assert torch.equal(transform(path), image), path
        with Image.open(path) as picture:
            assert torch.equal(transform(picture), image), path


def test_settings_make_the_round_trip() -> None:
    settings = Preprocessing(0.875, "bicubic", ValueScale((0, 4095), (-1.0, 2.5)))
    assert Preprocessing.from_document(settings.to_document()) == settings


@pytest.mark.parametrize(
    "changes",
    [
        {"test_crop": 0},
        {"test_crop": "1"},
        {"interpolation": "cubic"},
        {"integers": [0, 1.5]},
        {"floats": [1.0, 1.0]},
        {"floats": [0.0, float("inf")]},
        {"floats": 1},
        {"more": 1},
    ],
)
def test_damaged_settings_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        Preprocessing.from_document(Preprocessing().to_document() | changes)


def test_gray_networks_take_gray_images_and_tensors_are_images_too() -> None:
    transform = PictureTransform((8, 8), ((0.5,), (0.25,)), Preprocessing())
    picture = Image.new("RGB", (8, 8), (255, 255, 255))
    assert torch.allclose(transform(picture), torch.full((1, 8, 8), 2.0))
    assert torch.equal(transform(torch.full((1, 9, 9), 255, dtype=torch.uint8)), transform(picture))


@pytest.mark.parametrize("given", [torch.zeros(1, 8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8), 7])
def test_what_is_no_picture_is_refused(given: object) -> None:
    with pytest.raises(DataError, match="uint8 images|is no file"):
        PictureTransform((8, 8), ((0.5,), (0.25,)), Preprocessing())(given)  # type: ignore[arg-type]


def test_a_network_of_two_channels_takes_tensors_only() -> None:
    transform = PictureTransform((4, 4), ((0.5, 0.5), (0.25, 0.25)), Preprocessing())
    with pytest.raises(DataError, match="images of 2 channels"):
        transform(Image.new("RGB", (4, 4)))
    assert transform(torch.zeros(2, 4, 4, dtype=torch.uint8)).shape == (2, 4, 4)
