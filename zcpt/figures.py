"""What all pictures have in common: display in notebooks, PNG bytes, and the look of operations and of differences."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable
from functools import wraps
from typing import NamedTuple, ParamSpec

import matplotlib
from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")

DIFFERENCES = "RdBu"
"""Colour map of differences from a mean: red below it, blue above, which colour-blind readers can tell apart."""
MISSING = "#d9d9d9"
"""Colour of what has no finite value."""
MAX_INCHES = 60.0
"""Largest height of a picture. With the usual 100 dots per inch, viewers and matplotlib can still show it."""


class Picture(Figure):
    """A figure that notebooks display by themselves, also where pyplot was never imported."""

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, min(height, MAX_INCHES)), layout="constrained")

    def _repr_png_(self) -> bytes:
        return encode_png(self)


def draw_plain_text(draw: Callable[Arguments, Picture]) -> Callable[Arguments, Picture]:
    """Decorate a function that draws: a "$" in a name does not begin a formula."""

    @wraps(draw)
    def draw_plainly(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Picture:
        with matplotlib.rc_context({"text.parse_math": False}):
            return draw(*args, **kwargs)

    return draw_plainly


def encode_png(figure: Figure, dpi: int = 100) -> bytes:
    """Return a figure as the bytes of a PNG file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Names in scripts that the font lacks, such as Chinese classes, are drawn as boxes; one warning for each letter
        # would hide everything else.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


class Style(NamedTuple):
    """Look of an operation in every picture of a space."""

    colour: str
    line: str
    marker: str


# Okabe and Ito's colours without yellow, which is faint on white, and with a brown.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def choose_styles(names: Iterable[str]) -> dict[str, Style]:
    """Return a style for each name, by its place among all names: name -> style.

    Neighbours differ in colour, line and marker, so that a line is known without its colour too.
    """
    unique = dict.fromkeys(names)
    return {
        name: Style(
            _COLOURS[index % len(_COLOURS)],
            _LINES[(index + index // len(_COLOURS)) % len(_LINES)],
            _MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)],
        )
        for index, name in enumerate(unique)
    }


def choose_text_colour(value: float, limit: float = 0.6) -> str:
    """Return the colour of a text on the colour map of differences: white on the dark ends of the range -1 to 1."""
    return "white" if abs(value) > limit else "black"
