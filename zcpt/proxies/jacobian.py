"""Proxies of the Jacobian: the derivatives of the summed logits with respect to the pixels, image by image."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._forward import run_network
from zcpt.proxies._gradients import compute_gradients
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._weights import clone_tensors

_EPSILON = 1e-5
_MANY_CLASSES = 100


def compute_jacobian(net: nn.Module, images: Tensor, mixture: Mixture | None) -> tuple[Tensor, Tensor]:
    """Return the derivatives [B, pixels], float64, of the summed logits with respect to each image, and the logits.

    BatchNorms use the statistics of the batch, and the effect of an image on the logits of others is included.
    """
    leaf = images.detach().clone().requires_grad_()
    with torch.enable_grad(), norm_mode("batch"):
        logits = run_network(net, leaf, mixture, clone_tensors(net, gradients=False))
        (gradient,) = compute_gradients(logits.sum(), {"images": leaf}).values()
    return gradient.flatten(1).double(), logits.detach()


class _JacobianProxy(Proxy):
    higher_is_better = True
    min_batch = 2
    needs = frozenset({"images", "gradients"})
    norms = "batch"
    cost = 3.0


@register_proxy
class JacobCov(_JacobianProxy):
    """-sum of ln(v + 1e-5) + 1 / (v + 1e-5) over the eigenvalues v of the correlation of the images' Jacobians.

    The published code computes the eigenvalues with a solver for any matrix. Here it is one for symmetric matrices, and
    eigenvalues that rounding has made negative are 0; on regular matrices both agree. nan where an image's Jacobian is
    constant.
    """

    name = "jacob_cov"
    summary = "low correlation of the Jacobians of the images of a batch"
    paper = "Mellor et al., 2020 (arXiv 2006.04647v1)"

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        correlation = torch.corrcoef(compute_jacobian(net, batch.images, mixture)[0])
        if not bool(correlation.isfinite().all()):
            return math.nan
        values = torch.linalg.eigvalsh(correlation).clamp(min=0) + _EPSILON
        return -float((values.log() + 1 / values).sum())


@register_proxy
class EpeNas(_JacobianProxy):
    """Sum over the classes of |sum of ln(|correlation| + 1e-5)| of the Jacobians of a class's images.

    With more than 100 classes, the batch has few images of each. Then classes of a single image are left out, the sum
    of a class (without the outer absolute value) is divided by its number of images, and the score is the mean over the
    classes of the summed absolute differences to all others. nan where an image's Jacobian is constant.
    """

    name = "epe_nas"
    summary = "low correlation of the Jacobians of the images of each class"
    needs = frozenset({"images", "labels", "gradients"})
    paper = "Lopes et al., ICANN 2021"

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        classes, counts = batch.labels.unique(return_counts=True)
        if int(counts.max()) < 2:
            raise ProxyError(
                "proxy 'epe_nas' compares images of a class, and no two of the "
                f"{len(batch.labels)} images share a label: use a larger batch."
            )
        jacobians, logits = compute_jacobian(net, batch.images, mixture)
        has_few_classes = logits.shape[1] <= _MANY_CLASSES
        class_sums = []
        for label, count in zip(classes, counts.tolist(), strict=True):
            correlation = torch.corrcoef(jacobians[batch.labels == label])
            if has_few_classes:
                class_sums.append((correlation.abs() + _EPSILON).log().sum())
            elif count > 1:
                class_sums.append((correlation.abs() + _EPSILON).log().sum() / count)
        sums = torch.stack(class_sums)
        return float(sums.abs().sum() if has_few_classes else (sums[:, None] - sums).abs().sum() / len(sums))
