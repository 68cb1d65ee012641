"""SWAP: in how many ways the units of a network switch over a few images (Peng et al., ICLR 2024)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._registry import Proxy, Weights, register_proxy
from zcpt.proxies._running import copied, draw_weights, mean, norms_as, run
from zcpt.proxies._watching import no_relus, watching_relus
from zcpt.seeding import derive_seed

_WORD = 62
"""Images whose signs go into one integer."""


@register_proxy
class Swap(Proxy):
    """How many different patterns there are among the ReLU units: a unit's pattern is which images it is positive for.

    Every unit of every ReLU that runs on feature maps counts. There are at most 2^images patterns: the supernets of the
    published searches show nearly all of the 65,536 of 16 images, and need more. Weights are N(0, 1), biases 0; the
    score is the mean over repeats, each with weights of its own. BatchNorms use the statistics of the batch.

    Args:
        images: At most so many images are used, the first ones of the batch.
        repeats: How many draws of weights.
        weights: How they are drawn; 'given' takes the network's own.
    """

    name = "swap"
    summary = "how many different patterns the ReLU units show over 16 images, with N(0, 1) weights"
    higher_is_better = True
    min_batch = 2
    norms = "batch"
    cost = 8.0
    paper = "Peng et al., ICLR 2024"

    def __init__(self, images: int = 16, repeats: int = 32, weights: Weights = "normal") -> None:
        if images < 1 or repeats < 1:
            raise ProxyError(f"proxy '{self.name}' needs at least 1 image and 1 repeat, not {images} and {repeats}.")
        self.images, self.repeats, self.weights = images, repeats, weights

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        images = batch.images[: self.images]
        seeds = (derive_seed(batch.seed, "swap", repeat) for repeat in range(self.repeats))
        return mean([self.patterns(net, draw_weights(net, self.weights, seed), images, mixture) for seed in seeds])

    def patterns(
        self, net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None = None
    ) -> int:
        """The number of different patterns over images [B, C, H, W], with these parameters and buffers.

        Raises:
            ProxyError: No ReLU ran on feature maps.
        """
        units: list[Tensor] = []
        with norms_as("batch"), watching_relus(lambda output: units.append(_packed(output > 0))):
            run(net, tensors, images, mixture)
        if not units:
            raise no_relus(net, self.name)
        patterns = torch.cat(units)
        # Rows, which dim=0 asks for, take a hundred times as long as numbers.
        return len(torch.unique(patterns[:, 0]) if patterns.shape[1] == 1 else torch.unique(patterns, dim=0))


def _packed(positive: Tensor) -> Tensor:
    """The bits [B, ...] of every unit as integers [units, words]."""
    words = []
    for rows in positive.flatten(1).split(_WORD):
        word = torch.zeros(rows.shape[1], dtype=torch.int64, device=rows.device)
        for bit, row in enumerate(rows):
            word += row.long() << bit
        words.append(word)
    return torch.stack(words, dim=1)


@register_proxy
class RegularisedSwap(Swap):
    """SWAP x exp(-(P - mu)^2 / sigma), P being the parameters in thousands: it draws a search to networks of a size.

    Parameters that the logits depend on count, so neither those of an auxiliary head nor of removed candidates. mu and
    sigma are targets of the user, in thousands and in thousands squared; the paper's code has no defaults. Ours, 1000
    and 1000^2, favour networks of around a million parameters, such as those of NAS-Bench-201 (0.07 to 1.5 million),
    and halve the score at 0.17 and 1.83 million.

    Args:
        mu: The wanted number of parameters, in thousands.
        sigma: How far from it one may be: at mu +- sqrt(sigma) the factor is 1/e.
        images: As in Swap.
        repeats: As in Swap.
        weights: As in Swap.

    Raises:
        ProxyError: sigma is not positive; from ``score``: the network is so far from mu that the factor is 0.
    """

    name = "swap_reg"
    summary = "swap, made smaller the further the parameters are from a number that is wanted (default: a million)"

    def __init__(
        self,
        mu: float = 1000.0,
        sigma: float = 1e6,
        images: int = 16,
        repeats: int = 32,
        weights: Weights = "normal",
    ) -> None:
        super().__init__(images, repeats, weights)
        if not sigma > 0:
            raise ProxyError(f"sigma of proxy 'swap_reg' must be positive, not {sigma}.")
        self.mu, self.sigma = mu, sigma

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        return super().score(net, batch, mixture) * self.factor(live_parameters(net, batch, mixture) / 1000)

    def factor(self, thousands: float) -> float:
        """By what the score of a network of so many thousand parameters is multiplied.

        Raises:
            ProxyError: It is 0, so that the score would say nothing.
        """
        factor = math.exp(-((thousands - self.mu) ** 2) / self.sigma)
        if not factor:
            raise ProxyError(
                f"proxy 'swap_reg' wants about {self.mu:g} thousand parameters, and the network has {thousands:g} "
                "thousand: make it with another mu and sigma, such as RegularisedSwap(mu=P, sigma=P**2)."
            )
        return factor


def live_parameters(net: nn.Module, batch: Batch, mixture: Mixture | None) -> int:
    """How many parameters the logits depend on; a shared one counts once."""
    tensors = copied(net)
    wanted = [tensor for tensor in tensors.values() if tensor.requires_grad]
    with torch.enable_grad():
        total = run(net, tensors, batch.images[:1], mixture).sum()
    if not total.requires_grad:
        return 0
    gradients = torch.autograd.grad(total, wanted, allow_unused=True)
    return sum(tensor.numel() for tensor, found in zip(wanted, gradients, strict=True) if found is not None)
