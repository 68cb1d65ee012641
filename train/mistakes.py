"""Pictures and tables of what a trained network gets wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from torch import Tensor

from train.evaluation import Predictions
from train.images import ImageSet
from zcpt.figures import MISSING, Picture, draw_plain_text
from zcpt.printing import escape_text

_MAX_NUMBERS = 20
"""Largest number of classes for which the confusion picture has numbers."""
_MAX_NAMES = 60
"""Largest number of classes for which it has names."""
_NAME_LENGTH = 18
"""Letters of a class name that a picture shows."""


@draw_plain_text
def draw_confusion(counts: NDArray[np.int64], classes: Sequence[str], title: str = "") -> Picture:
    """Draw a confusion matrix: one row a true class, one column a predicted class, coloured by shares of the row."""
    number = len(classes)
    totals = counts.sum(1, keepdims=True)
    shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    side = min(max(3.0, 0.42 * number), 14.0)
    picture = Picture(side + 2.5, side + 1.8)
    axis = picture.subplots()
    image = axis.imshow(shares, cmap=colormaps["Blues"].with_extremes(bad=MISSING), vmin=0, vmax=1)
    if number <= _MAX_NUMBERS:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.6 else "black"
                axis.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)
    if number <= _MAX_NAMES:
        names = [shorten_name(name) for name in classes]
        axis.set_xticks(range(number), names, rotation=90, fontsize=7)
        axis.set_yticks(range(number), names, fontsize=7)
    axis.set(xlabel="predicted class", ylabel="true class")
    picture.colorbar(image, ax=axis, shrink=0.8, label="share of the images of the true class")
    picture.suptitle(title)
    return picture


@draw_plain_text
def draw_mistakes(
    predictions: Predictions, images: ImageSet, classes: Sequence[str], count: int = 16, title: str = ""
) -> Picture:
    """Draw the images whose wrong predictions have the highest loss, the worst first, with the predicted class."""
    worst = predictions.find_worst(count)
    columns = 4
    rows = max(1, math.ceil(len(worst) / columns))
    picture = Picture(2.0 * columns, 2.35 * rows + 0.4)
    picture.suptitle(title if worst else f"{title}: none")
    axes = list(picture.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, index in zip(axes, worst, strict=False):
        axis.imshow(_convert_image(images[index][0]), cmap="gray", vmin=0, vmax=1)
        true, predicted = (shorten_name(classes[int(c[index])]) for c in (predictions.labels, predictions.predicted))
        text = f"image {index}: {true}\nseen as {predicted}, {100 * float(predictions.confidence[index]):.0f} %"
        axis.set_title(text, fontsize=7)
    return picture


def describe_confusions(counts: NDArray[np.int64], classes: Sequence[str], count: int = 20) -> str:
    """Return the most frequent mistakes as a table in Markdown."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    rows = ["| true class | predicted class | images | of |", "|---|---|---|---|"]
    for true, predicted in (divmod(int(cell), len(classes)) for cell in order):
        if wrong[true, predicted]:
            names = " | ".join(shorten_name(classes[c]).replace("|", "\\|") for c in (true, predicted))
            rows.append(f"| {names} | {wrong[true, predicted]} | {counts[true].sum()} |")
    return "\n".join(rows)


def shorten_name(name: str) -> str:
    """Return the name of a class as a picture can show it: on one line, and not long."""
    text = escape_text(name)
    return text if len(text) <= _NAME_LENGTH else text[: _NAME_LENGTH - 1] + "…"


def _convert_image(image: Tensor) -> NDArray[np.float32]:
    """Convert an image [C, H, W] to [H, W] for one or two channels, else to [H, W, 3], with values from 0 to 1."""
    values = image.float()
    if image.dtype == torch.uint8:
        values = values / 255
    else:
        values = (values - values.min()) / (values.max() - values.min()).clamp_min(1e-12)
    shown = values[0] if len(values) < 3 else values[:3].permute(1, 2, 0)
    return np.asarray(shown.numpy())
