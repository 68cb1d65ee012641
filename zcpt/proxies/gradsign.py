"""GradSign: whether single images pull the weights the same way (Zhang and Jia, ICLR 2022)."""

from __future__ import annotations

import torch
from torch import nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._running import copied, gradients, loss, norms_as, parts, run, weights_of
from zcpt.proxies._watching import LastMaps


@register_proxy
class GradSign(Proxy):
    """Sum over the weights of |sum over the images of sign(g)|, g being the gradient of a single image's loss.

    Weights are those of convolutions and linear layers. The sum grows with their number: it and ``gradsign_mean``,
    which the authors' code has both, rank differently. BatchNorms use the statistics of the one image. nan where a
    gradient is nan (the authors' code leaves such weights out).

    Raises:
        ProxyError: From ``score``: a BatchNorm sees maps of one pixel; or nothing comes between a BatchNorm and the
            global pooling, as in supernets of DARTS and NAS-Bench-1Shot1, so that a single image's features are 0 and
            its gradients are rounding.
    """

    name = "gradsign"
    summary = "whether single images pull the weights the same way, summed over the weights"
    higher_is_better = True
    min_batch = 2
    needs = frozenset({"images", "labels", "gradients"})
    norms = "batch"
    cost = 3.0
    paper = "Zhang and Jia, ICLR 2022"

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        return self._agreement(net, batch, mixture)[0]

    def _agreement(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> tuple[float, int]:
        """The sum, and over how many weights."""
        tensors = copied(net)
        weights = weights_of(net, tensors, self)
        votes = {layer: torch.zeros_like(weight) for layer, weight in weights.items()}
        for image in parts(batch, len(batch.images)):
            last = LastMaps(image.images)
            with torch.enable_grad(), norms_as("batch"):
                with last.watching():
                    logits = run(net, tensors, image.images, mixture)
                slopes = gradients(loss(self, logits, image.labels), weights)
            if last.averaged_away():
                raise ProxyError(
                    f"proxy '{self.name}' takes the gradients of single images, and the pooling of "
                    f"{type(net).__name__} leaves nothing of one, as a BatchNorm that uses its statistics has just "
                    "made its mean 0: use another proxy, such as zico."
                )
            for layer, slope in slopes.items():
                # torch.sign says 0 of nan.
                votes[layer] += slope.sign().where(~slope.isnan(), slope)
        total = sum(float(vote.abs().sum(dtype=torch.float64)) for vote in votes.values())
        return total, sum(weight.numel() for weight in weights.values())


@register_proxy
class MeanGradSign(GradSign):
    """GradSign by the number of weights: between 0 and the number of images.

    The weights of layers that do not run count too: in a supernet the number is the same under all mixtures. On whole
    networks mind that more weights agree less: on 194 random networks of NAS-Bench-201 (no 'none', 8 channels, one cell
    a stage, 16 images) its rank correlation with the published accuracy was -0.54, that of ``gradsign`` 0.77.
    """

    name = "gradsign_mean"
    summary = "gradsign by the number of weights"

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        total, count = self._agreement(net, batch, mixture)
        return total / count
