"""Base class of discrete networks, which can be trained."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor, nn

from zcpt.errors import SpaceError


class DiscreteNetwork(nn.Module, ABC):
    """Base class of discrete networks, which can be trained.

    ``forward`` takes images [B, C, H, W] and returns logits [B, classes]. In training mode a network with an auxiliary
    head returns ``(logits, auxiliary logits)``. All networks that come with zcpt also have the methods that follow
    ``set_drop_path``, those of a timm model; in a network of your own they are optional.
    """

    if TYPE_CHECKING:  # torch.jit.script cannot read annotations of classes that are text
        num_features: int
        """Channels of the maps that ``forward_features`` returns."""
        num_classes: int

        def __call__(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]: ...

    @abstractmethod
    def set_drop_path(self, probability: float) -> None:
        """Set the probability with which training drops an operation's output for one image."""

    def set_rising_drop_path(self, probability: float) -> None:
        """Set the same, rising linearly over the blocks from 0 in the first one, as timm does."""
        raise self._build_missing_error("drop path that rises with the depth")

    def set_dropout(self, probability: float) -> None:
        """Set the probability with which training drops an input of the classifier."""
        if probability:
            raise self._build_missing_error("dropout")

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Set whether training computes the maps inside blocks again in the backward pass instead of storing them."""
        if enable:
            raise self._build_missing_error("gradient checkpointing")

    def forward_features(self, images: Tensor) -> Tensor:
        """Compute the last maps [B, F, h, w] of images."""
        raise self._build_missing_error("forward_features")

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        """Compute the logits [B, classes] of the last maps; with ``pre_logits`` the inputs of the classifier."""
        raise self._build_missing_error("forward_head")

    def get_classifier(self) -> nn.Module:
        """Return the last layer, which computes the logits."""
        raise self._build_missing_error("get_classifier")

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by one with fresh weights, also that of the auxiliary head.

        Args:
            num_classes: Number of classes; 0 leaves an identity.
            global_pool: Name of timm's global pooling; an empty string pools nothing, None keeps the present one.
        """
        raise self._build_missing_error("reset_classifier")

    def _build_missing_error(self, what: str) -> SpaceError:
        return SpaceError(f"{type(self).__name__} has no {what}: the author of its search space may add it.")
