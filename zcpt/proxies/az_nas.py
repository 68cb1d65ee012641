"""AZ-NAS: expressivity, progressivity and trainability, block by block (Lee and Ham, CVPR 2024).

Its fourth term, complexity, is the proxy ``macs``. Together the four are a score of a set of networks: the sum over the
terms of ln(rank / networks), the best one having the highest rank. No single network has it.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zcpt.batches import Batch
from zcpt.mixture import Mixture
from zcpt.proxies._blocks import block_outputs
from zcpt.proxies._registry import Proxy, Weights, register_proxy
from zcpt.proxies._running import draw_weights, mean, normal, norms_as
from zcpt.seeding import derive_seed


class _AzNas(Proxy):
    """What the terms have in common: the network, its weights and what it is run on.

    Weights are normal with variance 2 / fan-in, BatchNorms use the statistics of the images, and these are standard
    normal, as many and as large as those of the batch (the paper has 64). Maps are read as [B, C, H, W]: where blocks
    hand on [B, H, W, C], as in Swin transformers, rows of pixels stand for channels.
    """

    higher_is_better = True
    needs = frozenset({"shape"})
    norms = "batch"
    paper = "Lee and Ham, CVPR 2024"

    def __init__(self, weights: Weights = "kaiming") -> None:
        self.weights = weights

    def maps(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> list[Tensor]:
        """What the blocks of the network give on random images."""
        images = normal(batch.images.shape, batch.images, derive_seed(batch.seed, "az_nas", "images"))
        return self.maps_on(net, images, batch.seed, mixture)

    def maps_on(self, net: nn.Module, images: Tensor, seed: int, mixture: Mixture | None = None) -> list[Tensor]:
        """What they give on images [B, C, H, W]: maps."""
        tensors = draw_weights(net, self.weights, derive_seed(seed, "az_nas"))
        with norms_as("batch"):
            return block_outputs(net, tensors, images, mixture, self.name)


@register_proxy
class Expressivity(_AzNas):
    """Sum over the blocks of the entropy of the principal components of what they give: sum of s_l.

    s_l = -sum p ln(p + 1e-8); p are the eigenvalues, by their sum, of the covariance of the channels over images and
    positions. It is at most ln(channels). The first map is that of the stem; ``zcpt.proxies._blocks`` says what a block
    is. nan where a map is constant or not finite.
    """

    name = "az_expressivity"
    summary = "AZ-NAS: entropy of the principal components behind each block, summed"
    cost = 1.5

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        return sum(entropy(maps) for maps in self.maps(net, batch, mixture))


@register_proxy
class Progressivity(_AzNas):
    """The smallest step of the entropy from one block to the next: min of s_l - s_(l-1), s_l as in Expressivity."""

    name = "az_progressivity"
    summary = "AZ-NAS: smallest growth of that entropy from one block to the next"
    cost = 1.5

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        entropies = [entropy(maps) for maps in self.maps(net, batch, mixture)]
        steps = [after - before for before, after in pairwise(entropies)]
        return math.nan if any(map(math.isnan, steps)) else min(steps)


@register_proxy
class Trainability(_AzNas):
    """Mean over the blocks of t_l = 2 - s - 1 / (s + 1e-6), which is 0 at best, where s = 1.

    s is the largest singular value of M = G_in^T G_out / (images x positions): G_out are random signs on what the block
    gives, G_in is what becomes of them, backwards through the block, on what the block before gives. Where the maps
    shrink, the pixels of G_in that make one of G_out are stacked as channels; sizes that do not fit are filled up with
    zeros. -inf where some G_in is G_out itself, as behind a block that does nothing.
    """

    name = "az_trainability"
    summary = "AZ-NAS: how near to 1 the gradient's largest singular value stays through each block"
    needs = frozenset({"shape", "gradients"})
    cost = 4.0

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        with torch.enable_grad():
            maps = self.maps(net, batch, mixture)
            terms = []
            for index, (before, after) in enumerate(pairwise(maps)):
                signs = random_signs(after, derive_seed(batch.seed, "az_nas", "signs", index))
                terms.append(trainability(backwards(before, after, signs), signs))
        return mean(terms)


def entropy(maps: Tensor) -> float:
    """The entropy s_l of maps [B, C, H, W]."""
    rows = maps.detach().movedim(1, -1).flatten(0, -2).double()
    rows = rows - rows.mean(0)
    if not bool(torch.isfinite(rows).all()):
        return math.nan
    eigenvalues = torch.linalg.eigvalsh(rows.T @ rows / len(rows)).clamp(min=0)
    shares = eigenvalues / eigenvalues.sum()
    return float(-(shares * torch.log(shares + 1e-8)).sum())


def random_signs(like: Tensor, seed: int) -> Tensor:
    """-1 and 1 at random, in the shape of a tensor."""
    signs = torch.randint(2, like.shape, generator=torch.Generator().manual_seed(seed), device="cpu") * 2 - 1
    return signs.to(like)


def backwards(before: Tensor, after: Tensor, signs: Tensor) -> Tensor:
    """The vector-Jacobian product of ``signs``, at ``after``, by ``before``; zeros where it does not depend on it."""
    if not after.requires_grad or not before.requires_grad:
        return torch.zeros_like(before)
    (product,) = torch.autograd.grad(after, before, signs, retain_graph=True, materialize_grads=True)
    return product


def trainability(g_in: Tensor, g_out: Tensor) -> float:
    """The term t_l for gradients [B, C, H, W] in front of a block and behind it."""
    if g_in.shape == g_out.shape and bool((g_in == g_out).all()):
        return -math.inf
    if not bool(torch.isfinite(g_in).all()):
        return math.nan
    fitted = _fitted(g_in, g_out.shape[2:])
    rows_in, rows_out = (g.movedim(1, -1).flatten(0, -2).double() for g in (fitted, g_out))
    largest = float(torch.linalg.matrix_norm(rows_in.T @ rows_out / len(rows_out), ord=2))
    return 2 - largest - 1 / (largest + 1e-6)


def _fitted(g_in: Tensor, size: torch.Size) -> Tensor:
    """Maps of another size as maps of this one: the pixels that make one become its channels."""
    if g_in.shape[2:] == size:
        return g_in
    stride = max(-(-before // after) for before, after in zip(g_in.shape[2:], size, strict=True))
    missing = [stride * after - before for before, after in zip(g_in.shape[2:], size, strict=True)]
    return F.pixel_unshuffle(F.pad(g_in, (0, missing[1], 0, missing[0])), stride)
