"""The two measures of TE-NAS: how well a network can be trained, and how much it can express (Chen et al., ICLR
2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._registry import Proxy, Weights, register_proxy
from zcpt.proxies._running import draw_weights, mean, normal, norms_as, on_images_of_its_own, run
from zcpt.proxies._watching import no_relus, watching_relus
from zcpt.seeding import derive_seed

_SINGULAR = 1e-13
"""Of the largest eigenvalue: what is smaller is rounding, of gradients through many layers in float64."""


@register_proxy
class Ntk(Proxy):
    """Condition number of the neural tangent kernel: largest by smallest eigenvalue; low is good.

    The kernel [B, B] has the inner products of the gradients of two images' summed logits, by all parameters whose name
    contains 'weight', those of BatchNorms included. BatchNorms use the statistics of the batch, and so an image's
    gradient runs through the other ones. It is computed in float64: in float32 the smallest eigenvalue is largely
    rounding. Weights are normal with variance 2 / fan-out. The gradients of all images are kept at once: images x
    weights x 8 bytes.

    inf where the kernel is singular to rounding. It is with two equal images, and where nothing comes
    between a BatchNorm without parameters and the global pooling, as in supernets of DARTS and NAS-Bench-1Shot1: over
    the batch, the pooled features add up to 0 whatever the weights are, and so do the images' gradients. nan where it
    is zero or not finite (the paper's code puts 100000 there).

    Args:
        repeats: Draws of weights, over which the mean is taken.
        weights: How they are drawn; 'given' takes the network's own.
    """

    name = "ntk"
    summary = "condition number of the neural tangent kernel"
    higher_is_better = False
    min_batch = 2
    needs = frozenset({"images", "gradients"})
    norms = "batch"
    dtype = "float64"
    cost = 400.0
    paper = "Chen et al., ICLR 2021"

    def __init__(self, repeats: int = 3, weights: Weights = "kaiming fan-out") -> None:
        if repeats < 1:
            raise ProxyError(f"proxy 'ntk' needs at least 1 repeat, not {repeats}.")
        self.repeats, self.weights = repeats, weights

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        seeds = (derive_seed(batch.seed, "ntk", repeat) for repeat in range(self.repeats))
        draws = (draw_weights(net, self.weights, seed, torch.float64) for seed in seeds)
        return mean([condition(self.compute_kernel(net, draw, batch.images.double(), mixture)) for draw in draws])

    def compute_kernel(
        self, net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None = None
    ) -> Tensor:
        """The kernel [B, B] over images [B, C, H, W], with these parameters and buffers.

        Raises:
            ProxyError: No parameter is a weight.
        """
        weights = {name: tensor for name, tensor in tensors.items() if "weight" in name and tensor.requires_grad}
        if not weights:
            raise ProxyError(f"proxy 'ntk' looks at parameters named 'weight', and {type(net).__name__} has none.")
        with torch.enable_grad(), norms_as("batch"):
            sums = run(net, tensors, images, mixture).flatten(1).sum(1)
            if not sums.requires_grad:
                return torch.zeros(len(images), len(images), dtype=torch.float64)
            rows = sums.new_empty(len(sums), sum(weight.numel() for weight in weights.values()), requires_grad=False)
            for row, value in zip(rows, sums, strict=True):
                slopes = torch.autograd.grad(value, list(weights.values()), retain_graph=True, materialize_grads=True)
                torch.cat([slope.flatten() for slope in slopes], out=row)
        return rows @ rows.T


def condition(kernel: Tensor) -> float:
    """Largest by smallest eigenvalue of a symmetric positive semi-definite matrix [B, B]."""
    if not bool(torch.isfinite(kernel).all()):
        return math.nan
    eigenvalues = torch.linalg.eigvalsh(kernel)
    largest, smallest = float(eigenvalues[-1]), float(eigenvalues[0])
    if largest <= 0:
        return math.nan
    return largest / smallest if smallest > _SINGULAR * largest else math.inf


@register_proxy
class LinearRegions(Proxy):
    """Into how many linear pieces a network cuts a set of random images: its number of different activation patterns.

    An image's pattern is which units of all ReLUs that run on feature maps it makes positive. The images are standard
    normal, 3x3 pixels and gray: as in the paper they have one channel, which is repeated for networks that read more.
    The mean is taken over the draws. Weights are normal with variance 2 / fan-in, drawn once for each draw of images.
    BatchNorms use the statistics of the images.

    A network of more than a few channels tells all images apart, and then the value is ``samples``, whatever its
    operations are. The paper counts on networks, and supernets, of one channel: build yours with ``channels=1``.

    Args:
        samples: Images of a draw.
        draws: How many.
        weights: How they are drawn; 'given' takes the network's own.
    """

    name = "linear_regions"
    summary = "how many activation patterns 1000 tiny random images have; for networks of one channel"
    higher_is_better = True
    needs = frozenset({"shape"})
    norms = "batch"
    cost = 1.0
    paper = "Chen et al., ICLR 2021"

    def __init__(self, samples: int = 1000, draws: int = 3, weights: Weights = "kaiming") -> None:
        if samples < 1 or draws < 1:
            raise ProxyError(f"proxy 'linear_regions' needs at least 1 sample and 1 draw, not {samples} and {draws}.")
        self.samples, self.draws, self.weights = samples, draws, weights

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        counts = []
        for draw in range(self.draws):
            seed = derive_seed(batch.seed, "linear_regions", draw)
            gray = normal((self.samples, 1, 3, 3), batch.images, derive_seed(seed, "images"))
            images = gray.repeat(1, batch.images.shape[1], 1, 1)
            counts.append(self.regions(net, draw_weights(net, self.weights, seed), images, mixture))
        return mean(counts)

    def regions(
        self, net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None = None
    ) -> int:
        """The number of different patterns of images [B, C, H, W], with these parameters and buffers.

        Raises:
            ProxyError: No ReLU ran on feature maps, or the network cannot be run on so small images.
        """
        bits: list[np.ndarray[tuple[int, int], np.dtype[np.uint8]]] = []

        def see(output: Tensor) -> None:
            bits.append(np.packbits((output > 0).flatten(1).cpu().numpy(), axis=1))

        with norms_as("batch"), watching_relus(see), on_images_of_its_own(self, net, images):
            run(net, tensors, images, mixture)
        if not bits:
            raise no_relus(net, self.name)
        return len({row.tobytes() for row in np.concatenate(bits, axis=1)})
