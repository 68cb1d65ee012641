"""AZ-NAS: expressivity, progressivity and trainability, block by block (Lee and Ham, CVPR 2024).

The fourth term of AZ-NAS, complexity, is the proxy ``macs``. The aggregate ``az_nas`` combines the four: the sum over
the terms of ln(rank / number of networks), where the best network has the highest rank. It compares networks; a single
network has no such score.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zcpt.batches import Batch
from zcpt.mixture import Mixture
from zcpt.proxies._feature_maps import compute_block_outputs
from zcpt.proxies._images import draw_normal
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import Proxy, WeightInit, register_proxy
from zcpt.proxies._weights import draw_weights
from zcpt.seeding import derive_seed


class _AzNasTerm(Proxy):
    """Base of the terms: runs the network on random images and returns the maps between its blocks.

    Weights are normal with variance 2 / fan-in, BatchNorms use the statistics of the images, and the images are
    standard normal, as many and as large as those of the batch (the paper has 64). Maps are read as [B, C, H, W]: where
    blocks return [B, H, W, C], as in Swin transformers, rows of pixels are mistaken for channels.
    """

    higher_is_better = True
    needs = frozenset({"shape"})
    norms = "batch"
    paper = "Lee and Ham, CVPR 2024"

    def __init__(self, weights: WeightInit = "kaiming") -> None:
        self.weights = weights

    def compute_maps(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> list[Tensor]:
        """Return the outputs of the network's blocks on random images."""
        images = draw_normal(batch.images.shape, batch.images, derive_seed(batch.seed, "az_nas", "images"))
        return self.compute_maps_on(net, images, batch.seed, mixture)

    def compute_maps_on(
        self, net: nn.Module, images: Tensor, seed: int, mixture: Mixture | None = None
    ) -> list[Tensor]:
        """Return the outputs of the network's blocks on the given images [B, C, H, W], with weights from a seed."""
        tensors = draw_weights(net, self.weights, derive_seed(seed, "az_nas"))
        with norm_mode("batch"):
            return compute_block_outputs(net, tensors, images, mixture, self.name)


@register_proxy
class Expressivity(_AzNasTerm):
    """Sum over the blocks of s_l, the entropy of the principal components of the block's output.

    s_l = -sum p ln(p + 1e-8), where p are the eigenvalues, divided by their sum, of the covariance of the channels over
    images and positions. It is at most ln(channels). The first map is the output of the stem;
    ``zcpt.proxies._feature_maps`` defines what a block is. nan where a map is constant or not finite.
    """

    name = "az_expressivity"
    summary = "AZ-NAS: entropy of the principal components behind each block, summed"
    cost = 1.5

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        return sum(principal_entropy(maps) for maps in self.compute_maps(net, batch, mixture))


@register_proxy
class Progressivity(_AzNasTerm):
    """Smallest step of the entropy from one block to the next: min of s_l - s_(l-1), with s_l as in Expressivity."""

    name = "az_progressivity"
    summary = "AZ-NAS: smallest growth of that entropy from one block to the next"
    cost = 1.5

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        entropies = [principal_entropy(maps) for maps in self.compute_maps(net, batch, mixture)]
        steps = [after - before for before, after in pairwise(entropies)]
        # min() alone would keep or drop a nan depending on its position.
        return math.nan if any(map(math.isnan, steps)) else min(steps)


@register_proxy
class Trainability(_AzNasTerm):
    """Mean over the blocks of t_l = 2 - s - 1 / (s + 1e-6), whose maximum is 0, at s = 1.

    s is the largest singular value of M = G_in^T G_out / (images x positions), where G_out are random signs on the
    block's output, and G_in is their gradient with respect to the output of the block before. Where the maps shrink,
    the pixels of G_in that become one pixel of G_out are stacked as channels; sizes that do not divide are padded with
    zeros. -inf where some G_in equals its G_out, e.g. behind a block that does nothing.
    """

    name = "az_trainability"
    summary = "AZ-NAS: closeness to 1 of the gradient's largest singular value through each block"
    needs = frozenset({"shape", "gradients"})
    cost = 4.0

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        with torch.enable_grad():
            maps = self.compute_maps(net, batch, mixture)
            terms = []
            for index, (before, after) in enumerate(pairwise(maps)):
                signs = draw_signs(after, derive_seed(batch.seed, "az_nas", "signs", index))
                terms.append(trainability_term(backpropagate(before, after, signs), signs))
        return sum(terms) / len(terms)


def principal_entropy(maps: Tensor) -> float:
    """Return the entropy s_l of maps [B, C, H, W]."""
    rows = maps.detach().movedim(1, -1).flatten(0, -2).double()
    rows = rows - rows.mean(0)
    if not bool(torch.isfinite(rows).all()):
        return math.nan
    eigenvalues = torch.linalg.eigvalsh(rows.T @ rows / len(rows)).clamp(min=0)
    shares = eigenvalues / eigenvalues.sum()
    return float(-(shares * torch.log(shares + 1e-8)).sum())


def draw_signs(like: Tensor, seed: int) -> Tensor:
    """Draw -1 and 1 with equal probability, in the shape and type of a tensor."""
    signs = torch.randint(2, like.shape, generator=torch.Generator().manual_seed(seed), device="cpu") * 2 - 1
    return signs.to(like)


def backpropagate(before: Tensor, after: Tensor, signs: Tensor) -> Tensor:
    """Return the vector-Jacobian product of ``signs``, at ``after``, with respect to ``before``; zeros if independent.

    Args:
        before: Input of a block, or an earlier tensor.
        after: Output of the block.
        signs: Vector, in the shape of ``after``.
    """
    if not after.requires_grad or not before.requires_grad:
        return torch.zeros_like(before)
    # The graph is kept: that of a later block contains it.
    (product,) = torch.autograd.grad(after, before, signs, retain_graph=True, materialize_grads=True)
    return product


def trainability_term(g_in: Tensor, g_out: Tensor) -> float:
    """Return the term t_l for gradients [B, C, H, W] before and behind a block."""
    if g_in.shape == g_out.shape and bool((g_in == g_out).all()):
        return -math.inf
    if not bool(torch.isfinite(g_in).all()):
        return math.nan
    stacked = _stack_pixels(g_in, g_out.shape[2:])
    rows_in, rows_out = (g.movedim(1, -1).flatten(0, -2).double() for g in (stacked, g_out))
    largest = float(torch.linalg.matrix_norm(rows_in.T @ rows_out / len(rows_out), ord=2))
    return 2 - largest - 1 / (largest + 1e-6)


def _stack_pixels(maps: Tensor, size: torch.Size) -> Tensor:
    """Return maps resized to ``size``: the pixels that become one are stacked as its channels, e.g. 2x2 as 4."""
    if maps.shape[2:] == size:
        return maps
    stride = max(-(-before // after) for before, after in zip(maps.shape[2:], size, strict=True))  # rounded up
    missing = [stride * after - before for before, after in zip(maps.shape[2:], size, strict=True)]
    return F.pixel_unshuffle(F.pad(maps, (0, missing[1], 0, missing[0])), stride)
