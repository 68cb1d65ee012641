"""Trained networks in use: loading one, and its predictions for pictures."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from train.checkpoint import TrainedNetwork, find_weights, load_network
from train.layout import list_pictures
from zcpt.errors import DataError

TOP = 5
"""Classes that a prediction lists."""
BATCH_SIZE = 64
Read = TypeVar("Read")


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

    def read(name: str) -> tuple[str, Tensor | str]:
        """Return the image of a picture, or why it cannot be read."""
        try:
            return name, transform(name)
        except DataError as error:
            return name, str(error)

    # One batch is read while the one before it is computed.
    found = read_ahead(read, pictures, 2 * batch_size)
    while batch := list(islice(found, batch_size)):
        images = [image for _, image in batch if isinstance(image, Tensor)]
        rows = iter(_compute_probabilities(network, images, device))
        for name, image in batch:
            if isinstance(image, Tensor):
                values, classes = next(rows).topk(min(top, len(trained.classes)))
                yield Prediction(name, tuple(trained.classes[c] for c in classes.tolist()), tuple(values.tolist()))
            else:
                yield Prediction(name, error=image)


def read_ahead(read: Callable[[str], Read], names: Iterable[str], ahead: int) -> Generator[Read, None, None]:
    """Yield what a function returns for each name, in order; threads call it for up to ``ahead`` names in advance."""
    with ThreadPoolExecutor(torch.get_num_threads(), "read") as pool:
        waiting: deque[Future[Read]] = deque()
        try:
            for name in names:
                waiting.append(pool.submit(read, name))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # where nobody asks for the rest


@torch.inference_mode()
def _compute_probabilities(network: torch.nn.Module, images: list[Tensor], device: torch.device) -> Tensor:
    """Return the softmax probabilities [B, classes] of images, on the CPU."""
    if not images:
        return torch.empty(0, 0)
    logits = cast(Tensor, network(torch.stack(images).to(device)))
    return logits.float().softmax(1).cpu()
