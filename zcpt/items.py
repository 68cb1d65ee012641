"""Items of data sets that others wrote: their number, and each as an image with its label."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zcpt.errors import ConfigError, DataError, ZcptError, describe_error

_MAX_ITEMS = 10**9
"""Items that a data set can have; drawing from more would take all memory."""


def count_items(dataset: Any, name: str = "the data set") -> int:
    """Return the length of a data set; DataError if it has none that can be used."""
    try:
        count = len(dataset)
    except Exception as error:  # whatever the data set's own code raises
        raise DataError(f"the length of {name} cannot be read: {describe_error(error)}.") from error
    if count > _MAX_ITEMS:
        raise DataError(f"{name} says that it has {count} items, and at most {_MAX_ITEMS} can be used.")
    return count


def read_item(dataset: Any, index: int, name: str = "the data set") -> tuple[Any, Any]:
    """Return image and label of an item as the data set gives them.

    Raises:
        DataError: The data set raises an error, or the item is no pair.
        ZcptError: The data set itself raises one.
    """
    try:
        item = dataset[index]
    except ZcptError:
        raise
    except Exception as error:  # whatever the data set's own code raises
        raise DataError(f"item {index} of {name} cannot be read: {describe_error(error)}.") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        given = f"{len(item)} values" if isinstance(item, tuple | list) else type(item).__name__
        raise DataError(f"the items of {name} must be pairs (image, label), not {given}: wrap the data set.")
    return item[0], item[1]


def read_label(label: Any, index: int, num_classes: int, name: str = "the data set") -> int:
    """Return the label of an item as an int; DataError unless it is one whole number below the number of classes."""
    value = label
    if isinstance(label, Tensor | np.ndarray | np.generic) and not getattr(label, "is_meta", False):
        value = label.item() if np.prod(label.shape) == 1 else label
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or not 0 <= number < num_classes:
        hint = "give the index of the class"
        if hasattr(label, "shape") and label.shape[-1:] == (num_classes,):
            hint = "give the index of the 1 in a one-hot vector, its argmax()"
        raise DataError(
            f"item {index} of {name} has the label {describe_value(label)}: it must be a whole number from 0 to "
            f"{num_classes - 1}, as there are {num_classes} classes: {hint}."
        )
    return number


def read_image(image: Any, index: int, name: str = "the data set") -> Tensor:
    """Return the image of an item as a dense tensor [C, H, W] of torch's default type, without gradient.

    Raises:
        DataError: It is no floating-point tensor or array [C, H, W].
    """
    given = image
    if isinstance(image, np.ndarray) and image.dtype.kind == "f":
        image = torch.from_numpy(np.ascontiguousarray(image, dtype=image.dtype.newbyteorder("=")))
    problem = ""
    if not isinstance(image, Tensor) or not image.is_floating_point() or image.ndim != 3:
        problem = "add a transform"
    elif image.layout != torch.strided:
        problem = "call its to_dense()"
    elif image.is_meta:
        problem = "it has no values"
    elif image.shape[-1] == 3 and min(image.shape[:2]) >= 8:
        problem = "it looks like [H, W, C], so call its permute(2, 0, 1)"
    elif min(image.shape) < 1:
        problem = "it has no pixels"
    if problem:
        raise DataError(
            f"image {index} of {name} is {describe_value(given)}: images must be float tensors [C, H, W], normalised; "
            f"{problem}."
        )
    plain: Tensor = image.detach().to(torch.get_default_dtype())
    return plain


def stack_images(images: Sequence[Tensor], indices: Sequence[int], name: str = "the data set") -> Tensor:
    """Stack images to [B, C, H, W]; DataError if they differ in size or device, or a value is not finite."""
    for image, index in zip(images, indices, strict=True):
        if image.shape != images[0].shape:
            raise DataError(
                f"images must have one size, and image {index} of {name} has {list(image.shape)} where image "
                f"{indices[0]} has {list(images[0].shape)}: add a transform that resizes."
            )
        if image.device != images[0].device:
            raise DataError(
                f"images must lie on one device, and image {index} of {name} is on {image.device} where image "
                f"{indices[0]} is on {images[0].device}."
            )
    stacked = torch.stack(list(images))
    if not stacked.isfinite().all():
        bad = int((~stacked.flatten(1).isfinite().all(1)).nonzero()[0])
        raise DataError(f"image {indices[bad]} of {name} has values that are not finite numbers: mend or remove it.")
    return stacked


def check_num_classes(num_classes: object) -> int:
    """Return the number of classes; ConfigError if it is no whole number of at least 1."""
    if not isinstance(num_classes, int | np.integer) or isinstance(num_classes, bool) or num_classes < 1:
        raise ConfigError(f"num_classes must be a whole number of at least 1, not {num_classes!r}.")
    return int(num_classes)


def describe_value(value: object) -> str:
    """Describe a value for a message: its type and shape, or itself if it is short."""
    if isinstance(value, Tensor):
        layout = "" if value.layout == torch.strided else f" of layout {value.layout}"
        where = f"{layout}{' on meta' if value.is_meta else ''}"
        shown = value.item() if value.ndim == 0 and not where else list(value.shape)
        return f"{value.dtype} tensor {shown}{where}".replace("torch.", "")
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array {list(value.shape)}"
    if isinstance(value, int) and value.bit_length() > 64:
        return f"integer of {value.bit_length()} bits"
    text = ascii(value) if isinstance(value, int | float | str | None) else type(value).__name__
    return text if len(text) <= 40 else f"{text[:40]}..."
