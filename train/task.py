"""Task of a training, in the terms of timm: the network and its loss."""

from __future__ import annotations

import torch
from timm.task import ClassificationTask
from torch import Tensor, nn

from train.recipe import TrainConfig


class AuxiliaryTask(ClassificationTask):  # type: ignore[misc]  # timm has no types
    """Classification by a network that may have an auxiliary head, as DARTS trains it.

    Args:
        network: Network; with an auxiliary head it returns (logits, auxiliary logits) in training mode.
        config: Settings.
        device: Device of the network.
    """

    def __init__(self, network: nn.Module, config: TrainConfig, device: torch.device) -> None:
        # For classes and for the probabilities of mixup alike, which timm has three losses for.
        super().__init__(
            network, nn.CrossEntropyLoss(label_smoothing=config.label_smoothing), device=device, verbose=False
        )
        self.auxiliary_weight = config.auxiliary_weight

    def forward(self, input: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return 'loss', which is minimised, 'main_loss' without the auxiliary head, and 'output', the logits.

        Args:
            input: Images [b, C, H, W].
            target: Classes [b] or probabilities [b, classes].
        """
        output = self.trainable_module(input)
        if not isinstance(output, tuple):
            loss = self.criterion(output, target)
            return {"loss": loss, "main_loss": loss, "output": output}
        logits, auxiliary = output
        loss = self.criterion(logits, target)
        total = loss + self.auxiliary_weight * self.criterion(auxiliary, target)
        return {"loss": total, "main_loss": loss, "output": logits}
