"""GradSign: whether the gradients of single images agree in sign (Zhang and Jia, ICLR 2022)."""

from __future__ import annotations

import torch
from torch import nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._feature_maps import LastMapFinder
from zcpt.proxies._forward import run_network
from zcpt.proxies._gradients import compute_gradients, compute_loss
from zcpt.proxies._images import split_batch
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._weights import clone_tensors, select_layer_weights


@register_proxy
class GradSign(Proxy):
    """Sum over the weights of |sum over the images of sign(g)|, where g is the gradient of a single image's loss.

    Weights are those of convolutions and linear layers. The sum grows with their number; the authors' code has both
    this one and ``gradsign_mean``, and the two rank differently. BatchNorms use the statistics of the one image. nan
    where a gradient is nan (the authors' code leaves such weights out).

    Raises:
        ProxyError: From ``score``: a BatchNorm reads maps of one pixel; or nothing stands between a BatchNorm and the
            global pooling, as in supernets of DARTS and NAS-Bench-1Shot1, so that the features of a single image are 0
            and its gradients are rounding.
    """

    name = "gradsign"
    summary = "agreement in sign of the gradients of single images, summed over the weights"
    higher_is_better = True
    min_batch = 2
    needs = frozenset({"images", "labels", "gradients"})
    norms = "batch"
    cost = 3.0
    paper = "Zhang and Jia, ICLR 2022"

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        return self._sum_agreement(net, batch, mixture)[0]

    def _sum_agreement(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> tuple[float, int]:
        """Return the sum, and the number of weights."""
        tensors = clone_tensors(net)
        weights = select_layer_weights(net, tensors, self)
        sign_sums = {layer: torch.zeros_like(weight) for layer, weight in weights.items()}
        for image in split_batch(batch, len(batch.images)):
            finder = LastMapFinder(image.images)
            with torch.enable_grad(), norm_mode("batch"):
                with finder.observe():
                    logits = run_network(net, image.images, mixture, tensors)
                gradients = compute_gradients(compute_loss(self, logits, image.labels), weights)
            if finder.is_averaged_away():
                raise ProxyError(
                    f"proxy '{self.name}' takes the gradients of single images, and the pooling of "
                    f"{type(net).__name__} leaves nothing of one, because a BatchNorm that uses its statistics has "
                    "just made its mean 0: use another proxy, such as zico."
                )
            for layer, gradient in gradients.items():
                # torch.sign(nan) is 0, which would hide the nan.
                sign_sums[layer] += gradient.sign().where(~gradient.isnan(), gradient)
        total = sum(float(signs.abs().sum(dtype=torch.float64)) for signs in sign_sums.values())
        return total, sum(weight.numel() for weight in weights.values())


@register_proxy
class MeanGradSign(GradSign):
    """GradSign divided by the number of weights: between 0 and the number of images.

    The weights of layers that do not run count too: in a supernet the number is the same under all mixtures. On whole
    networks note that more weights agree less: on 194 random networks of NAS-Bench-201 (no 'none', 8 channels, one cell
    a stage, 16 images) its rank correlation with the published accuracy was -0.54, that of ``gradsign`` 0.77.
    """

    name = "gradsign_mean"
    summary = "gradsign divided by the number of weights"

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        total, count = self._sum_agreement(net, batch, mixture)
        return total / count
