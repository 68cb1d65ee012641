"""The size of a network: baselines that a proxy has to beat."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from zcpt.batches import Batch
from zcpt.cost import count_parameters
from zcpt.mixture import Mixture
from zcpt.proxies._forward import run_network
from zcpt.proxies._registry import LayerProxy, Proxy, register_proxy
from zcpt.proxies._weights import clone_tensors, select_layer_weights

_READS_WEIGHTS_ALONE = "it reads the weights alone, and removing a candidate changes none of them; use macs"


@register_proxy
class Params(Proxy):
    """Number of trainable parameters: biases, norms and an auxiliary head count, frozen parameters do not."""

    name = "params"
    summary = "number of trainable parameters"
    higher_is_better = True
    needs = frozenset()
    norms = "none"
    depends_on_mixture = False
    independence_reason = _READS_WEIGHTS_ALONE
    cost = 0.0

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        return float(count_parameters(net))


@register_proxy
class Macs(Proxy):
    """Multiply-accumulates of all convolutions and matrix products for one image: half the FLOPs.

    Those that are carried out count: in a supernet all candidates that are not removed; an auxiliary head does not.
    """

    name = "macs"
    summary = "multiply-accumulates for one image"
    higher_is_better = True
    needs = frozenset({"shape"})

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        # The counter does not support all fused attention kernels, of which torch has one for runs without gradients.
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run_network(net, torch.zeros_like(batch.images[:1]), mixture, clone_tensors(net))
        return float(counter.get_total_flops() // 2)  # a multiply-accumulate is two floating-point operations


@register_proxy
class L2Norm(LayerProxy):
    """Sum over the layers of the norm of W."""

    name = "l2_norm"
    summary = "norm of the weights, summed over the layers"
    higher_is_better = True
    needs = frozenset()
    norms = "none"
    depends_on_mixture = False
    independence_reason = _READS_WEIGHTS_ALONE
    cost = 0.0
    paper = "Abdelfattah et al., ICLR 2021"

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        weights = select_layer_weights(net, dict(net.named_parameters()), self)
        return {layer: float(weight.detach().norm()) for layer, weight in weights.items()}
