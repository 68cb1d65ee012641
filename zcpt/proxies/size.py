"""The size of a network: the baselines that every proxy has to beat."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zcpt.batches import Batch
from zcpt.cost import count_parameters
from zcpt.mixture import Mixture
from zcpt.proxies._layers import LayerProxy
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._running import copied, run, weights_of

_WEIGHTS_ALONE = "it reads the weights alone, and removing a candidate changes none of them; use macs"


@register_proxy
class Params(Proxy):
    """Number of trainable parameters: biases, norms and an auxiliary head count, parameters that are frozen do not."""

    name = "params"
    summary = "number of trainable parameters"
    higher_is_better = True
    needs = frozenset()
    norms = "none"
    depends_on_mixture = False
    independence_reason = _WEIGHTS_ALONE
    cost = 0.0

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        return float(count_parameters(net))


@register_proxy
class Macs(Proxy):
    """Multiply-accumulates of all convolutions and products of matrices for one image: half of what is called FLOPs.

    Those that are carried out count: of a supernet all candidates that are not removed, an auxiliary head not.
    """

    name = "macs"
    summary = "multiply-accumulates for one image"
    higher_is_better = True
    needs = frozenset({"shape"})

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        # The counter does not know fused attentions, which torch has several of, one for where there are no gradients.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run(net, copied(net), torch.zeros_like(batch.images[:1]), mixture)
        return float(counter.get_total_flops() // 2)


@register_proxy
class L2Norm(LayerProxy):
    """Sum over the layers of the norm of W."""

    name = "l2_norm"
    summary = "norm of the weights, summed over the layers"
    higher_is_better = True
    needs = frozenset()
    norms = "none"
    depends_on_mixture = False
    independence_reason = _WEIGHTS_ALONE
    cost = 0.0
    paper = "Abdelfattah et al., ICLR 2021"

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        weights = weights_of(net, dict(net.named_parameters()), self)
        return {layer: float(weight.detach().norm()) for layer, weight in weights.items()}
