"""The two measures of TE-NAS: trainability and expressivity of a network (Chen et al., ICLR 2021)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._feature_maps import no_relu_maps_error, observe_relus
from zcpt.proxies._forward import run_network
from zcpt.proxies._images import draw_normal, explain_image_size
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import Proxy, WeightInit, register_proxy
from zcpt.proxies._weights import draw_weights
from zcpt.seeding import derive_seed

_SINGULAR = 1e-13
"""Eigenvalues below this share of the largest one are rounding, of gradients through many layers in float64."""


@register_proxy
class Ntk(Proxy):
    """Condition number of the neural tangent kernel: largest divided by smallest eigenvalue; lower is better.

    The kernel [B, B] holds the inner products of the gradients of two images' summed logits, with respect to all
    parameters whose name contains 'weight', those of BatchNorms included. BatchNorms use the statistics of the batch,
    so the gradient of an image runs through the other images. It is computed in float64: in float32 the smallest
    eigenvalue is mostly rounding. Weights are normal with variance 2 / fan-out. The gradients of all images are kept at
    once: images x weights x 8 bytes.

    inf where the kernel is singular up to rounding: with two equal images, and where nothing stands between a
    BatchNorm without parameters and the global pooling, as in supernets of DARTS and NAS-Bench-1Shot1: over the batch
    the pooled features add up to 0 whatever the weights are, and so do the images' gradients. nan where the kernel is
    zero or not finite (the paper's code puts 100000 there).

    Args:
        repeats: Number of draws of weights, over which the mean is taken.
        weights: Initialisation of the weights; 'given' takes the network's own.
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

    def __init__(self, repeats: int = 3, weights: WeightInit = "kaiming fan-out") -> None:
        if repeats < 1:
            raise ProxyError(f"proxy 'ntk' needs at least 1 repeat, not {repeats}.")
        self.repeats = repeats
        self.weights = weights

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        conditions = []
        for repeat in range(self.repeats):
            tensors = draw_weights(net, self.weights, derive_seed(batch.seed, "ntk", repeat), torch.float64)
            conditions.append(condition_number(self.compute_kernel(net, tensors, batch.images.double(), mixture)))
        return sum(conditions) / len(conditions)

    def compute_kernel(
        self, net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None = None
    ) -> Tensor:
        """Return the kernel [B, B] over images [B, C, H, W], with these parameters and buffers.

        Raises:
            ProxyError: No parameter is a weight.
        """
        weights = {name: tensor for name, tensor in tensors.items() if "weight" in name and tensor.requires_grad}
        if not weights:
            raise ProxyError(f"proxy 'ntk' needs parameters named 'weight', and {type(net).__name__} has none.")
        with torch.enable_grad(), norm_mode("batch"):
            sums = run_network(net, images, mixture, tensors).flatten(1).sum(1)
            if not sums.requires_grad:
                return torch.zeros(len(images), len(images), dtype=torch.float64)
            rows = sums.new_empty(len(sums), sum(weight.numel() for weight in weights.values()), requires_grad=False)
            for row, value in zip(rows, sums, strict=True):
                gradients = torch.autograd.grad(
                    value, list(weights.values()), retain_graph=True, materialize_grads=True
                )
                torch.cat([gradient.flatten() for gradient in gradients], out=row)
        return rows @ rows.T


def condition_number(kernel: Tensor) -> float:
    """Return the largest divided by the smallest eigenvalue of a symmetric positive semi-definite matrix [B, B]."""
    if not bool(torch.isfinite(kernel).all()):
        return math.nan
    eigenvalues = torch.linalg.eigvalsh(kernel)
    largest, smallest = float(eigenvalues[-1]), float(eigenvalues[0])
    if largest <= 0:
        return math.nan
    return largest / smallest if smallest > _SINGULAR * largest else math.inf


@register_proxy
class LinearRegions(Proxy):
    """Number of different activation patterns, i.e. linear regions of the network, among a set of random images.

    The pattern of an image is the set of units that it makes positive, in all ReLUs that run on feature maps. The
    images are standard normal, 3x3 pixels and gray: as in the paper they have one channel, which is repeated for
    networks that read more. The mean is taken over the draws. Weights are normal with variance 2 / fan-in, drawn once
    for each draw of images. BatchNorms use the statistics of the images.

    In a network of more than a few channels every image has a pattern of its own, and the value is ``samples`` whatever
    its operations are. The paper counts on networks, and supernets, of one channel: build yours with ``channels=1``.

    Args:
        samples: Number of images in a draw.
        draws: Number of draws.
        weights: Initialisation of the weights; 'given' takes the network's own.
    """

    name = "linear_regions"
    summary = "number of activation patterns of 1000 tiny random images; for networks of one channel"
    higher_is_better = True
    needs = frozenset({"shape"})
    norms = "batch"
    cost = 1.0
    paper = "Chen et al., ICLR 2021"

    def __init__(self, samples: int = 1000, draws: int = 3, weights: WeightInit = "kaiming") -> None:
        if samples < 1 or draws < 1:
            raise ProxyError(f"proxy 'linear_regions' needs at least 1 sample and 1 draw, not {samples} and {draws}.")
        self.samples = samples
        self.draws = draws
        self.weights = weights

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        counts = []
        for draw in range(self.draws):
            seed = derive_seed(batch.seed, "linear_regions", draw)
            gray = draw_normal((self.samples, 1, 3, 3), batch.images, derive_seed(seed, "images"))
            images = gray.repeat(1, batch.images.shape[1], 1, 1)
            counts.append(self.count_regions(net, draw_weights(net, self.weights, seed), images, mixture))
        return sum(counts) / len(counts)

    def count_regions(
        self, net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None = None
    ) -> int:
        """Return the number of different patterns of images [B, C, H, W], with these parameters and buffers.

        Raises:
            ProxyError: No ReLU ran on feature maps, or the network cannot be run on such small images.
        """
        # Packed, because a thousand images times all units would be large as booleans.
        bits: list[np.ndarray[tuple[int, int], np.dtype[np.uint8]]] = []

        def add_bits(output: Tensor) -> None:
            bits.append(np.packbits((output > 0).flatten(1).cpu().numpy(), axis=1))

        with norm_mode("batch"), observe_relus(add_bits), explain_image_size(self, net, images):
            run_network(net, images, mixture, tensors)
        if not bits:
            raise no_relu_maps_error(net, self.name)
        return len({row.tobytes() for row in np.concatenate(bits, axis=1)})
