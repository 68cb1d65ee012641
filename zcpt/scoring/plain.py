"""The plain evaluator, which defines what a score is: one forward pass for each mixture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.mixture import Mixture
from zcpt.proxies import Proxy


class PlainEvaluator:
    """Scores any network with any proxy.

    Args:
        net: In evaluation mode.
        proxy: What to measure.
        dtype: To compute in; with another one than float32 convolutions and products are taken in it (autocast).
    """

    def __init__(self, net: nn.Module, proxy: Proxy, dtype: torch.dtype = torch.float32) -> None:
        self.net, self.proxy, self.dtype = net, proxy, dtype

    def score_mixtures(self, mixtures: Sequence[Mixture | None], batch: Batch) -> Tensor:
        """Return the scores [P] of P mixtures on one batch, float64, on the CPU."""
        lower = self.dtype != torch.float32
        with torch.autocast(batch.images.device.type, self.dtype, enabled=lower):
            scores = [self.proxy.score(self.net, batch, mixture) for mixture in mixtures]
        return torch.tensor(scores, dtype=torch.float64, device="cpu")
