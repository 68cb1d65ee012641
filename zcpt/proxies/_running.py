"""Running a network for a proxy without touching it: on copies of its tensors, with other weights or norms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._registry import Norms, Proxy, Weights

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
_NORMS = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


def layers(net: nn.Module, proxy: Proxy) -> dict[str, nn.Module]:
    """The convolutions and linear layers of a network by name, in the order of its modules; a shared one comes once.

    Raises:
        ProxyError: There is none.
    """
    found: dict[str, nn.Module] = {n: module for n, module in net.named_modules() if isinstance(module, Layer)}
    if not found:
        raise ProxyError(
            f"proxy '{proxy.name}' looks at convolutions and linear layers, and {type(net).__name__} has none: "
            "use a network made of nn.Conv and nn.Linear modules."
        )
    return found


def weight_of(layer: str) -> str:
    """The name of a layer's weight among the tensors of its network."""
    return f"{layer}.weight" if layer else "weight"


def copied(net: nn.Module, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """Copies of all parameters and buffers, of which those of floats have that type; parameters require gradients.

    A network that runs on them (``run``) cannot change its own, not even the statistics of its BatchNorms.
    """

    def copy(tensor: Tensor) -> Tensor:
        fresh = tensor.detach().clone()
        return fresh.to(dtype) if dtype and fresh.is_floating_point() else fresh

    parameters = {name: copy(tensor) for name, tensor in net.named_parameters()}
    for tensor in parameters.values():
        tensor.requires_grad_(tensor.is_floating_point())
    return parameters | {name: copy(tensor) for name, tensor in net.named_buffers()}


def run(net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None) -> Tensor:
    """The logits that a network gives with these tensors instead of its own.

    Raises:
        ProxyError: It gives something else than one tensor.
    """
    arguments: tuple[Any, ...] = (images,) if mixture is None else (images, mixture)
    logits = functional_call(net, dict(tensors), arguments)
    if not isinstance(logits, Tensor):
        raise ProxyError(
            f"{type(net).__name__} gives {type(logits).__name__} instead of logits [B, classes]: "
            "wrap it in a module that gives the logits alone."
        )
    return logits


@contextmanager
def norms_as(net: nn.Module, mode: Norms) -> Iterator[None]:
    """Let the normalisation layers of a network that is in evaluation mode work in another way."""
    found = [module for module in net.modules() if isinstance(module, _NORMS)]
    with ExitStack() as undo:
        for module in found:
            if mode == "batch" and isinstance(module, _BatchNorm | _InstanceNorm):
                undo.callback(setattr, module, "training", module.training)
                module.training = True
            elif mode == "bypassed":
                module.__dict__["forward"] = _identity
                undo.callback(module.__dict__.pop, "forward")
        yield


def _identity(x: Tensor, *_: Any) -> Tensor:
    return x


@contextmanager
def observing(
    modules: Iterable[nn.Module], see: Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor | None]
) -> Iterator[None]:
    """Show what modules read and give whenever they run; what ``see`` returns takes the place of what they give.

    Return a clone to keep the value: an operation that works in place may come next.
    """
    handles = [module.register_forward_hook(see) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def drawn(net: nn.Module, how: Weights, seed: int, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """``copied``, with weights of convolutions and linear layers drawn anew; the same for the same seed.

    ``normal``: N(0, 1). ``kaiming``: normal with variance 2 / fan-in. Biases of the layers are then 0, the factors of
    affine norms 1 and their summands 0.
    """
    tensors = copied(net, dtype)
    if how == "given":
        return tensors
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in net.named_modules():
            prefix = f"{name}." if name else ""
            weight, bias = tensors.get(f"{prefix}weight"), tensors.get(f"{prefix}bias")
            if isinstance(module, Layer) and weight is not None:
                numbers = torch.randn(weight.shape, generator=generator)
                scale = math.sqrt(2 / weight[0].numel()) if how == "kaiming" else 1.0
                weight.copy_(numbers * scale)
            elif isinstance(module, _NORMS) and weight is not None:
                weight.fill_(1)
            if isinstance(module, Layer | _NORMS) and bias is not None:
                bias.zero_()
    return tensors


def parts(batch: Batch, count: int) -> list[Batch]:
    """A batch as so many smaller ones, in its order; images that are left over are not used."""
    size = len(batch.images) // count
    return [
        Batch(batch.images[i * size : (i + 1) * size], batch.labels[i * size : (i + 1) * size], batch.seed)
        for i in range(count)
    ]
