"""Predictions of a trained network for images, and what they amount to: loss, top-1, top-5, accuracy by class."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from train.loaders import EpochLoader
from zcpt.devices import move_images
from zcpt.errors import DataError
from zcpt.processes import SINGLE_PROCESS, ProcessGroup
from zcpt.space import DiscreteNetwork

TOP = 5
"""Predictions of an image among which top-5 accuracy looks for its class."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of a network for N images, in their order."""

    labels: Tensor
    """True classes [N]."""
    predicted: Tensor
    """Predicted classes [N]."""
    confidence: Tensor
    """Softmax probability of the predicted class [N]."""
    losses: Tensor
    """Cross-entropy of each image [N]."""
    in_top: Tensor
    """Whether the true class is among the ``TOP`` that the network finds most probable [N]."""

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return float(self.losses.double().mean())

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy in percent."""
        return 100 * float((self.predicted == self.labels).double().mean())

    @property
    def top5(self) -> float:
        """Top-5 accuracy in percent."""
        return 100 * float(self.in_top.double().mean())

    def count_confusions(self, classes: int) -> NDArray[np.int64]:
        """Return the number of images by true class (row) and predicted class (column)."""
        cells = self.labels * classes + self.predicted
        return np.asarray(torch.bincount(cells, minlength=classes**2).reshape(classes, classes).numpy())

    def find_worst(self, count: int) -> list[int]:
        """Return the indices of the wrong predictions with the highest loss, the worst first."""
        wrong = (self.labels != self.predicted).nonzero().flatten()
        order = self.losses[wrong].nan_to_num(nan=math.inf).argsort(descending=True, stable=True)
        return [int(index) for index in wrong[order[:count]]]

    def measure_classes(self, classes: Sequence[str]) -> list[dict[str, str | int | float]]:
        """Return a row for each class: its images, how many are right, and the class it is most often mistaken for."""
        counts = self.count_confusions(len(classes))
        right, totals = counts.diagonal().copy(), counts.sum(1)
        np.fill_diagonal(counts, 0)
        return [
            {
                "class": name,
                "images": int(totals[index]),
                "correct": int(right[index]),
                "accuracy": 100 * float(right[index]) / int(totals[index]) if totals[index] else math.nan,
                "mistaken_for": classes[int(counts[index].argmax())] if counts[index].any() else "",
            }
            for index, name in enumerate(classes)
        ]


def evaluate_network(
    network: DiscreteNetwork,
    loader: EpochLoader,
    device: torch.device,
    *,
    amp_dtype: torch.dtype | None = None,
    channels_last: bool = False,
    processes: ProcessGroup = SINGLE_PROCESS,
) -> Predictions:
    """Predict the classes of all images of a loader in evaluation mode.

    Args:
        network: Network on ``device``.
        loader: Images to evaluate on, as ``build_test_loader`` makes it; with several processes, the part of this one.
        device: Device to compute on.
        amp_dtype: Type of numbers under torch.autocast; None computes in float32.
        channels_last: Memory format of the images.
        processes: Processes among which the images are divided; all of them return the predictions for all images.
    """
    network.eval()
    with torch.no_grad():
        rows = list(_predict_batches(network, loader, device, amp_dtype, channels_last))
    parts = [row for part in processes.gather(rows) for row in part]
    if not parts:
        raise DataError("there are no images to evaluate on: at least 1 is needed.")
    return Predictions(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _predict_batches(
    network: DiscreteNetwork,
    loader: EpochLoader,
    device: torch.device,
    amp_dtype: torch.dtype | None,
    channels_last: bool,
) -> Iterator[tuple[Tensor, ...]]:
    """Yield for each batch, on the CPU, the tensors that ``Predictions`` takes."""
    for batch in loader.load_epoch(0):
        images = move_images(batch.images, device, channels_last)
        with torch.autocast(device.type, amp_dtype, enabled=amp_dtype is not None):
            logits = cast(Tensor, network(images)).float()
        confidence, predicted = logits.softmax(1).max(1)
        losses = F.cross_entropy(logits, batch.labels, reduction="none")
        top = logits.topk(min(TOP, logits.shape[1]), dim=1).indices
        in_top = (top == batch.labels[:, None]).any(1)
        yield tuple(tensor.cpu() for tensor in (batch.labels, predicted, confidence, losses, in_top))
