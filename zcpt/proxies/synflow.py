"""Synaptic flow through the weights of a network of absolute values (Tanaka et al., NeurIPS 2020).

All parameters and buffers are replaced by their absolute values, the image consists of ones, and R is the sum of the
outputs. Everything is computed in float64. R grows with every layer (beyond float32 in networks of
NAS-Bench-201) and can exceed even float64: then a ProxyError is raised, and the score is never infinite.

Where norms are left out ReLU6 works as ReLU, unlike in the authors' code: values that are not normalised exceed its
limit, and nothing could flow through it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._forward import run_network
from zcpt.proxies._gradients import compute_gradients
from zcpt.proxies._intercept import intercept
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import LayerProxy, NormMode, Proxy, register_proxy
from zcpt.proxies._weights import clone_tensors, select_layer_weights


def compute_flow(
    proxy: Proxy, net: nn.Module, images: Tensor, mixture: Mixture | None, norms: NormMode
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return |W| and dR/dW of every layer, both float64; zeros where R does not depend on the layer.

    Raises:
        ProxyError: A gradient exceeds float64. If the network's own weights are not finite, the gradients are not
            either, and are returned.
    """
    tensors = {
        name: tensor.detach().abs().requires_grad_(tensor.requires_grad) if tensor.is_floating_point() else tensor
        for name, tensor in clone_tensors(net, torch.float64).items()
    }
    weights = select_layer_weights(net, tensors, proxy)
    ones = images.new_ones(1, *images.shape[1:], dtype=torch.float64)
    limits = intercept(_replace_relu6) if norms == "bypassed" else nullcontext()
    with torch.enable_grad(), norm_mode(norms), limits:
        gradients = compute_gradients(run_network(net, ones, mixture, tensors).sum(), weights)
    _check_finite(proxy, net, all(bool(gradient.isfinite().all()) for gradient in gradients.values()), "a gradient")
    return {layer: (weight.detach(), gradients[layer]) for layer, weight in weights.items()}


def _replace_relu6(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if function is F.relu6 or (function is F.hardtanh and _get_hardtanh_limits(*args, **kwargs) == (0, 6)):
        return F.relu(args[0] if args else kwargs["input"])
    return function(*args, **kwargs)


def _get_hardtanh_limits(
    input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> tuple[float, float]:
    """Return the limits in a call of ``F.hardtanh``, whose signature this is."""
    return min_val, max_val


def _check_finite(proxy: Proxy, net: nn.Module, is_finite: bool, quantity: str) -> None:
    # Where the network's own weights are not finite nothing has overflowed, and the score may be nan or infinite.
    if is_finite or not all(bool(parameter.isfinite().all()) for parameter in net.parameters()):
        return
    raise ProxyError(
        f"{quantity} of proxy '{proxy.name}' exceeds float64 (1.8e308) in {type(net).__name__}: use a network of fewer "
        "layers, or a proxy that depends less on the scale, such as logsynflow, snr_synflow or naswot."
    )


class _FlowProxy(LayerProxy):
    higher_is_better = True
    needs = frozenset({"shape", "gradients"})
    norms: ClassVar[NormMode] = "bypassed"
    dtype = "float64"
    cost = 0.1
    paper = "Tanaka et al., NeurIPS 2020"

    @abstractmethod
    def compute_term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Return the term of a layer, from |W| and dR/dW."""

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        flow = compute_flow(self, net, batch.images, mixture, self.norms)
        return {layer: float(self.compute_term(weight, gradient)) for layer, (weight, gradient) in flow.items()}

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        value = super().score(net, batch, mixture)
        _check_finite(self, net, math.isfinite(value), "the score")
        return value


@register_proxy
class Synflow(_FlowProxy):
    """Sum of |W dR/dW|, all normalisation layers left out."""

    name = "synflow"
    summary = "flow |W dR/dW| through absolute weights, R the sum of the outputs for an image of ones"

    def compute_term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return (weight * gradient).abs().sum()


@register_proxy
class SynflowBN(Synflow):
    """Synflow with BatchNorms left in; they use the statistics of the one image, which removes the scale."""

    name = "synflow_bn"
    summary = "synflow with BatchNorms left in, by the statistics of one image"
    norms = "batch"
    paper = "Abdelfattah et al., ICLR 2021"


@register_proxy
class LogSynflow(_FlowProxy):
    """Sum of W ln(|dR/dW| + 1), all normalisation layers left out.

    With activations like ReLU gradients are never negative; behind a softmax they can be.
    """

    name = "logsynflow"
    summary = "synflow with damped gradients: W ln(dR/dW + 1)"
    paper = "Cavagnero et al., WACV 2023"

    def compute_term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return (weight * gradient.abs().log1p()).sum()
