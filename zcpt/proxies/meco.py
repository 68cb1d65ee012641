"""MeCo: how little the channels of feature maps are correlated, on one random image (Jiang et al., NeurIPS 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._running import copied, normal, norms_as, observing, on_images_of_its_own, run
from zcpt.seeding import derive_seed


@register_proxy
class Meco(Proxy):
    """Sum over all modules of the smallest eigenvalue of the correlations between the channels that a module gives.

    The image is standard normal, 64x64 pixels with the channels of the batch. Every module counts whenever it runs,
    containers too, so that what a container's last child gives counts again, as in the authors' code. A correlation
    that there is none of, of a channel that is constant, is 0, which is the authors' definition; what is not finite
    makes the value nan (the authors' code puts 0 there). BatchNorms use the statistics of the image. Where there are
    fewer positions than channels the eigenvalue is 0 but for rounding. Channels are the second dimension, whatever a
    module gives.

    Args:
        size: Height and width of the image; 0 takes those of the batch, for networks that have a size of their own.
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
        image = normal((1, channels, height, width), batch.images, derive_seed(batch.seed, "meco"))
        return self.eigenvalues(net, image, mixture, batch.seed)

    def eigenvalues(self, net: nn.Module, images: Tensor, mixture: Mixture | None = None, seed: int = 0) -> float:
        """The sum for the first of some images [B, C, H, W]; the others take part in BatchNorms' statistics."""
        indices = {module: index for index, module in enumerate(net.modules())}
        found: list[float] = []

        def see(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            if isinstance(output, Tensor):
                maps = output[0].reshape(len(output[0]), -1) if output[0].ndim else output.reshape(1, -1)
                found.append(self.term(maps, derive_seed(seed, "channels", indices[module])))

        remedy = f"try another size, such as {type(self).__name__}(size=0), that of the batch, or another proxy"
        with norms_as("batch"), observing(indices, see), on_images_of_its_own(self, net, images, remedy):
            run(net, copied(net), images, mixture)
        return sum(found)

    def term(self, maps: Tensor, seed: int) -> float:
        """What a module adds that gives ``maps`` [C, positions]."""
        return smallest_eigenvalue(maps)


@register_proxy
class OptimisedMeco(Meco):
    """MeCo on 8 random channels of each module, times a share of the channels: C / 8.

    Where there are fewer than 8 channels, it is on all of them, times 1. A module has the same channels whatever the
    mixture is.
    """

    name = "meco_opt"
    summary = "meco on 8 random channels of each module, times its channels / 8"

    _CHANNELS = 8

    def term(self, maps: Tensor, seed: int) -> float:
        channels = len(maps)
        chosen = torch.randperm(channels, generator=torch.Generator().manual_seed(seed), device="cpu")[: self._CHANNELS]
        return smallest_eigenvalue(maps[chosen.to(maps.device)]) * channels / len(chosen)


def smallest_eigenvalue(maps: Tensor) -> float:
    """The smallest eigenvalue of the correlations [C, C] between the rows of ``maps`` [C, positions]."""
    centred = maps.double() - maps.double().mean(1, keepdim=True)
    if not bool(torch.isfinite(centred).all()):
        return float("nan")
    norms = centred.norm(dim=1, keepdim=True)
    unit = torch.where(norms > 0, centred / norms, 0.0)
    return float(torch.linalg.eigvalsh(unit @ unit.T)[0])
