"""Reading one picture file: any common format, depth and orientation, brought to 8-bit RGB."""

from __future__ import annotations

import struct
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from zcpt.errors import DataError

# Named, because Pillow would try all of its formats: some start other programs (Ghostscript for PostScript), and the
# contents of a file decide, not its name.
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "JPEG2000")
PICTURE_SUFFIXES = tuple(
    f".{ending}"
    for ending in [
        "avif",
        "bmp",
        "gif",
        "jfif",
        "jp2",
        "jpe",
        "jpeg",
        "jpg",
        "pbm",
        "pgm",
        "png",
        "pnm",
        "ppm",
        "tif",
        "tiff",
        "webp",
    ]
)
"""Endings of the names of pictures, in small letters."""
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a picture with this value of the EXIF tag Orientation is turned upright."""
_DAMAGED_EXIF = (SyntaxError, ValueError, TypeError, KeyError, IndexError, AttributeError, OSError, struct.error)
_MAX_ASPECT = 16
"""Longer pictures are cropped before they are scaled, which would else take memory without bound."""


@dataclass(frozen=True)
class View:
    """How an image of any size is brought to one size: scaled to cover it, and cropped at the centre."""

    size: tuple[int, int]
    """Height and width of the result."""
    crop: float = 1.0
    """Sides of the crop as a share of the scaled image's: 0.875 scales to 256 for a crop of 224."""
    interpolation: str = "bilinear"

    def cut(self, image: Tensor) -> Tensor:
        """Bring an image [C, H, W], uint8, to the size, keeping its proportions."""
        if tuple(image.shape[-2:]) == self.size and self.crop == 1:
            return image
        aspect = _MAX_ASPECT * -(-max(self.size) // min(self.size))
        longest = [side * aspect for side in image.shape[-2:]]
        image = F.center_crop(image, [min(image.shape[-2], longest[1]), min(image.shape[-1], longest[0])])
        wanted = [side / self.crop for side in self.size]
        scale = max(wanted[0] / image.shape[-2], wanted[1] / image.shape[-1])
        covering = [max(self.size[i], round(scale * image.shape[i - 2])) for i in (0, 1)]
        mode = InterpolationMode(self.interpolation)
        resized = F.resize(image, covering, interpolation=mode, antialias=True)
        cropped: Tensor = F.center_crop(resized, list(self.size))
        return cropped


@dataclass(frozen=True)
class ValueScale:
    """Values of pictures of more than 8 bits that become 0 and 255.

    The scale is that of the data, not of the file format: cameras and scanners of 10 or 12 bits write files of 16.
    """

    integers: tuple[int, int] = (0, 2**16 - 1)
    floats: tuple[float, float] = (0.0, 1.0)

    def __str__(self) -> str:
        low, high = self.floats
        return f"integers {self.integers[0]} to {self.integers[1]} and floats {low:g} to {high:g} become 0 to 255"

    def to_uint8(self, values: NDArray[np.generic]) -> NDArray[np.uint8]:
        """Bring values to 0 ... 255; those outside the scale are clipped."""
        if np.issubdtype(values.dtype, np.floating):
            low, high = self.floats
            brought = np.round((values.astype(np.float64) - low) * (255 / (high - low)))
            return brought.clip(0, 255).astype(np.uint8)
        start, end = self.integers
        scaled = (values.astype(np.int64) - start) * 256 // (end - start + 1)
        return scaled.clip(0, 255).astype(np.uint8)


DEFAULT_SCALE = ValueScale()


def measure_scale(pictures: Iterable[NDArray[np.generic]]) -> ValueScale:
    """Measure the scale of a sample of pictures: integers by their bits; floats to 1, to 255, or by their range."""
    scale, ranges = ValueScale(), {False: [np.inf, -np.inf], True: [np.inf, -np.inf]}
    for values in pictures:
        seen = ranges[bool(np.issubdtype(values.dtype, np.floating))]
        seen[:] = min(seen[0], float(values.min())), max(seen[1], float(values.max()))
    low, high = ranges[False]
    if low <= high:
        bits = max(8, int(high).bit_length())
        scale = replace(scale, integers=(0, 2**bits - 1) if low >= 0 else (int(low), max(int(high), int(low) + 255)))
    low, high = ranges[True]
    if low <= high and (low < 0 or high > 1):
        within_bytes = low >= 0 and high <= 255
        scale = replace(scale, floats=(0.0, 255.0) if within_bytes else (low, high if high > low else low + 1))
    return scale


@dataclass(frozen=True)
class PictureHeader:
    """What a picture's file says about it."""

    size: tuple[int, int]
    """Height and width, upright."""
    is_deep: bool
    """Its values have more than 8 bits and can be read as such."""
    is_cut: bool
    """Its values have 16 bits, of which Pillow reads the upper 8."""


def read_header(path: str) -> PictureHeader:
    """Read the header of a picture; DataError if it is damaged."""
    with _open_picture(path) as picture:
        is_deep, is_tiff = _is_deep(picture), picture.format == "TIFF"
        is_cut = is_tiff and not is_deep and _has_16_bits(picture)
        height, width = picture.height, picture.width
        # Pillow itself turns TIFFs, and gives their size upright. Its method for PNG would decode the picture.
        if not is_tiff and _read_orientation(Image.Image.getexif, picture) in (5, 6, 7, 8):
            height, width = width, height
        return PictureHeader((height, width), is_deep, is_cut)


def read_values(path: str) -> NDArray[np.generic]:
    """Read the values [H, W] or [H, W, C] of a picture as they are stored; DataError if it is damaged."""
    with _open_picture(path) as picture:
        return _decode_values(picture, path, _is_deep(picture))


def read_picture(path: str, scale: ValueScale) -> Image.Image:
    """Read a picture: upright, RGB, at its own size; transparent pictures are laid on white.

    Args:
        path: File of the picture.
        scale: Scale of pictures of more than 8 bits.

    Raises:
        DataError: The picture cannot be decoded.
    """
    with _open_picture(path) as picture:
        return convert_picture(picture, scale, path)


def convert_picture(picture: Image.Image, scale: ValueScale, path: str = "") -> Image.Image:
    """Convert an open picture as ``read_picture`` does; ``path`` is its file, if it comes from one."""
    is_deep = _is_deep(picture)  # unknown once the picture is decoded, which reading the orientation may do
    orientation = 1 if picture.format == "TIFF" else _read_orientation(type(picture).getexif, picture)
    if is_deep:
        values = scale.to_uint8(_decode_values(picture, path, is_deep))
        picture = Image.fromarray(values[..., 0] if values.shape[2:] == (1,) else values)
    picture = convert_to_rgb(picture)
    if orientation in _TRANSPOSITIONS:
        picture = picture.transpose(_TRANSPOSITIONS[orientation])
    return picture


def decode_picture(path: str, view: View, scale: ValueScale) -> Tensor:
    """Decode a picture to an image [3, H, W], uint8; the arguments and errors are those of ``read_picture``."""
    return view.cut(F.pil_to_tensor(read_picture(path, scale)))


class _IgnoredWarnings:
    """Context in which warnings are ignored, also in several threads at a time.

    ``warnings.catch_warnings`` changes what all threads share: of two that overlap, the second would restore what the
    first has set.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads = 0
        self._filters = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            if not self._threads:
                self._filters.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
            self._threads += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._threads -= 1
            if not self._threads:
                self._filters.close()


_IGNORED_WARNINGS = _IgnoredWarnings()
"""Pillow's, of large pictures and damaged metadata, which do not name the file."""


@contextmanager
def _open_picture(path: str) -> Iterator[Image.Image]:
    """Open a picture, and name it in whatever its decoder raises."""
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]  # an older Pillow lacks some
    try:
        with _IGNORED_WARNINGS, Image.open(path, formats=formats) as picture:
            yield picture
    except UnidentifiedImageError as error:
        known = ", ".join(name for name in formats)
        raise _make_decoding_error(path, f"it is none of {known}, or damaged") from error
    except Exception as error:  # decoders raise errors of any kind
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise _make_decoding_error(path, reason) from error


def _make_decoding_error(path: str, reason: str) -> DataError:
    first_line = (reason.splitlines() or [""])[0].rstrip(".")
    return DataError(f"the picture {path} cannot be read ({first_line}): replace or remove it.")


def _read_orientation(read_exif: Callable[[Image.Image], Image.Exif], picture: Image.Image) -> int:
    """Return the EXIF tag Orientation, 1 if it is missing."""
    try:
        orientation = read_exif(picture).get(ExifTags.Base.Orientation, 1)
    except _DAMAGED_EXIF:
        return 1  # the pixels can be read all the same, and viewers show such a picture as it is stored
    return orientation if isinstance(orientation, int) else 1


def _is_deep(picture: Image.Image) -> bool:
    """Return whether a picture's values have more than 8 bits and can be read as such."""
    if picture.mode.startswith(("I", "F")):
        return True
    # Pillow reads the upper bytes of colour pictures alone.
    return picture.format == "PNG" and _has_16_bits(picture)


def _has_16_bits(picture: Image.Image) -> bool:
    """Return whether the file of a picture that is not decoded yet has 16 bits for each value."""
    return any(";16" in str(tile[3]) for tile in getattr(picture, "tile", ()))


def _decode_values(picture: Image.Image, path: str, is_deep: bool) -> NDArray[np.generic]:
    if path and picture.format == "PNG" and is_deep and not picture.mode.startswith("I"):
        decoded = decode_image(read_file(path), ImageReadMode.UNCHANGED)
        return np.asarray(decoded.permute(1, 2, 0))
    values: NDArray[np.generic] = np.asarray(picture)
    if not np.isfinite(values).all():
        raise ValueError("it has values that are not finite numbers")
    return values


def convert_to_rgb(picture: Image.Image) -> Image.Image:
    """Convert a picture of at most 8 bits to RGB, on white where it is transparent."""
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        if layer.getchannel("A").getextrema()[0] != 255:
            ground = Image.new("RGBA", layer.size, "white")
            ground.alpha_composite(layer)
            return ground.convert("RGB")
    return picture.convert("RGB")
