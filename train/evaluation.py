"""How well a network classifies."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from train.augment import normalisation
from train.images import ImageSet, Statistics, Transformed, count
from zcpt.space import DiscreteNetwork


def measure(
    network: DiscreteNetwork,
    images: ImageSet,
    statistics: Statistics,
    batch_size: int,
    device: torch.device,
    *,
    amp: bool = False,
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy in percent, in evaluation mode, over all images."""
    loader = DataLoader(Transformed(images, v2.Compose(normalisation(statistics))), batch_size)
    network.eval()
    loss, correct = 0.0, 0
    with torch.no_grad():
        for batch, labels in loader:
            with torch.autocast(device.type, torch.bfloat16, enabled=amp):
                logits = cast(Tensor, network(batch.to(device))).float()
            labels = labels.to(device)
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            correct += int((logits.argmax(1) == labels).sum())
    return loss / count(images), 100 * correct / count(images)
