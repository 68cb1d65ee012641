"""Layers with weights, and copies of a network's tensors, as they are or drawn anew."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from zcpt.errors import ProxyError, describe_unknown_name
from zcpt.proxies._registry import Proxy, WeightInit

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
_NORMS = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


def find_layers(net: nn.Module, proxy: Proxy) -> dict[str, nn.Module]:
    """Return the convolutions and linear layers of a network by name, in the order of its modules; shared ones once.

    Raises:
        ProxyError: There is none, or one has no weight of its own.
    """
    layers: dict[str, nn.Module] = {n: module for n, module in net.named_modules() if isinstance(module, Layer)}
    if not layers:
        raise ProxyError(
            f"proxy '{proxy.name}' needs convolutions or linear layers, and {type(net).__name__} has none: "
            "use a network made of nn.Conv and nn.Linear modules."
        )
    _refuse_computed_weights(layers)
    return layers


def _refuse_computed_weights(layers: Mapping[str, nn.Module]) -> None:
    for name, layer in layers.items():
        # Not layer.weight: a parametrisation computes it on each access, so replacing it would have no effect.
        if layer._parameters.get("weight") is None:
            raise ProxyError(
                f"layer '{name}' computes its weight, as weight_norm, spectral_norm and pruning do, and proxies "
                "read weights: remove that first, such as by torch.nn.utils.parametrize.remove_parametrizations(layer, "
                "'weight')."
            )


def select_layer_weights(net: nn.Module, tensors: Mapping[str, Tensor], proxy: Proxy) -> dict[str, Tensor]:
    """Return the weights of the convolutions and linear layers among a network's tensors, by layer.

    A weight that several layers share is listed under the first one.

    Raises:
        ProxyError: There is none, or one is computed.
    """
    names = {layer: f"{layer}.weight" if layer else "weight" for layer in find_layers(net, proxy)}
    return {layer: tensors[name] for layer, name in names.items() if name in tensors}


def clone_tensors(net: nn.Module, dtype: torch.dtype | None = None, gradients: bool = True) -> dict[str, Tensor]:
    """Clone parameters and buffers, casting floating-point tensors to ``dtype``.

    A network that runs on the clones (``run_network``) cannot change its own tensors, not even the running statistics
    of its BatchNorms.

    Args:
        net: The network.
        dtype: Type of the floating-point tensors; None keeps theirs.
        gradients: Whether the clones of floating-point parameters require gradients.

    Returns:
        Parameters and buffers by name.

    Raises:
        ProxyError: The network's device does not support the type.
    """
    if dtype == torch.float64 and any(parameter.device.type == "mps" for parameter in net.parameters()):
        raise ProxyError("this proxy computes in float64, which 'mps' does not have: move network and batch to 'cpu'.")

    def clone(tensor: Tensor) -> Tensor:
        copy = tensor.detach().clone()
        return copy.to(dtype) if dtype and copy.is_floating_point() else copy

    parameters = {name: clone(tensor) for name, tensor in net.named_parameters()}
    for tensor in parameters.values():
        tensor.requires_grad_(gradients and tensor.is_floating_point())
    return parameters | {name: clone(tensor) for name, tensor in net.named_buffers()}


def draw_weights(net: nn.Module, init: WeightInit, seed: int, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Clone the tensors of a network, with weights of convolutions and linear layers drawn at random from a seed.

    Biases of these layers become 0, and the affine parameters of norms 1 and 0.

    Args:
        net: The network.
        init: ``"normal"``: N(0, 1). ``"kaiming"``: normal with variance 2 / fan-in; ``"kaiming fan-out"``: 2 / fan-out.
            ``"given"``: the network's own tensors, cloned.
        seed: Seed of the draw; equal seeds draw the same numbers on all devices.
        dtype: As in ``clone_tensors``.

    Returns:
        Parameters and buffers by name.

    Raises:
        ProxyError: The initialisation is unknown, or the weight of a layer is computed.
    """
    tensors = clone_tensors(net, dtype)
    if init == "given":
        return tensors
    if init not in get_args(WeightInit):
        raise ProxyError(describe_unknown_name("weight initialisation", init, get_args(WeightInit)))
    _refuse_computed_weights({n: module for n, module in net.named_modules() if isinstance(module, Layer)})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in net.named_modules():
            prefix = f"{name}." if name else ""
            weight, bias = tensors.get(f"{prefix}weight"), tensors.get(f"{prefix}bias")
            if isinstance(module, Layer) and weight is not None:
                # Drawn in float32 on the CPU, so that dtype and device do not change the numbers.
                numbers = torch.randn(weight.shape, generator=generator, dtype=torch.float32, device="cpu")
                fan = weight[:, 0].numel() if init == "kaiming fan-out" else weight[0].numel()
                weight.copy_(numbers if init == "normal" else numbers * math.sqrt(2 / fan))
            elif isinstance(module, _NORMS) and weight is not None:
                weight.fill_(1)
            if isinstance(module, (Layer, *_NORMS)) and bias is not None:
                bias.zero_()
    return tensors
