"""Proxies of the gradient of the loss on one batch (Abdelfattah et al., Zero-Cost Proxies, ICLR 2021).

W is the weight of a convolution or linear layer and g the gradient of the mean cross-entropy with respect to it. As in
the authors' code, BatchNorms use the statistics of the batch; unlike there, the batch is never split into chunks, on
which the value would depend. Layers that the loss does not depend on add 0.
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
from zcpt.proxies._forward import run_network
from zcpt.proxies._gradients import compute_gradients, compute_loss
from zcpt.proxies._intercept import hook_modules
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import LayerProxy, Proxy, register_proxy
from zcpt.proxies._weights import clone_tensors, find_layers, select_layer_weights


def compute_weight_gradients(
    proxy: Proxy, net: nn.Module, batch: Batch, mixture: Mixture | None
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return W and g of every layer, with BatchNorms that use the statistics of the batch."""
    tensors = clone_tensors(net)
    weights = select_layer_weights(net, tensors, proxy)
    with torch.enable_grad(), norm_mode("batch"):
        logits = run_network(net, batch.images, mixture, tensors)
        gradients = compute_gradients(compute_loss(proxy, logits, batch.labels), weights)
    return {layer: (weight.detach(), gradients[layer]) for layer, weight in weights.items()}


class _LossGradientProxy(LayerProxy):
    """Base of the proxies of the gradient of the loss."""

    higher_is_better = True
    min_batch = 2
    needs = frozenset({"images", "labels", "gradients"})
    norms = "batch"
    cost = 3.0
    paper = "Abdelfattah et al., ICLR 2021"


class _WeightGradientProxy(_LossGradientProxy):
    """Base of those whose term of a layer is a function of W and g."""

    @abstractmethod
    def compute_term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        """Return the term of a layer."""

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        layers = compute_weight_gradients(self, net, batch, mixture)
        return {layer: float(self.compute_term(weight, gradient)) for layer, (weight, gradient) in layers.items()}


@register_proxy
class GradNorm(_WeightGradientProxy):
    """Sum over the layers of the norm of g."""

    name = "grad_norm"
    summary = "norm of the loss's gradient, summed over the layers"

    def compute_term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        norm: Tensor = gradient.norm()
        return norm


@register_proxy
class Snip(_WeightGradientProxy):
    """Sum of |W g|: the change of the loss, to first order, when single weights are pruned."""

    name = "snip"
    summary = "change of the loss when single weights are pruned, to first order: |W g|"
    paper = "Lee et al., ICLR 2019"

    def compute_term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return (weight * gradient).abs().sum(dtype=torch.float64)


@register_proxy
class PlainSaliency(_WeightGradientProxy):
    """Sum of W g, with signs. It is 0 for a layer before a BatchNorm, because the loss does not depend on W's scale."""

    name = "plain"
    summary = "snip with signs: W g; negatively correlated with accuracy on NAS-Bench-201"

    def compute_term(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return (weight * gradient).sum(dtype=torch.float64)


@register_proxy
class Grasp(_LossGradientProxy):
    """Sum of -W (H g), where H is the Hessian of the loss: signed, with the sign of the authors' code."""

    name = "grasp"
    summary = "change of the gradient when single weights are pruned: -W H g; its sign differs between spaces"
    cost = 8.0
    paper = "Wang et al., ICLR 2020"

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        tensors = clone_tensors(net)
        weights = select_layer_weights(net, tensors, self)
        # The fused attention kernels have no second derivative.
        with torch.enable_grad(), norm_mode("batch"), sdpa_kernel(SDPBackend.MATH):
            loss = compute_loss(self, run_network(net, batch.images, mixture, tensors), batch.labels)
            gradients = compute_gradients(loss, weights, create_graph=True)
            # The gradient of g (detached) . g with respect to W is H g: no Hessian is built.
            product = torch.stack([(gradient.detach() * gradient).sum() for gradient in gradients.values()]).sum()
            try:
                hessian_products = compute_gradients(product, weights)
            except RuntimeError as error:
                if "is not implemented" not in str(error):
                    raise
                reason = str(error).splitlines()[0].rstrip(".")
                raise ProxyError(
                    f"proxy 'grasp' takes second derivatives, and {type(net).__name__} has an operation without "
                    f"({reason}): use another proxy, such as snip."
                ) from error
        return {
            name: -float((weight.detach() * hessian_products[name]).sum(dtype=torch.float64))
            for name, weight in weights.items()
        }


@register_proxy
class Fisher(_LossGradientProxy):
    """Sum over the output channels k of all layers of (weights of k, counted) / 2 x mean over images of (sum a da)^2.

    a is the output of the layer at one position and da the derivative of the loss with respect to it. Their sum over
    the positions is the derivative with respect to a gate, a factor on the channel. A layer that runs twice has one
    gate. Where the input of a layer does not have one row per image, e.g. a table of positions, it counts as one image.
    """

    name = "fisher"
    summary = "squared derivative of the loss by gates on the channels of each layer"
    cost = 3.5
    paper = "Turner et al., ICLR 2020"

    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        layers = find_layers(net, self)
        names = {module: name for name, module in layers.items()}
        outputs: list[tuple[str, Tensor]] = []

        def keep_output(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
            outputs.append((names[module], output))
            return output.clone()  # so that an in-place operation does not change the kept output

        tensors = clone_tensors(net)
        with torch.enable_grad(), norm_mode("batch"), hook_modules(names, after=keep_output):
            loss = compute_loss(self, run_network(net, batch.images, mixture, tensors), batch.labels)
        gradients = compute_gradients(loss, {str(index): output for index, (_, output) in enumerate(outputs)})
        gate_gradients: dict[str, Tensor] = {}
        for (name, output), gradient in zip(outputs, gradients.values(), strict=True):
            is_linear = isinstance(layers[name], nn.Linear)
            term = _sum_over_positions(output.detach() * gradient, is_linear, len(batch.images))
            gate_gradients[name] = gate_gradients[name] + term if name in gate_gradients else term
        return {name: _fisher_term(layer, gate_gradients.get(name)) for name, layer in layers.items()}


def _sum_over_positions(product: Tensor, is_linear: bool, images: int) -> Tensor:
    """Sum a product [rows, C, ...], or [rows, ..., C] of a linear layer, over positions: [images, C].

    Rows can be windows or tokens of images, with those of one image next to each other.
    """
    rows = product.shape[0]
    channels = product.shape[-1 if is_linear else 1]
    summed = product.reshape(rows, -1, channels).sum(1) if is_linear else product.flatten(2).sum(2)
    return summed if rows % images else summed.reshape(images, -1, channels).sum(1)


def _fisher_term(layer: nn.Module, gate_gradient: Tensor | None) -> float:
    """Return the term of a layer from the derivatives [images, C] by its gates; None if it did not run."""
    if gate_gradient is None:
        return 0.0
    weight: Tensor = layer.get_parameter("weight")
    return weight[0].numel() / 2 * float(gate_gradient.double().square().mean(0).sum())
