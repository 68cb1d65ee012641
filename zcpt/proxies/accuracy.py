"""Accuracy of a network with trained weights, which is measured like a proxy."""

from __future__ import annotations

from torch import nn

from zcpt.batches import Batch
from zcpt.mixture import Mixture
from zcpt.proxies._forward import run_network
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import Proxy
from zcpt.proxies._weights import clone_tensors


class Accuracy(Proxy):
    """Top-1 accuracy in percent; BatchNorms use the statistics of the batch.

    It is in no registry: on random weights it tells nothing. Scores of trained supernets use it.
    """

    name = "accuracy"
    higher_is_better = True
    min_batch = 2
    needs = frozenset({"images", "labels"})
    norms = "batch"
    paper = "as DARTS-PT measures supernets, Wang et al., ICLR 2021"

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        # Clones, so that the running statistics stay.
        with norm_mode("batch"):
            logits = run_network(net, batch.images, mixture, clone_tensors(net, gradients=False))
        return 100 * float((logits.argmax(1) == batch.labels).double().mean())
