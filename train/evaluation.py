"""Loss and accuracy of a trained network."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from train.loaders import load_batches
from zcpt.space import DiscreteNetwork


def evaluate_network(
    network: DiscreteNetwork,
    loader: DataLoader[Any],
    device: torch.device,
    *,
    amp: bool = False,
    channels_last: bool = False,
) -> tuple[float, float]:
    """Evaluate a network in evaluation mode.

    Args:
        network: DiscreteNetwork on ``device``.
        loader: All images to evaluate on, as ``build_test_loader`` makes it.
        device: Device to compute on.
        amp: Compute in bfloat16 under torch.autocast.
        channels_last: Memory format of the images.

    Returns:
        Mean cross-entropy, and accuracy in percent.
    """
    network.eval()
    loss, correct, count = 0.0, 0, 0
    with torch.no_grad():
        for images, labels in load_batches(loader, device, channels_last):
            with torch.autocast(device.type, torch.bfloat16, enabled=amp):
                logits = cast(Tensor, network(images)).float()
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            correct += int((logits.argmax(1) == labels).sum())
            count += len(labels)
    return loss / count, 100 * correct / count
