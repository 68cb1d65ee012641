"""ZiCo: gradients that are large and agree between batches (Li et al., ICLR 2023)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.mixture import Mixture
from zcpt.proxies._forward import run_network
from zcpt.proxies._gradients import compute_gradients, compute_loss
from zcpt.proxies._images import split_batch
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import Proxy, WeightInit, register_proxy
from zcpt.proxies._weights import draw_weights, select_layer_weights
from zcpt.seeding import derive_seed


@register_proxy
class Zico(Proxy):
    """Sum over the layers of ln(sum over a layer's weights of mean |g| / sd(g)), as the authors' code computes it.

    g are the gradients of the loss on two batches, here the halves of the batch; sd is that of the population. Weights
    whose sd is 0 are left out, and so are layers with no weight left, e.g. those that do not run. Weights are those of
    convolutions and linear layers, drawn with variance 2 / fan-in; BatchNorms use the statistics of the half. Gradients
    that agree up to rounding make the term of a weight arbitrarily large.

    Args:
        weights: Initialisation of the weights; 'given' takes the network's own.
    """

    name = "zico"
    summary = "mean / standard deviation of gradients on two halves of the batch; the authors' code: sd of g"
    higher_is_better = True
    min_batch = 4
    needs = frozenset({"images", "labels", "gradients", "batches"})
    norms = "batch"
    cost = 3.0
    paper = "Li et al., ICLR 2023"

    def __init__(self, weights: WeightInit = "kaiming") -> None:
        self.weights = weights

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        # Drawn once: the deviation is that between the halves, at the same weights.
        tensors = draw_weights(net, self.weights, derive_seed(batch.seed, "zico"))
        weights = select_layer_weights(net, tensors, self)
        gradients = []
        for half in split_batch(batch, 2):
            with torch.enable_grad(), norm_mode("batch"):
                loss = compute_loss(self, run_network(net, half.images, mixture, tensors), half.labels)
                gradients.append(compute_gradients(loss, weights))
        return sum(
            self.compute_term(torch.stack([by_layer[layer].double() for by_layer in gradients])) for layer in weights
        )

    def compute_deviation(self, gradients: Tensor) -> Tensor:
        """Return the standard deviation [...] over batches of gradients [batches, ...]."""
        return gradients.std(0, correction=0)

    def compute_term(self, gradients: Tensor) -> float:
        """Return the term of a layer from its gradients [batches, ...]."""
        deviation = self.compute_deviation(gradients)
        is_kept = deviation != 0  # nan is kept, and makes the term nan
        total = float((gradients.abs().mean(0)[is_kept] / deviation[is_kept]).sum())
        return math.log(total) if total else 0.0


@register_proxy
class PaperZico(Zico):
    """ZiCo by the formula of the paper, in which the standard deviation is that of |g|; otherwise as Zico."""

    name = "zico_paper"
    summary = "zico by the paper's formula: the standard deviation is that of |g|"

    def compute_deviation(self, gradients: Tensor) -> Tensor:
        return super().compute_deviation(gradients.abs())
