"""ZiCo: gradients that are large and agree between batches (Li et al., ICLR 2023)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.mixture import Mixture
from zcpt.proxies._registry import Proxy, Weights, register_proxy
from zcpt.proxies._running import draw_weights, gradients, loss, norms_as, parts, run, weights_of
from zcpt.seeding import derive_seed


@register_proxy
class Zico(Proxy):
    """Sum over the layers of ln(sum over a layer's weights of mean |g| / sd(g)), as the authors' code computes it.

    g are the gradients of the loss on two batches, here the halves of the batch; sd is that of the population. Weights
    whose sd is 0 are left out, and so are layers that are left with nothing, which those are that do not run. Weights
    are those of convolutions and linear layers, drawn with variance 2 / fan-in; BatchNorms use the statistics of the
    half. Gradients that agree but for rounding make a weight's term arbitrarily large.

    Args:
        weights: How they are drawn; 'given' takes the network's own.
    """

    name = "zico"
    summary = "mean by standard deviation of gradients on two halves of the batch; the authors' code: sd of g"
    higher_is_better = True
    min_batch = 4
    needs = frozenset({"images", "labels", "gradients", "batches"})
    norms = "batch"
    cost = 3.0
    paper = "Li et al., ICLR 2023"

    def __init__(self, weights: Weights = "kaiming") -> None:
        self.weights = weights

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        tensors = draw_weights(net, self.weights, derive_seed(batch.seed, "zico"))
        weights = weights_of(net, tensors, self)
        slopes = []
        for half in parts(batch, 2):
            with torch.enable_grad(), norms_as("batch"):
                found = gradients(loss(self, run(net, tensors, half.images, mixture), half.labels), weights)
            slopes.append(found)
        return sum(self.term(torch.stack([found[layer].double() for found in slopes])) for layer in weights)

    def spread(self, slopes: Tensor) -> Tensor:
        """The standard deviation [...] over batches of gradients [batches, ...]."""
        return slopes.std(0, correction=0)

    def term(self, slopes: Tensor) -> float:
        """What a layer adds whose gradients are [batches, ...]."""
        spread = self.spread(slopes)
        kept = spread != 0  # nan is kept
        total = float((slopes.abs().mean(0)[kept] / spread[kept]).sum())
        return math.log(total) if total else 0.0


@register_proxy
class PaperZico(Zico):
    """ZiCo by the formula of the paper, in which the standard deviation is that of |g|; else as Zico."""

    name = "zico_paper"
    summary = "zico as the paper's formula has it: the standard deviation is that of |g|"

    def spread(self, slopes: Tensor) -> Tensor:
        return super().spread(slopes.abs())
