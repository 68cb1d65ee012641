"""SWAP: the number of different activation patterns of a network's units over a few images (Peng et al., ICLR 2024)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._feature_maps import no_relu_maps_error, observe_relus
from zcpt.proxies._forward import run_network
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import Proxy, WeightInit, register_proxy
from zcpt.proxies._weights import clone_tensors, draw_weights
from zcpt.seeding import derive_seed

_BITS = 62
"""Images whose signs are packed into one int64, below its sign bit."""


@register_proxy
class Swap(Proxy):
    """Number of different patterns among the ReLU units; a unit's pattern is the set of images on which it is positive.

    Every unit of every ReLU that runs on feature maps counts. There are at most 2^images patterns: the supernets of the
    published searches have nearly all of the 65,536 of 16 images, and need more images. Weights are N(0, 1), biases 0;
    the score is the mean over repeats, each with weights of its own. BatchNorms use the statistics of the batch.

    Args:
        images: Largest number of images used; the first ones of the batch are taken.
        repeats: Number of draws of weights.
        weights: Initialisation of the weights; 'given' takes the network's own.
    """

    name = "swap"
    summary = "number of different patterns of the ReLU units over 16 images, with N(0, 1) weights"
    higher_is_better = True
    min_batch = 2
    norms = "batch"
    cost = 8.0
    paper = "Peng et al., ICLR 2024"

    def __init__(self, images: int = 16, repeats: int = 32, weights: WeightInit = "normal") -> None:
        if images < 1 or repeats < 1:
            raise ProxyError(f"proxy '{self.name}' needs at least 1 image and 1 repeat, not {images} and {repeats}.")
        self.images = images
        self.repeats = repeats
        self.weights = weights

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        images = batch.images[: self.images]
        total = 0
        for repeat in range(self.repeats):
            tensors = draw_weights(net, self.weights, derive_seed(batch.seed, "swap", repeat))
            total += self.count_patterns(net, tensors, images, mixture)
        return total / self.repeats

    def count_patterns(
        self, net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None = None
    ) -> int:
        """Return the number of different patterns over images [B, C, H, W], with these parameters and buffers.

        Raises:
            ProxyError: No ReLU ran on feature maps.
        """
        units: list[Tensor] = []
        with norm_mode("batch"), observe_relus(lambda output: units.append(_pack_bits(output > 0))):
            run_network(net, images, mixture, tensors)
        if not units:
            raise no_relu_maps_error(net, self.name)
        patterns = torch.cat(units)
        # With dim=0 torch.unique compares rows, which takes a hundred times as long as comparing numbers.
        return len(torch.unique(patterns[:, 0]) if patterns.shape[1] == 1 else torch.unique(patterns, dim=0))


def _pack_bits(positive: Tensor) -> Tensor:
    """Pack the bits [B, ...] of every unit into integers [units, words]."""
    words = []
    for rows in positive.flatten(1).split(_BITS):
        word = torch.zeros(rows.shape[1], dtype=torch.int64, device=rows.device)
        for bit, row in enumerate(rows):
            word += row.long() << bit
        words.append(word)
    return torch.stack(words, dim=1)


@register_proxy
class RegularisedSwap(Swap):
    """SWAP x exp(-(P - mu)^2 / sigma), where P is the number of parameters in thousands: favours a size of networks.

    Parameters that the logits depend on count, so neither those of an auxiliary head nor of removed candidates. mu and
    sigma are targets of the user, in thousands and in thousands squared; the paper's code has no defaults. Ours, 1000
    and 1000^2, favour networks of around a million parameters, such as those of NAS-Bench-201 (0.07 to 1.5 million),
    and halve the score at 0.17 and 1.83 million.

    Args:
        mu: Target number of parameters, in thousands.
        sigma: Tolerance: at mu +- sqrt(sigma) the factor is 1/e.
        images: As in Swap.
        repeats: As in Swap.
        weights: As in Swap.

    Raises:
        ProxyError: sigma is not positive; from ``score``: the network is so far from mu that the factor is 0.
    """

    name = "swap_reg"
    summary = "swap, reduced the further the number of parameters is from a target (default: a million)"

    def __init__(
        self,
        mu: float = 1000.0,
        sigma: float = 1e6,
        images: int = 16,
        repeats: int = 32,
        weights: WeightInit = "normal",
    ) -> None:
        super().__init__(images, repeats, weights)
        if not sigma > 0:
            raise ProxyError(f"sigma of proxy 'swap_reg' must be positive, not {sigma}.")
        self.mu = mu
        self.sigma = sigma

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        parameters = count_live_parameters(net, batch, mixture)
        return super().score(net, batch, mixture) * self.compute_factor(parameters / 1000)

    def compute_factor(self, thousands: float) -> float:
        """Return the factor on the score of a network of so many thousand parameters.

        Raises:
            ProxyError: It is 0, which would make all scores equal.
        """
        factor = math.exp(-((thousands - self.mu) ** 2) / self.sigma)
        if not factor:
            raise ProxyError(
                f"proxy 'swap_reg' targets about {self.mu:g} thousand parameters, and the network has {thousands:g} "
                "thousand: create it with another mu and sigma, such as RegularisedSwap(mu=P, sigma=P**2)."
            )
        return factor


def count_live_parameters(net: nn.Module, batch: Batch, mixture: Mixture | None) -> int:
    """Return the number of parameters that the logits depend on; a shared one counts once."""
    tensors = clone_tensors(net)
    parameters = [tensor for tensor in tensors.values() if tensor.requires_grad]
    with torch.enable_grad():
        total = run_network(net, batch.images[:1], mixture, tensors).sum()
    if not total.requires_grad:
        return 0
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    return sum(tensor.numel() for tensor, gradient in zip(parameters, gradients, strict=True) if gradient is not None)
