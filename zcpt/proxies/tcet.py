"""T-CET: how incompressible a layer is, times how differently it sees the images (Xiang et al., AutoML 2023).

The two parts of a layer are joined by its name, so that the order in which layers run does not matter.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.mixture import Mixture
from zcpt.proxies._layers import LayerProxy
from zcpt.proxies._registry import register_proxy
from zcpt.proxies._running import layers, observing, run
from zcpt.proxies.gradient import Snip, saliencies
from zcpt.proxies.naswot import agreement_kernel, log_determinant
from zcpt.proxies.synflow import Synflow, flow
from zcpt.snapshot import preserve

_PAPER = "Xiang et al., AutoML 2023"


class _Snr(LayerProxy):
    higher_is_better = True
    paper = _PAPER

    @abstractmethod
    def saliencies(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> dict[str, Tensor]:
        """How much each single weight matters, by layer; not negative."""

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        return {name: _ratio(found) for name, found in self.saliencies(net, batch, mixture).items()}


def _ratio(saliency: Tensor) -> float:
    """Sum over standard deviation, which is the same at any scale; the sum where all are equal, or there is one."""
    flat = saliency.flatten().double()
    scaled = flat / flat.max()  # squares of a flow can exceed float64
    deviation = float(scaled.std()) if len(flat) > 1 and bool(flat.any()) else 0.0
    return float(scaled.sum()) / deviation if deviation else float(flat.sum())


@register_proxy
class SnrSynflow(_Snr):
    """Sum over the layers of sum(s) / sd(s), where s is synflow's |W dR/dW| of a weight."""

    name = "snr_synflow"
    summary = "sum over standard deviation of each layer's synflow"
    needs, norms, dtype, cost = Synflow.needs, Synflow.norms, Synflow.dtype, Synflow.cost

    def saliencies(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> dict[str, Tensor]:
        found = flow(self, net, batch.images, mixture, self.norms)
        return {name: (weight * gradient).abs() for name, (weight, gradient) in found.items()}


@register_proxy
class SnrSnip(_Snr):
    """Sum over the layers of sum(s) / sd(s), where s is snip's |W g| of a weight."""

    name = "snr_snip"
    summary = "sum over standard deviation of each layer's snip"
    needs, norms, cost, min_batch = Snip.needs, Snip.norms, Snip.cost, Snip.min_batch

    def saliencies(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> dict[str, Tensor]:
        found = saliencies(self, net, batch, mixture)
        return {name: (weight * gradient).abs() for name, (weight, gradient) in found.items()}


@register_proxy
class LayerNwot(LayerProxy):
    """Sum over the layers of ln |det K|, K[i, j] counting the outputs of a layer that are positive for both or neither.

    It is 0 where K is singular, as of small layers and large batches, and where no output is positive. Of a layer that
    runs several times the last one counts; one that does not run, or not on every image, has no term.
    """

    name = "lnwot"
    summary = "log-determinant of each layer's own agreement kernel, of outputs before norm and activation"
    higher_is_better = True
    min_batch = 2
    cost = 1.5
    paper = _PAPER

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        names = {module: name for name, module in layers(net, self).items()}
        images, found = batch.images, dict[str, float]()

        def see(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            if len(output) % len(images) == 0:  # rows can be windows of images
                found[names[module]] = _independence(output.detach().reshape(len(images), -1))

        with torch.no_grad(), observing(names, see):
            run(net, {}, images, mixture)
        return {name: found[name] for name in names.values() if name in found}


def _independence(outputs: Tensor) -> float:
    determinant = log_determinant(agreement_kernel(outputs).cpu())
    return determinant if math.isfinite(determinant) and bool((outputs > 0).any()) else 0.0


class _Tcet(LayerProxy):
    higher_is_better = True
    min_batch = 2
    paper = _PAPER
    ratio: type[_Snr]
    norms = "mixed"

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        with preserve(net):  # some networks keep what they computed from their weights, which here are copies
            ratios = self.ratio().score_layers(net, batch, mixture)
        independence = LayerNwot().score_layers(net, batch, mixture)
        # Official: the logarithm of a ratio of 0, as of a layer that R does not depend on, is left out.
        return {
            name: (math.log(ratio) if ratio else 0.0) * independence[name]
            for name, ratio in ratios.items()
            if name in independence
        }


@register_proxy
class TcetSynflow(_Tcet):
    """Sum over the layers of ln(snr_synflow), taken without norms, x lnwot, with them as in evaluation."""

    name = "tcet_synflow"
    summary = "T-CET: ln(snr_synflow) x lnwot, layer by layer"
    needs = LayerNwot.needs | {"gradients"}
    dtype = SnrSynflow.dtype
    cost = LayerNwot.cost + SnrSynflow.cost
    ratio = SnrSynflow


@register_proxy
class TcetSnip(_Tcet):
    """Sum over the layers of ln(snr_snip), with BatchNorms going by the batch, x lnwot, with them as in evaluation."""

    name = "tcet_snip"
    summary = "T-CET with snip: ln(snr_snip) x lnwot, layer by layer"
    needs = LayerNwot.needs | SnrSnip.needs
    cost = LayerNwot.cost + SnrSnip.cost
    ratio = SnrSnip
