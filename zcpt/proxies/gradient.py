"""Proxies made of the gradient of the loss on one batch (Abdelfattah et al., Zero-Cost Proxies, ICLR 2021).

W is the weight of a convolution or linear layer and g the gradient of the mean cross-entropy. As in the authors' code,
BatchNorms use the statistics of the batch; unlike there, the batch is never taken in chunks, on which the value would
depend. Layers that the loss does not depend on add 0.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._layers import LayerProxy
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._running import copied, gradients, layers, loss, norms_as, observing, run, weights_of


def saliencies(proxy: Proxy, net: nn.Module, batch: Batch, mixture: Mixture | None) -> dict[str, tuple[Tensor, Tensor]]:
    """W and g of every layer, under BatchNorms that use the statistics of the batch."""
    tensors = copied(net)
    weights = weights_of(net, tensors, proxy)
    with torch.enable_grad(), norms_as("batch"):
        slopes = gradients(loss(proxy, run(net, tensors, batch.images, mixture), batch.labels), weights)
    return {layer: (weight.detach(), slopes[layer]) for layer, weight in weights.items()}


class _OfLoss(LayerProxy):
    higher_is_better = True
    min_batch = 2
    needs = frozenset({"images", "labels", "gradients"})
    norms = "batch"
    cost = 3.0
    paper = "Abdelfattah et al., ICLR 2021"


class _OfWeights(_OfLoss):
    @abstractmethod
    def term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """What a layer adds."""

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        found = saliencies(self, net, batch, mixture)
        return {layer: float(self.term(weight, gradient)) for layer, (weight, gradient) in found.items()}


@register_proxy
class GradNorm(_OfWeights):
    """Sum over the layers of the norm of g."""

    name = "grad_norm"
    summary = "norm of the loss's gradient, summed over the layers"

    def term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        norm: Tensor = gradient.norm()
        return norm


@register_proxy
class Snip(_OfWeights):
    """Sum of |W g|: how much the loss changes, to first order, when single weights are pruned."""

    name = "snip"
    summary = "change of the loss when single weights are pruned, to first order: |W g|"
    paper = "Lee et al., ICLR 2019"

    def term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return (weight * gradient).abs().sum(dtype=torch.float64)


@register_proxy
class PlainSaliency(_OfWeights):
    """Sum of W g, signs kept. It is 0 for a layer before a BatchNorm, whose loss does not depend on W's scale."""

    name = "plain"
    summary = "snip with its signs kept: W g; accuracy falls with it on NAS-Bench-201"

    def term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return (weight * gradient).sum(dtype=torch.float64)


@register_proxy
class Grasp(_OfLoss):
    """Sum of -W (H g), H being the Hessian of the loss: signed, and turned as in the authors' code."""

    name = "grasp"
    summary = "change of the gradient when single weights are pruned: -W H g; its sign differs between spaces"
    cost = 8.0
    paper = "Wang et al., ICLR 2020"

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        tensors = copied(net)
        weights = weights_of(net, tensors, self)
        # The fused attentions have no second derivative.
        with torch.enable_grad(), norms_as("batch"), sdpa_kernel(SDPBackend.MATH):
            value = loss(self, run(net, tensors, batch.images, mixture), batch.labels)
            slopes = gradients(value, weights, create_graph=True)
            product = torch.stack([(slope.detach() * slope).sum() for slope in slopes.values()]).sum()
            try:
                curved = gradients(product, weights)
            except RuntimeError as error:
                if "is not implemented" not in str(error):
                    raise
                reason = str(error).splitlines()[0].rstrip(".")
                raise ProxyError(
                    f"proxy 'grasp' takes second derivatives, and {type(net).__name__} has an operation without "
                    f"({reason}): use another proxy, such as snip."
                ) from error
        return {name: -float((w.detach() * curved[name]).sum(dtype=torch.float64)) for name, w in weights.items()}


@register_proxy
class Fisher(_OfLoss):
    """Sum over the channels k of the outputs of layers of (weights of k) / 2 x mean over the images of (sum of a da)^2.

    a is what the layer gives at one position and da the loss's derivative by it: their sum is the derivative by a gate
    on the channel. A layer that runs twice has one gate. Where a layer is run on something that is not there for every
    image, such as a table of positions, that counts as one image.
    """

    name = "fisher"
    summary = "squared derivative of the loss by gates on the channels of each layer"
    cost = 3.5
    paper = "Turner et al., ICLR 2020"

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        modules = layers(net, self)
        names = {module: name for name, module in modules.items()}
        outputs: list[tuple[str, Tensor]] = []

        def see(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            outputs.append((names[module], output))
            return output.clone()  # so that an operation that works in place leaves the output alone

        tensors = copied(net)
        with torch.enable_grad(), norms_as("batch"), observing(names, see):
            value = loss(self, run(net, tensors, batch.images, mixture), batch.labels)
        slopes = gradients(value, {str(index): output for index, (_, output) in enumerate(outputs)})
        gates: dict[str, Tensor] = {}
        for (name, output), slope in zip(outputs, slopes.values(), strict=True):
            by_gate = _by_channel(output.detach() * slope, isinstance(modules[name], nn.Linear), len(batch.images))
            gates[name] = gates[name] + by_gate if name in gates else by_gate
        return {name: _fisher(modules[name], gates.get(name)) for name in modules}


def _by_channel(product: Tensor, linear: bool, images: int) -> Tensor:
    """Sum a product [rows, C, ...], or [rows, ..., C] of a linear layer, over positions: [images, C].

    Rows can be windows or tokens of images, those of an image one after the other.
    """
    rows, channels = product.shape[0], product.shape[-1 if linear else 1]
    summed = product.reshape(rows, -1, channels).sum(1) if linear else product.flatten(2).sum(2)
    return summed if rows % images else summed.reshape(images, -1, channels).sum(1)


def _fisher(layer: nn.Module, gate: Tensor | None) -> float:
    """What a layer adds, from the derivatives [images, C] by its gates; None if it did not run."""
    if gate is None:
        return 0.0
    weights: Tensor = layer.get_parameter("weight")
    return weights[0].numel() / 2 * float(gate.double().square().mean(0).sum())
