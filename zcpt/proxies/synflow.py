"""Synaptic flow: what passes through the weights of a network of absolute values (Tanaka et al., NeurIPS 2020).

All parameters and buffers are made absolute, the image consists of ones, and R is the sum of the outputs. Everything is
computed in float64. R grows with every layer (1e61 in networks of NAS-Bench-201) and can exceed even that: then there
is a ProxyError, and never an infinite score.

Where norms are left out ReLU6 works as ReLU, unlike in the authors' code: values that are not normalised exceed its
limit, and nothing could flow through it.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._layers import LayerProxy
from zcpt.proxies._registry import Norms, Proxy, register_proxy
from zcpt.proxies._running import copied, gradients, norms_as, run, weights_of


def flow(
    proxy: Proxy, net: nn.Module, images: Tensor, mixture: Mixture | None, norms: Norms
) -> dict[str, tuple[Tensor, Tensor]]:
    """Of every layer W, absolute, and dR/dW, both float64; zeros where R does not depend on it.

    Raises:
        ProxyError: A gradient exceeds float64. Where the network's own weights are not finite, it is not either.
    """
    tensors = {
        name: tensor.detach().abs().requires_grad_(tensor.requires_grad) if tensor.is_floating_point() else tensor
        for name, tensor in copied(net, torch.float64).items()
    }
    weights = weights_of(net, tensors, proxy)
    ones = images.new_ones(1, *images.shape[1:], dtype=torch.float64)
    limits = _WithoutLimits() if norms == "bypassed" else nullcontext()
    with torch.enable_grad(), norms_as(norms), limits:
        slopes = gradients(run(net, tensors, ones, mixture).sum(), weights)
    _check(proxy, net, all(bool(slope.isfinite().all()) for slope in slopes.values()), "a gradient")
    return {layer: (weight.detach(), slopes[layer]) for layer, weight in weights.items()}


class _WithoutLimits(TorchFunctionMode):
    """ReLU6 works as ReLU."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        given = kwargs or {}
        if func is F.relu6 or (func is F.hardtanh and _limits(*args, **given) == (0, 6)):
            return F.relu(args[0] if args else given["input"])
        return func(*args, **given)


def _limits(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> tuple[float, float]:
    """Those of a call of ``F.hardtanh``."""
    return min_val, max_val


def _check(proxy: Proxy, net: nn.Module, finite: bool, what: str) -> None:
    if finite or not all(bool(parameter.isfinite().all()) for parameter in net.parameters()):
        return
    raise ProxyError(
        f"{what} of proxy '{proxy.name}' exceeds float64 (1.8e308) in {type(net).__name__}: use a network of fewer "
        "layers, or a proxy that looks at less of the scale, such as logsynflow, snr_synflow or naswot."
    )


class _OfFlow(LayerProxy):
    higher_is_better = True
    needs = frozenset({"shape", "gradients"})
    norms: ClassVar[Norms] = "bypassed"
    dtype = "float64"
    cost = 0.1
    paper = "Tanaka et al., NeurIPS 2020"

    @abstractmethod
    def term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """What a layer adds."""

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        found = flow(self, net, batch.images, mixture, self.norms)
        return {layer: float(self.term(weight, gradient)) for layer, (weight, gradient) in found.items()}

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        value = super().score(net, batch, mixture)
        _check(self, net, math.isfinite(value), "the score")
        return value


@register_proxy
class Synflow(_OfFlow):
    """Sum of |W dR/dW|, all normalisation layers left out."""

    name = "synflow"
    summary = "flow |W dR/dW| through absolute weights, R the sum of the outputs for an image of ones"

    def term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return (weight * gradient).abs().sum()


@register_proxy
class SynflowBN(Synflow):
    """synflow with BatchNorms left in, which use the statistics of the one image and so take the scale away."""

    name = "synflow_bn"
    summary = "synflow with BatchNorms left in, by the statistics of one image"
    norms = "batch"
    paper = "Abdelfattah et al., ICLR 2021"


@register_proxy
class LogSynflow(_OfFlow):
    """Sum of W ln(|dR/dW| + 1), all normalisation layers left out.

    Gradients are not negative where activations are as ReLU; behind a softmax they can be.
    """

    name = "logsynflow"
    summary = "synflow with its gradients damped: W ln(dR/dW + 1)"
    paper = "Cavagnero et al., WACV 2023"

    def term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return (weight * gradient.abs().log1p()).sum()
