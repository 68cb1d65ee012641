"""The plain engine, the reference that defines a score: the proxy is computed for each mixture by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.mixture import Mixture
from zcpt.proxies import Proxy
from zcpt.scoring.boundary import compute_score


class PlainEvaluator:
    """Scores any network with any proxy.

    Args:
        net: A network in evaluation mode.
        proxy: The proxy.
        dtype: Type to compute in; a lower precision than float32 applies to convolutions and products (autocast).
    """

    def __init__(self, net: nn.Module, proxy: Proxy, dtype: torch.dtype = torch.float32) -> None:
        self.net = net
        self.proxy = proxy
        self.dtype = dtype

    def score_mixtures(self, mixtures: Sequence[Mixture | None], batch: Batch) -> Tensor:
        """Return the scores [P] of P mixtures on one batch, float64, on the CPU."""
        uses_autocast = self.dtype != torch.float32
        with torch.autocast(batch.images.device.type, self.dtype, enabled=uses_autocast):
            scores = [compute_score(self.proxy, self.net, batch, mixture) for mixture in mixtures]
        return torch.tensor(scores, dtype=torch.float64, device="cpu")
