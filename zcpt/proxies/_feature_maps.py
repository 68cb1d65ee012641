"""Feature maps [B, C, H, W] of a network: outputs of its ReLUs, the last ones before pooling, outputs of its blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._forward import run_network
from zcpt.proxies._intercept import hook_modules, intercept
from zcpt.proxies._weights import Layer
from zcpt.supernet import Supernet

# nn.ReLU and nn.ReLU6 call some of these, or F.hardtanh.
_RELUS = frozenset({F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})
_GLOBAL_POOLINGS = frozenset({"adaptive_avg_pool2d", "adaptive_max_pool2d", "_adaptive_max_pool2d", "mean", "amax"})
_ROUNDING = 1e-5
"""Relative size below which a float32 mean is nothing but rounding error."""
_TOKEN_FUNCTIONS = frozenset({F.linear, F.layer_norm})
"""Functions whose input [B, N, C] shows that the network has turned its maps into tokens."""
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


# -- ReLUs -----------------------------------------------------------------------------------------------------------


def observe_relus(observer: Callable[[Tensor], Tensor | None]) -> AbstractContextManager[object]:
    """Return a context that calls ``observer`` on the output [B, C, H, W] of every ReLU and ReLU6.

    Modules and functions alike are observed, on feature maps only. A ReLU that runs twice is observed twice.

    Args:
        observer: Receives the output; anything but None that it returns replaces the output.
    """

    def handle(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        output = function(*args, **kwargs)
        is_relu = function in _RELUS or (function is F.hardtanh and kwargs.get("min_val") == 0)
        replacement = observer(output) if is_relu and output.ndim == 4 else None
        return output if replacement is None else replacement

    return intercept(handle)


def no_relu_maps_error(net: nn.Module, proxy: str) -> ProxyError:
    """Return the error for a network in which no ReLU was observed."""
    return ProxyError(
        f"proxy '{proxy}' reads the outputs of ReLUs on feature maps, and no ReLU or ReLU6 ran on any in "
        f"{type(net).__name__}: use a convolutional network with ReLUs."
    )


# -- before the pooling ----------------------------------------------------------------------------------------------


class LastMapFinder:
    """Finder of the feature maps that a network pools, or flattens, to classify an image.

    They are the input of the last function that reads maps of more than one pixel, or that pools maps of any size; in a
    network without pooling whose maps shrink to one pixel, the input of the flattening. Tensors after the pooling that
    are no larger than one number per channel do not count, although a LayerNorm may have its channels where pixels are.

    Args:
        images: The images [B, C, H, W] on which the network will run.
    """

    def __init__(self, images: Tensor) -> None:
        self._batch_size = len(images)
        self._maps: Tensor | None = None
        self._features: Tensor | None = None
        self._is_pooled = False
        self._has_tokens = False

    def observe(self) -> AbstractContextManager[object]:
        """Return a context in which a forward pass of the network is observed."""
        return intercept(self._handle)

    def _handle(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        source = args[0] if args else kwargs.get("input")
        output = function(*args, **kwargs)
        if isinstance(source, tuple | list) and source:  # torch.cat and torch.stack take several tensors
            source = source[0]
        if not isinstance(source, Tensor) or not isinstance(output, Tensor) or not source.is_floating_point():
            return output
        if source.ndim == 4 and len(source) == self._batch_size:
            name = getattr(function, "__name__", "")
            is_pooling = name in _GLOBAL_POOLINGS or (name == "avg_pool2d" and output.shape[2:].numel() == 1)
            is_flattening = output.ndim < 4 and not self._is_pooled
            # ConvNeXt's head normalises [B, 1, 1, C] after the pooling: C stands where pixels do, but there are only
            # B * C numbers, one for each channel of the pooled maps.
            is_head = self._is_pooled and self._maps is not None and source.numel() <= self._maps.shape[:2].numel()
            if is_pooling or is_flattening or (source.shape[2:].numel() > 1 and not is_head):
                self._maps = source
                self._is_pooled = is_pooling
                self._has_tokens = False
                self._features = None
        elif source.ndim == 3 and function in _TOKEN_FUNCTIONS:
            self._has_tokens = True
        elif source.ndim == 2 and function is F.linear and self._features is None:
            self._features = source
        return output

    def is_averaged_away(self) -> bool:
        """Return whether the input of the first linear layer after the maps is nothing but their rounding error."""
        if self._maps is None or self._features is None or self._has_tokens:
            return False
        return bool(self._features.abs().max() <= _ROUNDING * self._maps.abs().max())

    def get_maps(self, net: nn.Module, proxy: str) -> Tensor:
        """Return the maps [B, C, H, W] of the observed forward pass.

        Raises:
            ProxyError: There are none, or the network turns them into tokens, as vision transformers do.
        """
        if self._maps is None or self._has_tokens:
            raise ProxyError(
                f"proxy '{proxy}' reads the feature maps before the global pooling, and {type(net).__name__} has "
                "none: use a convolutional network."
            )
        return self._maps


# -- blocks ----------------------------------------------------------------------------------------------------------


def compute_block_outputs(
    net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None, proxy: str
) -> list[Tensor]:
    """Run a network and return the maps [B, C, H, W] between its blocks, in the order in which they are computed.

    A block is a module with a forward pass of its own that contains convolutions or linear layers, e.g. a cell or a
    residual block. It is not a container (nn.Sequential, nn.ModuleList, nn.ModuleDict, or a subclass that only runs its
    children), and not inside another block. Where one block is the whole network, as under a wrapper, those inside it
    count. Modules of a block's class in the same nn.ModuleList are blocks too if they have no layers: a cell of skip
    connections is a cell. A network can declare its blocks by a method ``list_blocks`` that returns them. The first map
    is the input of the first block, which is the stem's output, unless that input is the images; the others are the
    outputs of the blocks. For a network without blocks, e.g. a chain of layers, the maps are the outputs of its ReLUs.

    For a supernet the maps are the last value of every group of values: ``cells.0.node2.edge1`` belongs to the group
    ``cells.0``, and ``stem`` is a group of its own. A single step whose output is its input, e.g. a chosen identity of
    a chain, is left out; a cell of several steps counts also then, as it does in the authors' code.

    Args:
        net: The network.
        tensors: Parameters and buffers to run on.
        images: Images [B, C, H, W].
        mixture: Weights of the supernet's candidates.
        proxy: Name of the proxy, for the error message.

    Returns:
        The maps. They belong to the graph of the logits where gradients are enabled; none was changed in place.

    Raises:
        ProxyError: There are fewer than two maps.
    """
    if isinstance(net, Supernet):
        outputs = _run_supernet_groups(net, tensors, images, mixture)
    else:
        outputs = _run_blocks(net, tensors, images, mixture) or _run_relus(net, tensors, images, mixture)
    maps = [output for output in outputs if output.ndim == 4]
    if len(maps) < 2:
        raise ProxyError(
            f"proxy '{proxy}' compares the feature maps between blocks, and {type(net).__name__} has {len(maps)}: "
            "use a convolutional network made of blocks (modules with layers inside), or with ReLUs."
        )
    return maps


class _SupernetValues(nn.Module):
    """Wrapper that returns values of a supernet's program instead of its logits."""

    def __init__(self, net: Supernet, names: list[str]) -> None:
        super().__init__()
        self.net = net
        self.names = names

    def forward(self, images: Tensor, mixture: Mixture) -> list[Tensor]:
        return self.net.compute_values(images, self.names, mixture)


def _run_supernet_groups(
    net: Supernet, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None
) -> list[Tensor]:
    mixture = net.initial_mixture() if mixture is None else mixture
    live = [step.out for step, _ in net.list_live_steps(mixture)]
    # A dict keeps the position of a key's first value and the value of its last: groups are in the order in which they
    # begin, each with the name of its last value.
    last = {_group_name(name): name for name in live}
    prefixed = {f"net.{name}": tensor for name, tensor in tensors.items()}
    images = images.clone()  # the network may begin with an in-place operation
    values: list[Tensor] = functional_call(_SupernetValues(net, list(last.values())), prefixed, (images, mixture))
    sizes = Counter(_group_name(step.out) for step in net.program)
    # A group whose output is its input, e.g. a chosen identity, yields the same tensor again.
    return [
        value
        for index, (group, value) in enumerate(zip(last, values, strict=True))
        if not index or value is not values[index - 1] or sizes[group] > 1
    ]


def _group_name(value: str) -> str:
    """Return the start of a value's name up to its first number; without a number, up to the first dot."""
    parts = value.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[0] + 1 if numbers else 1])


def find_blocks(net: nn.Module) -> list[nn.Module]:
    """Return the blocks of a network (see ``compute_block_outputs``)."""
    if callable(declared := getattr(net, "list_blocks", None)):
        return list(declared())
    blocks = _find_outermost_blocks(net)
    while len(blocks) == 1:  # a wrapper
        inside = _find_outermost_blocks(blocks[0])
        if not inside:
            break
        blocks = inside
    return blocks


def _find_outermost_blocks(module: nn.Module) -> list[nn.Module]:
    blocks: list[nn.Module] = []
    for child in module.children():
        if any(isinstance(child, kind) and type(child).forward is kind.forward for kind in _CONTAINERS):
            blocks += _find_outermost_blocks(child)
        elif any(isinstance(inside, Layer) for inside in child.modules() if inside is not child):
            blocks.append(child)
    if isinstance(module, nn.ModuleList):
        kinds = {type(block) for block in blocks}
        return [child for child in module if type(child) in kinds] if kinds <= set(map(type, module)) else blocks
    return blocks


def _run_blocks(net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None) -> list[Tensor]:
    maps: list[Tensor] = []

    def keep_first_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        is_first = not maps and bool(inputs) and isinstance(inputs[0], Tensor)
        if not is_first or (inputs[0].shape == images.shape and torch.equal(inputs[0], images)):
            return None
        maps.append(inputs[0])
        return (inputs[0].clone(), *inputs[1:])

    def keep_output(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if not isinstance(output, Tensor):
            return None
        maps.append(output)
        return output.clone()

    with hook_modules(find_blocks(net), before=keep_first_input, after=keep_output):
        run_network(net, images, mixture, tensors)
    return maps


def _run_relus(net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None) -> list[Tensor]:
    maps: list[Tensor] = []

    def keep(output: Tensor) -> Tensor:
        maps.append(output)
        return output.clone()

    with observe_relus(keep):
        run_network(net, images, mixture, tensors)
    return maps
