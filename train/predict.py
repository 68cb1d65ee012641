"""Trained networks in use: loading one, and its predictions for pictures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from train.checkpoint import TrainedNetwork, find_weights, load_network
from train.layout import list_pictures
from zcpt.errors import DataError

TOP = 5
"""Classes that a prediction lists."""
BATCH_SIZE = 64


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of a picture, or why it cannot be read."""

    picture: str
    classes: tuple[str, ...] = ()
    """Names, the most probable first."""
    probabilities: tuple[float, ...] = ()
    error: str = ""

    def to_document(self) -> dict[str, Any]:
        """Return the prediction as JSON can hold it."""
        if self.error:
            return {"picture": self.picture, "error": self.error}
        found = zip(self.classes, self.probabilities, strict=True)
        return {"picture": self.picture, "predictions": [{"class": c, "probability": p} for c, p in found]}


def load(path: str | Path) -> TrainedNetwork:
    """Load a trained network with its classes, and the transform from a picture to the image that it takes.

        trained = zcpt.load("runs/a")
        logits = trained.network(trained.transform("cat.jpg")[None])  # [1, classes]
        trained.classes[logits.argmax()]

    Args:
        path: Folder of a training, or of a search with one training, or a ``model.safetensors``.

    Raises:
        ConfigError: There is no such file, or it is damaged.
        SpaceError: Its space is unknown, or does not have the architecture.
    """
    return load_network(find_weights(path))


def find_pictures(path: str) -> tuple[list[str], Counter[str]]:
    """Return the pictures that a name stands for, and what else a folder holds, by kind.

    Args:
        path: A picture, or a folder, of which all pictures in it and below are meant.

    Raises:
        DataError: A folder cannot be read, or has no picture.
    """
    if not os.path.isdir(path):
        return [path], Counter()
    left_out: Counter[str] = Counter()
    pictures = list_pictures(path, left_out)
    if not pictures:
        raise DataError(f"{path} holds no pictures.")
    return pictures, left_out


def predict_pictures(
    trained: TrainedNetwork,
    pictures: Iterable[str],
    *,
    top: int = TOP,
    batch_size: int = BATCH_SIZE,
    device: torch.device | None = None,
) -> Iterator[Prediction]:
    """Yield the prediction for each picture, in order. A picture that cannot be read does not stop the others.

    Args:
        trained: Trained network.
        pictures: Paths of the pictures.
        top: Number of classes of a prediction.
        batch_size: Pictures that are computed at once.
        device: Device to compute on; the CPU by default.
    """
    device = device or torch.device("cpu")
    network, transform = trained.network.to(device).eval(), trained.transform
    paths = iter(pictures)
    while names := list(islice(paths, batch_size)):
        images: dict[int, Tensor] = {}
        errors: dict[int, str] = {}
        for index, name in enumerate(names):
            try:
                images[index] = transform(name)
            except DataError as error:
                errors[index] = str(error)
        rows = dict(zip(images, _compute_probabilities(network, list(images.values()), device), strict=True))
        for index, name in enumerate(names):
            if index in errors:
                yield Prediction(name, error=errors[index])
            else:
                values, classes = rows[index].topk(min(top, len(trained.classes)))
                yield Prediction(name, tuple(trained.classes[c] for c in classes.tolist()), tuple(values.tolist()))


@torch.inference_mode()
def _compute_probabilities(network: torch.nn.Module, images: list[Tensor], device: torch.device) -> Tensor:
    """Return the softmax probabilities [B, classes] of images, on the CPU."""
    if not images:
        return torch.empty(0, 0)
    logits = cast(Tensor, network(torch.stack(images).to(device)))
    return logits.float().softmax(1).cpu()
