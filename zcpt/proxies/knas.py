"""KNAS: the agreement of the gradients of many batches (Xu et al., ICML 2021)."""

from __future__ import annotations

import torch
from torch import nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._forward import run_network
from zcpt.proxies._gradients import compute_gradients, compute_loss
from zcpt.proxies._images import split_batch
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._weights import clone_tensors

# Limits of the published procedure, see Knas.
_PARAMETERS = 11
_ENTRIES = 50
_BATCHES = 50


@register_proxy
class Knas(Proxy):
    """Sum over entries of the inner product of their gradients on the first K/2 and on the last K/2 batches, over K^2.

    The entries are the first 50 of each of the first 11 parameters, in the order of their names, that have at least 50.
    The gradients of an entry are centred within either half of the batches. In the paper K is 50, and each batch is a
    full one. Here the batch is split into K equal parts, where K is the largest even number up to 50 that leaves every
    part two images, because BatchNorms use the statistics of the part: only 100 images or more give the paper's K, and
    its batches are larger. The weights are the given ones, and are not trained between the batches.
    """

    name = "knas"
    summary = "agreement of the gradients of many parts of the batch; the paper's 50 parts need 100 images"
    higher_is_better = True
    min_batch = 8
    needs = frozenset({"images", "labels", "gradients", "batches"})
    norms = "batch"
    cost = 3.0
    paper = "Xu et al., ICML 2021"

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        tensors = clone_tensors(net)
        large = (name for name, parameter in net.named_parameters() if parameter.numel() >= _ENTRIES)
        selected = {name: tensors[name] for name, _ in zip(large, range(_PARAMETERS), strict=False)}
        if not selected:
            raise ProxyError(
                f"proxy 'knas' needs parameters of at least {_ENTRIES} entries, and {type(net).__name__} has none."
            )
        count = min(_BATCHES, len(batch.images) // 2) // 2 * 2  # even, e.g. 8 parts of 2 images for 19 images
        rows = []
        for part in split_batch(batch, count):
            with torch.enable_grad(), norm_mode("batch"):
                logits = run_network(net, part.images, mixture, tensors)
                gradients = compute_gradients(compute_loss(self, logits, part.labels), selected)
            rows.append(torch.cat([gradient.flatten()[:_ENTRIES] for gradient in gradients.values()]).double())
        first, second = torch.stack(rows).view(2, count // 2, -1)
        return float(((first - first.mean(0)) * (second - second.mean(0))).sum() / count**2)
