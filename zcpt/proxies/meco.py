"""MeCo: how little the channels of feature maps correlate, on one random image (Jiang et al., NeurIPS 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._forward import run_network
from zcpt.proxies._images import draw_normal, explain_image_size
from zcpt.proxies._intercept import hook_modules
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._weights import clone_tensors
from zcpt.seeding import derive_seed


@register_proxy
class Meco(Proxy):
    """Sum over all modules of the smallest eigenvalue of the correlations between the channels of their output.

    The image is standard normal, 64x64 pixels with the channels of the batch. Every module counts whenever it runs,
    containers too, so that the output of a container's last child counts again, as in the authors' code. The
    correlation with a constant channel is defined as 0, as by the authors; values that are not finite make the score
    nan (the authors' code puts 0 there). BatchNorms use the statistics of the image. With fewer positions than channels
    the eigenvalue is 0 up to rounding. Channels are the second dimension of any output.

    Args:
        size: Height and width of the image in pixels; 0 takes those of the batch, for networks of a fixed image size.
    """

    name = "meco"
    summary = "smallest eigenvalue of the correlations between channels, summed over all modules"
    higher_is_better = True
    needs = frozenset({"shape"})
    norms = "batch"
    cost = 1.0
    paper = "Jiang et al., NeurIPS 2023"

    def __init__(self, size: int = 64) -> None:
        if size < 0:
            raise ProxyError(f"proxy '{self.name}' needs an image of at least 1 pixel, not {size}.")
        self.size = size

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        channels, *size = batch.images.shape[1:]
        height, width = (self.size, self.size) if self.size else size
        image = draw_normal((1, channels, height, width), batch.images, derive_seed(batch.seed, "meco"))
        return self.sum_eigenvalues(net, image, mixture, batch.seed)

    def sum_eigenvalues(self, net: nn.Module, images: Tensor, mixture: Mixture | None = None, seed: int = 0) -> float:
        """Return the sum over the modules for the first of the images [B, C, H, W].

        The other images only take part in the statistics of BatchNorms.
        """
        # A seed for each module, not for each call: otherwise removing a candidate would change the channels of others.
        indices = {module: index for index, module in enumerate(net.modules())}
        terms: list[float] = []

        def add_term(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor):
                maps = output[0].reshape(len(output[0]), -1) if output[0].ndim else output.reshape(1, -1)
                terms.append(self.compute_term(maps, derive_seed(seed, "channels", indices[module])))

        remedy = f"try another size, such as {type(self).__name__}(size=0), that of the batch, or another proxy"
        with (
            norm_mode("batch"),
            hook_modules(indices, after=add_term),
            explain_image_size(self, net, images, remedy),
        ):
            run_network(net, images, mixture, clone_tensors(net))
        return sum(terms)

    def compute_term(self, maps: Tensor, seed: int) -> float:
        """Return the term of a module whose output is ``maps`` [C, positions]."""
        return smallest_eigenvalue(maps)


@register_proxy
class OptimisedMeco(Meco):
    """MeCo on 8 random channels of each module, times C / 8.

    Modules of fewer than 8 channels use all of them, times 1. A module's channels are the same under every mixture.
    """

    name = "meco_opt"
    summary = "meco on 8 random channels of each module, times its channels / 8"

    _CHANNELS = 8

    def compute_term(self, maps: Tensor, seed: int) -> float:
        channels = len(maps)
        chosen = torch.randperm(channels, generator=torch.Generator().manual_seed(seed), device="cpu")[: self._CHANNELS]
        return smallest_eigenvalue(maps[chosen.to(maps.device)]) * channels / len(chosen)


def smallest_eigenvalue(maps: Tensor) -> float:
    """Return the smallest eigenvalue of the correlations [C, C] between the rows of ``maps`` [C, positions]."""
    centred = maps.double() - maps.double().mean(1, keepdim=True)
    if not bool(torch.isfinite(centred).all()):
        return float("nan")
    norms = centred.norm(dim=1, keepdim=True)
    unit = torch.where(norms > 0, centred / norms, 0.0)  # a constant row has norm 0, and 0 / 0 is nan
    return float(torch.linalg.eigvalsh(unit @ unit.T)[0])
