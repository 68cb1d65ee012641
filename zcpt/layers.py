"""Layers of the discrete networks of all spaces: drop path and the auxiliary head."""

from __future__ import annotations

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional as F

from zcpt.space import DiscreteNetwork


class DropPath(nn.Module):
    """Drop path: in training, zero the output of an operation for some images, and scale it up for the others."""

    def __init__(self) -> None:
        super().__init__()
        # Declared here and not in the class: torch.jit.script cannot read annotations of classes that are text.
        self.probability: Tensor
        # A tensor, because torch.compile recompiles for every new value of a Python number, here in every epoch. Not
        # persistent, because it is a setting of the training and belongs in no checkpoint.
        self.register_buffer("probability", torch.zeros(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        keep = 1 - self.probability
        # In float32 also under bf16: with its eight bits of precision the probability would be a different one.
        # From a slice, because torch.fx cannot trace torch.rand of a batch size that it does not know.
        uniform = torch.rand_like(x[:, :1, :1, :1], dtype=torch.float32)
        return x * ((uniform < keep) / keep).to(x.dtype)


class DropPathNetwork(DiscreteNetwork):
    """Discrete network with ``DropPath`` after the operations that may be dropped."""

    def set_drop_path(self, probability: float) -> None:
        set_drop_path(self, probability)


def set_drop_path(module: nn.Module, probability: float) -> None:
    """Set the probability of every ``DropPath`` in a module."""
    for layer in module.modules():
        if isinstance(layer, DropPath):
            layer.probability.fill_(probability)


def add_drop_path(operation: nn.Module) -> nn.Module:
    """Return an operation followed by ``DropPath``. An identity is never dropped, as in DARTS."""
    return operation if isinstance(operation, nn.Identity) else nn.Sequential(operation, DropPath())


class AuxiliaryHead(nn.Module):
    """Second classifier that DARTS trains along with the network. It takes maps [B, C, H, W] of any size.

    DARTS pools 5x5 windows at the corners of its 8x8 maps to 2x2; for maps of other sizes the windows are scaled.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.reduce = nn.Sequential(nn.Conv2d(channels, 128, 1, bias=False), nn.BatchNorm2d(128), nn.ReLU(inplace=True))
        self.features = nn.Sequential(nn.Conv2d(128, 768, 2, bias=False), nn.BatchNorm2d(768), nn.ReLU(inplace=True))
        self.classifier: nn.Module = nn.Linear(768, num_classes)

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by one with fresh weights; 0 classes leave an identity."""
        self.classifier = build_classifier(768, num_classes, next(self.parameters()))

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(self.reduce(_pool_corners(F.relu(x))))
        logits: Tensor = self.classifier(x.flatten(1))
        return logits


def remove_auxiliary_norm(network: nn.Module) -> None:
    """Remove the BatchNorm after the auxiliary head's last convolution, which DARTS' ImageNet network does not have."""
    for module in network.modules():
        if isinstance(module, AuxiliaryHead):
            module.features[1] = nn.Identity()


def build_classifier(features: int, num_classes: int, like: Tensor) -> nn.Module:
    """Return a linear layer with fresh weights, of the device and dtype of ``like``; an identity for no classes."""
    if not num_classes:
        return nn.Identity()
    return nn.Linear(features, num_classes, device=like.device, dtype=like.dtype)


@torch.fx.wrap  # one node in graphs of torch.fx, which cannot trace branches on the size
def _pool_corners(x: Tensor) -> Tensor:
    """Pool [B, C, H, W] to [B, C, 2, 2]; 8x8 maps by windows of 5x5 with stride 3."""
    height, width = x.shape[-2:]
    if min(height, width) < 2:
        return F.adaptive_avg_pool2d(x, 2)
    # Windows of 5/8 of a side, rounded up but smaller than the side, so that the four of them differ.
    window = [min(-(-5 * side // 8), side - 1) for side in (height, width)]
    return F.avg_pool2d(x, window, [height - window[0], width - window[1]])
