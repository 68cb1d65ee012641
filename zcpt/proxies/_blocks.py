"""What the blocks of a network give: the places at which proxies look that go through a network step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._running import Layer, observing, run
from zcpt.proxies._watching import watching_relus
from zcpt.supernet import Supernet

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def block_outputs(
    net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None, proxy: str
) -> list[Tensor]:
    """Run a network and return the maps [B, C, H, W] between its blocks, in the order in which they are computed.

    A block is a module with a forward pass of its own that has convolutions or linear layers inside, such as a cell or
    a residual block: not a container (nn.Sequential, nn.ModuleList, nn.ModuleDict or a subclass that only runs its
    children), and not one inside another block. The first map is what the first block reads, which the stem gives,
    unless it reads the images; the others are what the blocks give. Where all of a network is in one block, as under a
    wrapper, those inside it count. A network without blocks, such as a chain of layers, is looked at behind its ReLUs.

    Of a supernet it is the last value of every group of values: ``cells.0.node2.edge1`` belongs to the group
    ``cells.0``, ``stem`` is one of its own. A group that hands on what it reads, as a chosen identity does, is left
    out.

    The maps belong to the graph of the logits, where gradients are enabled; none has been changed in place.

    Raises:
        ProxyError: There are not two maps.
    """
    if isinstance(net, Supernet):
        found = _of_supernet(net, tensors, images, mixture)
    else:
        found = _of_blocks(net, tensors, images, mixture) or _of_relus(net, tensors, images, mixture)
    maps = [value for value in found if value.ndim == 4]
    if len(maps) < 2:
        raise ProxyError(
            f"proxy '{proxy}' compares the feature maps behind blocks, and {type(net).__name__} has {len(maps)}: "
            "use a convolutional network made of blocks (modules with layers inside), or with ReLUs."
        )
    return maps


class _Values(nn.Module):
    """Gives values of a supernet instead of its logits."""

    def __init__(self, net: Supernet, names: list[str]) -> None:
        super().__init__()
        self.net, self.names = net, names

    def forward(self, images: Tensor, mixture: Mixture | None = None) -> list[Tensor]:
        return self.net.compute_values(images, self.names, mixture)


def _of_supernet(net: Supernet, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None) -> list[Tensor]:
    live = [step.out for step, _ in net.list_live_steps(net.initial_mixture() if mixture is None else mixture)]
    last = {_group(name): name for name in live}  # a group stands where its first value does
    named = {f"net.{name}": tensor for name, tensor in tensors.items()}
    images = images.clone()  # a network may begin with an operation that works in place
    arguments = (images,) if mixture is None else (images, mixture)
    values: list[Tensor] = functional_call(_Values(net, list(last.values())), named, arguments)
    return [value for index, value in enumerate(values) if not index or value is not values[index - 1]]


def _group(name: str) -> str:
    """The start of a value's name up to its first number; or, where there is none, up to the first dot."""
    parts = name.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[0] + 1 if numbers else 1])


def blocks(net: nn.Module) -> list[nn.Module]:
    """The blocks of a network (see ``block_outputs``)."""
    found = _outermost(net)
    while len(found) == 1:
        inside = _outermost(found[0])
        if not inside:
            break
        found = inside
    return found


def _outermost(module: nn.Module) -> list[nn.Module]:
    found = []
    for child in module.children():
        if _only_contains(child):
            found += _outermost(child)
        elif any(isinstance(inside, Layer) for inside in child.modules() if inside is not child):
            found.append(child)
    return found


def _only_contains(module: nn.Module) -> bool:
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in _CONTAINERS)


def _of_blocks(net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None) -> list[Tensor]:
    found: list[Tensor] = []

    def read(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        first = not found and bool(inputs) and isinstance(inputs[0], Tensor)
        if not first or (inputs[0].shape == images.shape and torch.equal(inputs[0], images)):
            return None
        found.append(inputs[0])
        return (inputs[0].clone(), *inputs[1:])

    def see(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(output, Tensor):
            return None
        found.append(output)
        return output.clone()

    modules = blocks(net)
    handles = [module.register_forward_pre_hook(read) for module in modules]
    try:
        with observing(modules, see):
            run(net, tensors, images, mixture)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _of_relus(net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None) -> list[Tensor]:
    found: list[Tensor] = []

    def see(output: Tensor) -> Tensor:
        found.append(output)
        return output.clone()

    with watching_relus(see):
        run(net, tensors, images, mixture)
    return found
