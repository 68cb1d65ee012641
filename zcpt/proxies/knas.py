"""KNAS: whether the gradients of many batches go the same way (Xu et al., ICML 2021)."""

from __future__ import annotations

import torch
from torch import nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._running import copied, gradients, loss, norms_as, parts, run

_PARAMETERS, _ENTRIES, _BATCHES = 11, 50, 50


@register_proxy
class Knas(Proxy):
    """Sum over entries of the inner product of their gradients on the first K/2 batches and on the last, by K^2.

    The entries are the first 50 of each of the first 11 parameters, in the order of their names, that have as many. An
    entry's gradients are centred within either half of the batches. In the paper K is 50, and a batch is a whole one.
    Here the batch is cut into K equal parts, K being the largest even number up to 50 that leaves every part two
    images, as BatchNorms use the statistics of the part: only 100 images or more make the paper's K, and its batches
    are larger. The weights are the given ones, and not trained in between.
    """

    name = "knas"
    summary = "whether the gradients of many parts of the batch go the same way; of the paper's 50 parts for 100 images"
    higher_is_better = True
    min_batch = 8
    needs = frozenset({"images", "labels", "gradients", "batches"})
    norms = "batch"
    cost = 3.0
    paper = "Xu et al., ICML 2021"

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        tensors = copied(net)
        large = (name for name, parameter in net.named_parameters() if parameter.numel() >= _ENTRIES)
        looked_at = {name: tensors[name] for name, _ in zip(large, range(_PARAMETERS), strict=False)}
        if not looked_at:
            raise ProxyError(
                f"proxy 'knas' looks at parameters of at least {_ENTRIES} entries, and {type(net).__name__} has none."
            )
        count = min(_BATCHES, len(batch.images) // 2) // 2 * 2
        rows = []
        for part in parts(batch, count):
            with torch.enable_grad(), norms_as("batch"):
                slopes = gradients(loss(self, run(net, tensors, part.images, mixture), part.labels), looked_at)
            rows.append(torch.cat([slope.flatten()[:_ENTRIES] for slope in slopes.values()]).double())
        first, second = torch.stack(rows).view(2, count // 2, -1)
        return float(((first - first.mean(0)) * (second - second.mean(0))).sum() / count**2)
