"""Proxies of the Jacobian: how the sum of the logits depends on the pixels, image by image."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._running import copied, gradients, norms_as, run

_SMALL = 1e-5
_MANY_CLASSES = 100


def jacobian(net: nn.Module, images: Tensor, mixture: Mixture | None) -> tuple[Tensor, Tensor]:
    """The derivatives [B, pixels], float64, of the sum of the logits by the pixels of each image, and the logits.

    BatchNorms use the statistics of the batch, and what an image changes in the logits of others is included.
    """
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad(), norms_as("batch"):
        logits = run(net, copied(net, gradients=False), leaf, mixture)
        (slopes,) = gradients(logits.sum(), {"images": leaf}).values()
    return slopes.flatten(1).double(), logits.detach()


class _OfJacobian(Proxy):
    higher_is_better = True
    min_batch = 2
    needs = frozenset({"images", "gradients"})
    norms = "batch"
    cost = 3.0


@register_proxy
class JacobCov(_OfJacobian):
    """-sum of ln(v + 1e-5) + 1 / (v + 1e-5) over the eigenvalues v of the correlation of the images' Jacobians.

    The published code takes the eigenvalues by a solver for any matrix. Here it is one for symmetric matrices, and
    those that rounding has made negative are 0; on regular matrices both agree. nan where an image's Jacobian is
    constant.
    """

    name = "jacob_cov"
    summary = "how little the Jacobians of the images of a batch correlate"
    paper = "Mellor et al., 2020 (arXiv 2006.04647v1)"

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        correlation = torch.corrcoef(jacobian(net, batch.images, mixture)[0])
        if not bool(correlation.isfinite().all()):
            return math.nan
        values = torch.linalg.eigvalsh(correlation).clamp(min=0) + _SMALL
        return -float((values.log() + 1 / values).sum())


@register_proxy
class EpeNas(_OfJacobian):
    """Sum over the classes of |sum of ln(|correlation| + 1e-5)| of the Jacobians of a class's images.

    With more than 100 classes, each of which has few images: the sum of a class divided by its images, and the mean
    over the classes with two or more of how much their sums differ from those of all others. nan where an image's
    Jacobian is constant.
    """

    name = "epe_nas"
    summary = "how little the Jacobians of the images of each class correlate"
    needs = frozenset({"images", "labels", "gradients"})
    paper = "Lopes et al., ICANN 2021"

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        classes, counts = batch.labels.unique(return_counts=True)
        if int(counts.max()) < 2:
            raise ProxyError(
                "proxy 'epe_nas' compares images of a class, and no two of the "
                f"{len(batch.labels)} images share a label: use a larger batch."
            )
        slopes, logits = jacobian(net, batch.images, mixture)
        few = logits.shape[1] <= _MANY_CLASSES
        sums = []
        for label, count in zip(classes, counts.tolist(), strict=True):
            correlation = torch.corrcoef(slopes[batch.labels == label])
            if few:
                sums.append((correlation.abs() + _SMALL).log().sum())
            elif count > 1:
                sums.append((correlation.abs() + _SMALL).log().sum() / count)
        each = torch.stack(sums)
        return float(each.abs().sum() if few else (each[:, None] - each).abs().sum() / len(each))
