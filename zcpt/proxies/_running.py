"""Running a network for a proxy without touching it: on copies of its tensors, with other weights or norms."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from textwrap import shorten
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.overrides import TorchFunctionMode

from zcpt.batches import Batch
from zcpt.errors import ProxyError, describe_unknown_name
from zcpt.mixture import Mixture
from zcpt.proxies._registry import Norms, Proxy, Weights

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear
_NORMS = (_BatchNorm, _InstanceNorm, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)
_NORMALISING = frozenset({F.batch_norm, F.instance_norm, F.layer_norm, F.group_norm, F.rms_norm, F.local_response_norm})
_OWN_STATISTICS = {F.batch_norm: (5, "training"), F.instance_norm: (5, "use_input_stats")}
"""Functions that normalise by the statistics of what they are given, where this argument is True."""
_CHECKPOINTS = "saves memory by gradient checkpointing, which proxies of gradients cannot look into"
_ONE_VALUE = "Expected more than 1 value per channel"


def layers(net: nn.Module, proxy: Proxy) -> dict[str, nn.Module]:
    """The convolutions and linear layers of a network by name, in the order of its modules; a shared one comes once.

    Raises:
        ProxyError: There is none, or one has no weight of its own.
    """
    found: dict[str, nn.Module] = {n: module for n, module in net.named_modules() if isinstance(module, Layer)}
    if not found:
        raise ProxyError(
            f"proxy '{proxy.name}' looks at convolutions and linear layers, and {type(net).__name__} has none: "
            "use a network made of nn.Conv and nn.Linear modules."
        )
    _refuse_computed_weights(found)
    return found


def _refuse_computed_weights(found: Mapping[str, nn.Module]) -> None:
    for name, layer in found.items():
        if layer._parameters.get("weight") is None:
            raise ProxyError(
                f"layer '{name}' computes its weight, as weight_norm, spectral_norm and pruning have it, and proxies "
                "look at weights: take that off, such as by torch.nn.utils.parametrize.remove_parametrizations(layer, "
                "'weight')."
            )


def weight_of(layer: str) -> str:
    """The name of a layer's weight among the tensors of its network."""
    return f"{layer}.weight" if layer else "weight"


def weights_of(net: nn.Module, tensors: Mapping[str, Tensor], proxy: Proxy) -> dict[str, Tensor]:
    """Of the tensors of a network those that are weights of its convolutions and linear layers, by layer.

    A weight that several layers share is that of the first one.

    Raises:
        ProxyError: There is none, or one is computed.
    """
    return {layer: tensors[weight_of(layer)] for layer in layers(net, proxy) if weight_of(layer) in tensors}


def copied(net: nn.Module, dtype: torch.dtype | None = None, gradients: bool = True) -> dict[str, Tensor]:
    """Copies of all parameters and buffers, of which those of floats have that type.

    A network that runs on them (``run``) cannot change its own, not even the statistics of its BatchNorms.

    Args:
        net: The network.
        dtype: Type of the floats; None keeps theirs.
        gradients: Whether the copies of parameters require gradients.

    Raises:
        ProxyError: The network's device has no such type.
    """
    if dtype == torch.float64 and any(parameter.device.type == "mps" for parameter in net.parameters()):
        raise ProxyError("this proxy computes in float64, which 'mps' does not have: move network and batch to 'cpu'.")

    def copy(tensor: Tensor) -> Tensor:
        fresh = tensor.detach().clone()
        return fresh.to(dtype) if dtype and fresh.is_floating_point() else fresh

    parameters = {name: copy(tensor) for name, tensor in net.named_parameters()}
    for tensor in parameters.values():
        tensor.requires_grad_(gradients and tensor.is_floating_point())
    return parameters | {name: copy(tensor) for name, tensor in net.named_buffers()}


def run(net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None) -> Tensor:
    """The logits that a network gives with these tensors instead of its own; the images stay as they are.

    Raises:
        ProxyError: It gives something else than one tensor, its BatchNorms take statistics over a single value, or it
            would run again in the backward pass.
    """
    images = images.clone()  # a network may begin with an operation that works in place
    arguments: tuple[Any, ...] = (images,) if mixture is None else (images, mixture)
    try:
        # What a checkpoint runs again in the backward pass, it runs on the network's own tensors.
        with torch.autograd.graph.disable_saved_tensors_hooks(_CHECKPOINTS):
            logits = functional_call(net, dict(tensors), arguments)
    except RuntimeError as error:
        if _CHECKPOINTS not in str(error):
            raise
        raise ProxyError(
            f"{type(net).__name__} {_CHECKPOINTS}: turn that off, such as by net.set_grad_checkpointing(False) in timm "
            "or memory_efficient=False in torchvision."
        ) from error
    except ValueError as error:
        if _ONE_VALUE not in str(error):
            raise
        raise ProxyError(
            f"a BatchNorm of {type(net).__name__} would normalise by the statistics of a single value, on one image of "
            f"{list(images.shape[1:])}: use larger images, or a proxy whose norms are not 'batch'."
        ) from error
    return logits_of(net, logits)


def logits_of(net: nn.Module, output: object) -> Tensor:
    """What a network gives; ProxyError where that is something else than one tensor."""
    if not isinstance(output, Tensor):
        raise ProxyError(
            f"{type(net).__name__} gives {type(output).__name__} instead of logits [B, classes]: "
            "wrap it in a module that gives the logits alone."
        )
    return output


def norms_as(mode: Norms) -> AbstractContextManager[object]:
    """Let the normalisation layers of a network that is in evaluation mode work in another way.

    It is the functions that do, because there are modules that normalise and then do more, such as timm's
    BatchNormAct2d, and others that call a function by themselves.
    """
    if mode == "bypassed":
        return _WithoutNorms()
    return _OwnStatistics() if mode == "batch" else nullcontext()


class _OwnStatistics(TorchFunctionMode):
    """BatchNorms and InstanceNorms take the statistics of what they are given."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _OWN_STATISTICS:
            place, name = _OWN_STATISTICS[func]
            if len(args) > place:
                args = (*args[:place], True, *args[place + 1 :])
            else:
                kwargs[name] = True
        return func(*args, **kwargs)


class _WithoutNorms(TorchFunctionMode):
    """Functions that normalise give what they are given."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _NORMALISING:
            return args[0] if args else kwargs["input"]
        return func(*args, **kwargs)


def loss(proxy: Proxy, logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, the mean over the batch.

    Raises:
        ProxyError: The labels do not go with the logits.
    """
    if logits.ndim != 2 or labels.is_floating_point() or labels.ndim != 1:
        raise ProxyError(
            f"proxy '{proxy.name}' needs logits [B, classes] and whole numbers as labels [B], not "
            f"{list(logits.shape)} and {labels.dtype} {list(labels.shape)}: give a classifier and its labels."
        )
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[1]:
        raise ProxyError(
            f"the labels go from {int(labels.min())} to {int(labels.max())}, and the network has "
            f"{logits.shape[1]} classes, which count from 0: build it with as many classes as the data have."
        )
    return F.cross_entropy(logits, labels.long())


def gradients(value: Tensor, tensors: Mapping[str, Tensor], create_graph: bool = False) -> dict[str, Tensor]:
    """The gradients of a number with respect to tensors, by the same names; zeros where it does not depend on one."""
    if not value.requires_grad or not tensors:
        return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    found = torch.autograd.grad(value, list(tensors.values()), create_graph=create_graph, materialize_grads=True)
    return dict(zip(tensors, found, strict=True))


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


def draw_weights(net: nn.Module, how: Weights, seed: int, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """``copied``, with weights of convolutions and linear layers drawn anew; the same for the same seed.

    ``normal``: N(0, 1). ``kaiming``: normal with variance 2 / fan-in, or 2 / fan-out. Biases of the layers are then 0,
    the factors of affine norms 1 and their summands 0.

    Raises:
        ProxyError: There is no such way, or the weight of a layer is computed.
    """
    tensors = copied(net, dtype)
    if how == "given":
        return tensors
    if how not in get_args(Weights):
        raise ProxyError(describe_unknown_name("way to draw weights", how, get_args(Weights)))
    _refuse_computed_weights({n: module for n, module in net.named_modules() if isinstance(module, Layer)})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in net.named_modules():
            prefix = f"{name}." if name else ""
            weight, bias = tensors.get(f"{prefix}weight"), tensors.get(f"{prefix}bias")
            if isinstance(module, Layer) and weight is not None:
                numbers = torch.randn(weight.shape, generator=generator, dtype=torch.float32, device="cpu")
                fan = weight[:, 0].numel() if how == "kaiming fan-out" else weight[0].numel()
                weight.copy_(numbers if how == "normal" else numbers * math.sqrt(2 / fan))
            elif isinstance(module, _NORMS) and weight is not None:
                weight.fill_(1)
            if isinstance(module, (Layer, *_NORMS)) and bias is not None:
                bias.zero_()
    return tensors


def parts(batch: Batch, count: int) -> list[Batch]:
    """A batch as so many smaller ones, in its order; images that are left over are not used."""
    size = len(batch.images) // count
    return [
        Batch(batch.images[i * size : (i + 1) * size], batch.labels[i * size : (i + 1) * size], batch.seed)
        for i in range(count)
    ]


@contextmanager
def on_images_of_its_own(
    proxy: Proxy, net: nn.Module, images: Tensor, remedy: str = "use another proxy"
) -> Iterator[None]:
    """Say in a ProxyError that a network cannot be run on the images that a proxy makes, of a size of its own."""
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, AssertionError, ProxyError) as error:
        first = (str(error) or type(error).__name__).splitlines()[0]
        reason = shorten(first.partition(": use ")[0], 200).rstrip(".")
        raise ProxyError(
            f"proxy '{proxy.name}' scores networks on images of {'x'.join(map(str, images.shape[1:]))}, and "
            f"{type(net).__name__} cannot be run on them ({reason}): {remedy}."
        ) from error


def normal(shape: Sequence[int], like: Tensor, seed: int) -> Tensor:
    """Standard normal numbers of that shape, of the type and on the device of ``like``; the same on all devices."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(tuple(shape), generator=generator, dtype=torch.float32, device="cpu").to(like)


def mean(values: Sequence[float]) -> float:
    """The mean of values that may be nan or infinite."""
    return sum(values) / len(values)
