"""Pictures of all formats, depths and orientations, and what is said about those that cannot be read."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as F

from train.data import load_data
from train.folder import FolderImages
from train.pictures import (
    PICTURE_SUFFIXES,
    ValueScale,
    View,
    decode_picture,
    measure_scale,
    read_header,
    read_values,
)
from zcpt import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8)
SIZE = (10, 12)


def save(path: Path, picture: Image.Image, **options: Any) -> str:
    picture.save(path, **options)
    return str(path)


def decode(path: str, scale: ValueScale | None = None) -> np.ndarray[Any, Any]:
    return decode_picture(path, View(read_header(path).size), scale or ValueScale()).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
def test_every_format_is_read(suffix: str, tmp_path: Path) -> None:
    mode = {".pbm": "1", ".pgm": "L"}.get(suffix, "RGB")
    path = save(tmp_path / f"a{suffix}", Image.fromarray(PIXELS).convert(mode))
    image = decode(path)
    assert image.shape == (10, 12, 3)
    if suffix in (".bmp", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".pbm", ".pgm"):
        assert np.array_equal(image, np.asarray(Image.fromarray(PIXELS).convert(mode).convert("RGB")))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr", "LAB"])
def test_opaque_pictures_of_8_bits_are_read_as_pillow_converts_them(mode: str, tmp_path: Path) -> None:
    suffix = "png" if mode in ("1", "L", "P", "RGB", "RGBA", "LA") else "tiff"
    picture = Image.fromarray(PIXELS)
    converted = Image.merge("LAB", picture.split()) if mode == "LAB" else picture.convert(mode)
    path = save(tmp_path / f"a.{suffix}", converted)
    with Image.open(path) as stored:
        assert np.array_equal(decode(path), np.asarray(stored.convert("RGB")))


def jpeg_bytes() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "JPEG")
    return file.getvalue()


def make_png(width: int, height: int, depth: int = 8, kind: int = 2, data: bytes = b"") -> bytes:
    """Make a PNG with any header."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


AVIF = b"\0\0\0 ftypavif\0\0\0\0avifmif1miafMA1B\0\0\0\xebmeta" + bytes(400)
DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "text": b"no picture",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "DDS": b"DDS |\0\0\0\x0f\x10\0\0\x0c\0\0\0\x0c\0\0\0$\0\0\0" + bytes(200),
    "BLP": b"BLP2\x01\x01\0\0\0\x01\0\0\0\x0c\0\0\0\x0c\0\0\0\x94\x04\0\0" + bytes(200),
    "AVIF": AVIF,
    "truncated JPEG": jpeg_bytes()[:300],
    "PNG of absurd width": make_png(100_000, 1_000),
    "PNG of absurd area": make_png(2**31 - 1, 2**31 - 1),
    "PNG of no pixels": make_png(0, 0),
    "PNG without data": make_png(12, 10),
    "PNG of a wrong kind": make_png(12, 10, 8, 9),
    "PNG of 16 bits without data": make_png(12, 10, 16, 2),
    "page of HTML": b"<!DOCTYPE html><html></html>",
    "Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "ZIP": b"PK\x03\x04" + bytes(60),
    "PDF": b"%PDF-1.7\n",
    "FLI": b"\0\0\0\0\x11\xaf" + bytes(200),
    "PSD": b"8BPS\0\x01" + bytes(200),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.filterwarnings("error")
def test_what_cannot_be_decoded_is_one_sentence_with_the_name(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)  # no decoder may start a program
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=rf"the picture {path} cannot be read \([^\n]*\): replace or remove it\."
    ) as caught:
        decode(str(path))
    assert caught.value.__cause__ is not None


def test_damaged_bytes_raise_nothing_else(tmp_path: Path) -> None:
    path, generator = tmp_path / "a.png", random.Random(0)
    sources = []
    for name in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"):
        file = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        given = {"exif": exif} if name in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF") else {}
        Image.fromarray(PIXELS).save(file, name, **given)
        sources.append(file.getvalue())
    file = io.BytesIO()
    Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 99).save(file, "PNG")
    sources.append(file.getvalue())
    refused = 0
    for _ in range(300):
        content = bytearray(generator.choice(sources))
        for _ in range(generator.randint(1, 4)):
            content[generator.randrange(len(content))] = generator.choice(
                (0, 1, 127, 128, 255, generator.randrange(256))
            )
        path.write_bytes(content[: generator.choice((len(content), generator.randrange(len(content))))])
        try:
            header = read_header(str(path))
            assert decode_picture(str(path), View((10, 12)), ValueScale()).shape == (3, 10, 12)
            if header.is_deep:
                read_values(str(path))
        except DataError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright(orientation: int, name: str, tmp_path: Path) -> None:
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :8] = 255  # the corner at the top left
    inverse = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = Image.fromarray(upright)
    if orientation in inverse:
        stored = stored.transpose(inverse[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a", stored, format=name, exif=exif)
    assert read_header(path).size == (16, 32)
    image = decode(path)
    assert image.shape == (16, 32, 3)
    assert image[:8, :8].mean() > 200
    assert image[:, 12:].mean() < 20


def test_damaged_exif_data_leave_a_picture_as_it_is(tmp_path: Path) -> None:
    for i, exif in enumerate([b"Exif\0\0", b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\xff" * 30]):
        path = save(tmp_path / f"{i}.png", Image.fromarray(PIXELS), exif=exif)
        assert np.array_equal(decode(path), PIXELS)


TRANSPARENT: dict[str, Callable[[], Image.Image]] = {
    "RGBA": lambda: Image.new("RGBA", (12, 10), (0, 0, 0, 0)),
    "RGBA over colour": lambda: Image.new("RGBA", (12, 10), (200, 10, 10, 0)),
    "LA": lambda: Image.new("LA", (12, 10), (0, 0)),
    "palette": lambda: Image.new("P", (12, 10), 0),
    "grey with a transparent value": lambda: Image.new("L", (12, 10), 0),
    "RGB with a transparent colour": lambda: Image.new("RGB", (12, 10), (1, 2, 3)),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparent_pictures_are_laid_on_white(name: str, tmp_path: Path) -> None:
    picture = TRANSPARENT[name]()
    options = {"palette": {"transparency": 0}, "grey with a transparent value": {"transparency": 0}}
    options["RGB with a transparent colour"] = {"transparency": (1, 2, 3)}  # type: ignore[dict-item]
    path = save(tmp_path / "a.png", picture, **options.get(name, {}))
    assert (decode(path) == 255).all()


def test_half_transparent_pictures_are_mixed_with_white(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", Image.new("RGBA", (12, 10), (0, 0, 0, 128)))
    assert abs(int(decode(path)[0, 0, 0]) - 127) <= 1


DEEP: dict[str, tuple[Any, str]] = {
    "16 bits": (np.linspace(0, 65535, 120), "png"),
    "12 bits": (np.linspace(0, 4095, 120), "png"),
    "10 bits": (np.linspace(0, 1023, 120), "tiff"),
    "8 bits in 16": (np.linspace(0, 255, 120), "png"),
}


@pytest.mark.parametrize(("values", "suffix"), DEEP.values(), ids=DEEP)
def test_pictures_of_more_than_8_bits_are_scaled_by_the_data(values: Any, suffix: str, tmp_path: Path) -> None:
    stored = values.astype(np.uint16).reshape(10, 12)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(stored))
    assert read_header(path).is_deep
    bits = int(stored.max()).bit_length()
    image = decode(path, measure_scale([read_values(path)]))
    assert np.array_equal(image[..., 0], stored >> (bits - 8))
    assert image.max() == 255


def test_colour_pictures_of_12_bits_are_scaled_by_the_data(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 360).astype(np.uint16).reshape(10, 12, 3)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    path = tmp_path / "a.png"
    path.write_bytes(make_png(12, 10, 16, 2, zlib.compress(rows)))
    assert np.array_equal(read_values(str(path)), values)
    assert np.array_equal(decode(str(path), measure_scale([read_values(str(path))])), values >> 4)


RANGES: dict[str, tuple[list[Any], Any, Any]] = {
    "no pictures": ([], (0, 65535), (0, 1)),
    "one bit too many": ([np.array([[256]])], (0, 511), (0, 1)),
    "32 bits": ([np.array([[2**31 - 1]])], (0, 2**31 - 1), (0, 1)),
    "below 0": ([np.array([[-1000, 3000]])], (-1000, 3000), (0, 1)),
    "black": ([np.array([[0, 0]])], (0, 255), (0, 1)),
    "floats to 1": ([np.array([[0.0, 0.4]])], (0, 65535), (0, 1)),
    "floats to 255": ([np.array([[0.0, 254.5]])], (0, 65535), (0, 255)),
    "other floats": ([np.array([[-2.5, 3.5]])], (0, 65535), (-2.5, 3.5)),
    "one float": ([np.array([[7e3]])], (0, 65535), (7e3, 7001)),
    "both": ([np.array([[4000]]), np.array([[-1.0, 1.0]])], (0, 4095), (-1, 1)),
}


@pytest.mark.parametrize(("pictures", "integers", "floats"), RANGES.values(), ids=RANGES)
def test_the_scale_is_that_of_the_data(pictures: list[Any], integers: Any, floats: Any) -> None:
    scale = measure_scale(pictures)
    assert scale == ValueScale(integers, floats)
    for values in pictures:
        assert scale.to_uint8(values).dtype == np.uint8


def test_values_outside_the_scale_are_clipped() -> None:
    assert ValueScale((0, 4095)).to_uint8(np.array([-5, 0, 4095, 65535])).tolist() == [0, 0, 255, 255]
    assert ValueScale().to_uint8(np.array([-0.5, 0.5, 9.0])).tolist() == [0, 128, 255]


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.tiff", Image.fromarray(np.full((10, 12), np.nan, dtype=np.float32)))
    with pytest.raises(DataError, match=r"a\.tiff cannot be read \(it has values that are not finite numbers\)"):
        decode(path)


@pytest.mark.parametrize("shape", [(1, 100_000), (100_000, 1), (2, 3000), (1, 1)])
@pytest.mark.parametrize("size", [(8, 8), (4, 16)])
def test_long_pictures_are_cropped_in_little_memory(shape: tuple[int, int], size: tuple[int, int]) -> None:
    assert View(size).cut(torch.zeros(3, *shape, dtype=torch.uint8)).shape == (3, *size)


def test_a_folder_of_floating_point_pictures_is_scaled_as_one(tmp_path: Path) -> None:
    for label, values in (("a", (0, 50)), ("b", (50, 100))):
        (tmp_path / label).mkdir()
        for i in range(4):
            grey = np.linspace(*values, 120, dtype=np.float32).reshape(10, 12) * 10
            save(tmp_path / label / f"{i}.tiff", Image.fromarray(grey))
    data = load_data(str(tmp_path))
    assert isinstance(data.train, FolderImages)
    first, last = data.train[0][0], data.train[len(data.train) - 1][0]
    assert (int(first.min()), int(last.max())) == (0, 255)
    assert abs(int(first.max()) - int(last.min())) <= 1
    assert any("scaled by the data" in note for note in data.notes)


def test_colour_tiffs_of_which_the_upper_bits_tell_nothing_are_refused(tmp_path: Path) -> None:
    header = struct.pack("<2sHI", b"II", 42, 8)
    entries = [
        (256, 3, 1, 4), (257, 3, 1, 4), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 300),
        (277, 3, 1, 3), (278, 3, 1, 4), (279, 4, 1, 96),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    content = (header + table).ljust(200, b"\0") + struct.pack("<HHH", 16, 16, 16)
    content = content.ljust(300, b"\0") + np.full(48, 4095, dtype="<u2").tobytes()
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(2):
            (tmp_path / label / f"{i}.tif").write_bytes(content)
    assert read_header(str(tmp_path / "a" / "0.tif")).is_cut
    with pytest.raises(DataError, match="are colour TIFFs that use the lower ones of 16 bits"):
        load_data(str(tmp_path))


def test_a_view_scales_a_picture_beyond_its_crop() -> None:
    """As the usual test pictures of ImageNet: 256 pixels, of which the centre has 224."""
    ramp = torch.linspace(0, 255, 500).round().to(torch.uint8).expand(3, 400, 500)
    ours = View((224, 224), 0.875).cut(ramp)
    usual = F.center_crop(F.resize(ramp, [256], antialias=True), [224, 224])
    assert torch.equal(ours, usual)
    assert int(ours.max()) - int(ours.min()) < int(View((224, 224)).cut(ramp).max()) - int(
        View((224, 224)).cut(ramp).min()
    )
    noise = torch.randint(0, 256, (3, 30, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert not torch.equal(View((20, 20)).cut(noise), View((20, 20), interpolation="bicubic").cut(noise))
