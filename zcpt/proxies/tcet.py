"""T-CET: the incompressibility of a layer, times how differently its outputs respond to the images (Xiang et al.,
AutoML 2023).

The two parts are matched by the name of the layer, so that the order in which layers run does not matter.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.mixture import Mixture
from zcpt.proxies._forward import run_network
from zcpt.proxies._intercept import hook_modules
from zcpt.proxies._registry import LayerProxy, register_proxy
from zcpt.proxies._weights import find_layers
from zcpt.proxies.gradient import Snip, compute_weight_gradients
from zcpt.proxies.naswot import agreement_kernel, log_determinant
from zcpt.proxies.synflow import Synflow, compute_flow
from zcpt.snapshot import preserve

_PAPER = "Xiang et al., AutoML 2023"


class _SnrProxy(LayerProxy):
    higher_is_better = True
    paper = _PAPER

    @abstractmethod
    def compute_saliencies(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> dict[str, Tensor]:
        """Return the saliency of each single weight, by layer; not negative."""

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        saliencies = self.compute_saliencies(net, batch, mixture)
        return {name: _signal_to_noise(saliency) for name, saliency in saliencies.items()}


def _signal_to_noise(saliency: Tensor) -> float:
    """Return sum / standard deviation, which is independent of the scale; the sum if the deviation is 0."""
    flat = saliency.flatten().double()
    scaled = flat / flat.max()  # squares of a flow can exceed float64
    deviation = float(scaled.std()) if len(flat) > 1 and bool(flat.any()) else 0.0
    return float(scaled.sum()) / deviation if deviation else float(flat.sum())


@register_proxy
class SnrSynflow(_SnrProxy):
    """Sum over the layers of sum(s) / sd(s), where s is synflow's |W dR/dW| of a weight."""

    name = "snr_synflow"
    summary = "sum over standard deviation of each layer's synflow"
    needs = Synflow.needs
    norms = Synflow.norms
    dtype = Synflow.dtype
    cost = Synflow.cost

    def compute_saliencies(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> dict[str, Tensor]:
        flow = compute_flow(self, net, batch.images, mixture, self.norms)
        return {name: (weight * gradient).abs() for name, (weight, gradient) in flow.items()}


@register_proxy
class SnrSnip(_SnrProxy):
    """Sum over the layers of sum(s) / sd(s), where s is snip's |W g| of a weight."""

    name = "snr_snip"
    summary = "sum over standard deviation of each layer's snip"
    needs = Snip.needs
    norms = Snip.norms
    cost = Snip.cost
    min_batch = Snip.min_batch

    def compute_saliencies(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> dict[str, Tensor]:
        layers = compute_weight_gradients(self, net, batch, mixture)
        return {name: (weight * gradient).abs() for name, (weight, gradient) in layers.items()}


@register_proxy
class LayerNwot(LayerProxy):
    """Sum over the layers of ln |det K|, where K[i, j] counts a layer's outputs that are positive for both or neither.

    i and j are images. The term is 0 where K is singular, e.g. for small layers and large batches, and where no output
    is positive. For a layer that runs several times the last run counts; one that does not run, or not on every image,
    has no term.
    """

    name = "lnwot"
    summary = "log-determinant of each layer's own agreement kernel, of outputs before norm and activation"
    higher_is_better = True
    min_batch = 2
    cost = 1.5
    paper = _PAPER

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        names = {module: name for name, module in find_layers(net, self).items()}
        images = batch.images
        terms: dict[str, float] = {}

        def add_term(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            if len(output) % len(images) == 0:  # rows can be windows of images
                terms[names[module]] = _independence(output.detach().reshape(len(images), -1))

        with torch.no_grad(), hook_modules(names, after=add_term):
            run_network(net, images, mixture)
        return {name: terms[name] for name in names.values() if name in terms}


def _independence(outputs: Tensor) -> float:
    """Return ln |det K| for outputs [B, units]; 0 where K is singular or no output is positive."""
    determinant = log_determinant(agreement_kernel(outputs).cpu())
    return determinant if math.isfinite(determinant) and bool((outputs > 0).any()) else 0.0


class _TcetProxy(LayerProxy):
    higher_is_better = True
    min_batch = 2
    paper = _PAPER
    norms = "mixed"
    ratio: type[_SnrProxy]
    """Proxy of the incompressibility."""

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        with preserve(net):  # some networks cache what they computed from their weights, which here are clones
            ratios = self.ratio().score_layers(net, batch, mixture)
        independence = LayerNwot().score_layers(net, batch, mixture)
        # As in the authors' code, a ratio of 0 has no logarithm and adds 0, e.g. if R does not depend on the layer.
        return {
            name: (math.log(ratio) if ratio else 0.0) * independence[name]
            for name, ratio in ratios.items()
            if name in independence
        }


@register_proxy
class TcetSynflow(_TcetProxy):
    """Sum over the layers of ln(snr_synflow), computed without norms, x lnwot, with norms as in evaluation."""

    name = "tcet_synflow"
    summary = "T-CET: ln(snr_synflow) x lnwot, layer by layer"
    needs = LayerNwot.needs | {"gradients"}
    dtype = SnrSynflow.dtype
    cost = LayerNwot.cost + SnrSynflow.cost
    ratio = SnrSynflow


@register_proxy
class TcetSnip(_TcetProxy):
    """Sum over the layers of ln(snr_snip), with batch statistics in BatchNorms, x lnwot, with evaluation norms."""

    name = "tcet_snip"
    summary = "T-CET with snip: ln(snr_snip) x lnwot, layer by layer"
    needs = LayerNwot.needs | SnrSnip.needs
    cost = LayerNwot.cost + SnrSnip.cost
    ratio = SnrSnip
