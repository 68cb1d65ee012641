"""Proxies that add up a number for each convolution and linear layer."""

from __future__ import annotations

from abc import abstractmethod

from torch import nn

from zcpt.batches import Batch
from zcpt.mixture import Mixture
from zcpt.proxies._registry import Proxy


class LayerProxy(Proxy):
    """A sum over the layers of a network, whose terms can be looked at."""

    @abstractmethod
    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        """The numbers that ``score`` adds up, by the name of the layer; the network is one in evaluation mode.

        Raises:
            ProxyError: The network has no such layer, or the batch does not do.
        """

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        return float(sum(self.score_layers(net, batch, mixture).values()))
