"""Operations on tensors, each in the form that is fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_unflatten

Size = tuple[int, ...]


def pair(given: Any) -> tuple[int, int]:
    """What torch takes for both directions, or for each."""
    return (given, given) if isinstance(given, int) else (given[0], given[-1])


class Op(Protocol):
    """How a value is computed from others."""

    def __call__(self, *sources: Tensor) -> Tensor:
        """Compute it; what is given stays as it is, but for a ReLU that works in place."""
        ...


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution, and the BatchNorm behind it where there is one."""

    weight: Tensor
    bias: Tensor | None
    stride: Any
    padding: Any
    dilation: Any
    groups: int
    every: int = 1
    """It reads only each so many-th pixel."""

    def __call__(self, *sources: Tensor) -> Tensor:
        x = sources[0] if self.every == 1 else sources[0][:, :, :: self.every, :: self.every]
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def scaled(self, scale: Tensor, shift: Tensor) -> Convolution:
        """This convolution with a factor and a summand for each channel behind it."""
        bias = shift if self.bias is None else torch.addcmul(shift, self.bias, scale)
        return replace(self, weight=self.weight * scale[:, None, None, None], bias=bias if bias.any() else None)

    def times(self, factor: float) -> Convolution:
        """This convolution multiplied by a number."""
        return replace(self, weight=self.weight * factor, bias=None if self.bias is None else self.bias * factor)

    def like(self, other: Convolution) -> bool:
        """Whether the sum of both is a convolution: they go over the same pixels, one perhaps over some more."""
        if self._steps != other._steps or self.weight.shape[:2] != other.weight.shape[:2]:
            return False
        return (self._reach == other._reach) or (self._centred and other._centred)

    @property
    def _steps(self) -> tuple[object, ...]:
        return pair(self.stride), self.groups, self.every

    @property
    def _reach(self) -> tuple[object, ...]:
        return self.weight.shape[2:], pair(self.padding), pair(self.dilation)

    @property
    def _centred(self) -> bool:
        height, width = self.weight.shape[2:]
        padding, dilation = pair(self.padding), pair(self.dilation)
        return height % 2 == width % 2 == 1 and padding == (height // 2, width // 2) and dilation == (1, 1)

    def plus(self, other: Convolution) -> Convolution:
        """The sum of two that are alike."""
        large, small = (self, other) if self.weight.shape[2] >= other.weight.shape[2] else (other, self)
        (above, beside) = ((a - b) // 2 for a, b in zip(large.weight.shape[2:], small.weight.shape[2:], strict=True))
        weight = large.weight + F.pad(small.weight, (beside, beside, above, above))
        biases = [bias for bias in (self.bias, other.bias) if bias is not None]
        return replace(large, weight=weight, bias=sum(biases[1:], biases[0]) if biases else None)

    @property
    def pointwise(self) -> bool:
        """Whether it is a product of matrices."""
        plain = self.groups == self.every == 1 and self.bias is None and pair(self.stride) == (1, 1)
        return plain and self.weight.shape[2:] == (1, 1) and pair(self.padding) == (0, 0)

    def to(self, dtype: torch.dtype) -> Convolution:
        """This convolution in another precision."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return replace(self, weight=self.weight.to(dtype), bias=bias)


@dataclass(frozen=True, eq=False)
class Scale:
    """A factor and a summand for each channel: a BatchNorm in evaluation mode."""

    scale: Tensor
    shift: Tensor
    factor: float | None
    """What every channel is multiplied by, where it is the same and nothing is added."""

    def __call__(self, *sources: Tensor) -> Tensor:
        shape = (1, -1, *(1,) * (sources[0].ndim - 2))
        return torch.addcmul(self.shift.view(shape), sources[0], self.scale.view(shape))

    def to(self, dtype: torch.dtype) -> Scale:
        """The same in another precision."""
        return replace(self, scale=self.scale.to(dtype), shift=self.shift.to(dtype))


@dataclass(frozen=True, eq=False)
class Relu:
    """ReLU, or with ``top`` a ReLU that ends there."""

    top: float | None
    in_place: bool = False
    """Nobody else reads what it reads."""

    def __call__(self, *sources: Tensor) -> Tensor:
        return sources[0].clamp_(0, self.top) if self.in_place else sources[0].clamp(0, self.top)


@dataclass(frozen=True, eq=False)
class MaxPool3:
    """The maximum of 3x3 windows around every pixel: that of three columns, and of that three rows."""

    def __call__(self, *sources: Tensor) -> Tensor:
        return _maximum_of_three(_maximum_of_three(sources[0], 3), 2)


def _maximum_of_three(x: Tensor, dim: int) -> Tensor:
    length = x.shape[dim]
    if length == 1:
        return x
    pairs = torch.maximum(x.narrow(dim, 0, length - 1), x.narrow(dim, 1, length - 1))
    output = torch.empty_like(x)
    output.narrow(dim, 0, 1).copy_(pairs.narrow(dim, 0, 1))
    output.narrow(dim, length - 1, 1).copy_(pairs.narrow(dim, length - 2, 1))
    if length > 2:
        inner = output.narrow(dim, 1, length - 2)
        torch.maximum(pairs.narrow(dim, 0, length - 2), pairs.narrow(dim, 1, length - 2), out=inner)
    return output


@dataclass(frozen=True, eq=False)
class AveragePool:
    """The mean of windows: their sum, by a depthwise convolution, over the number of pixels that count."""

    ones: Tensor
    """[channels, 1, height, width] of the window."""
    share: Tensor
    """[1, 1, height, width] of the output: one over that number."""
    stride: tuple[int, int]
    padding: tuple[int, int]

    def __call__(self, *sources: Tensor) -> Tensor:
        total = F.conv2d(sources[0], self.ones, None, self.stride, self.padding, groups=len(self.ones))
        return total.mul_(self.share)


@dataclass(frozen=True, eq=False)
class Join:
    """Concatenation along the channels."""

    def __call__(self, *sources: Tensor) -> Tensor:
        return torch.cat(sources, dim=1)


@dataclass(frozen=True, eq=False)
class Zeros:
    """Zeros, in one element of memory."""

    shape: Size
    """For each image."""
    dtype: torch.dtype
    device: torch.device

    def __call__(self, *sources: Tensor) -> Tensor:
        raise AssertionError("how many images there are is not known")

    def of(self, images: int) -> Tensor:
        """Those of so many images."""
        return torch.zeros((), dtype=self.dtype, device=self.device).expand(images, *self.shape)


@dataclass(frozen=True, eq=False)
class Call:
    """Any function without side effects, called with the same arguments but for the tensors that it reads."""

    function: Callable[..., Any]
    places: Sequence[int]
    """Where those are among the leaves."""
    leaves: Sequence[Any]
    structure: Any
    """How positional and keyword arguments are made of the leaves."""

    def __call__(self, *sources: Tensor) -> Tensor:
        leaves = list(self.leaves)
        for place, source in zip(self.places, sources, strict=True):
            leaves[place] = source
        args, kwargs = tree_unflatten(leaves, self.structure)
        output: Tensor = self.function(*args, **kwargs)
        return output

    @property
    def per_image(self) -> bool:
        """Whether it is known to do the same to an image whatever other images there are."""
        fixed = [leaf for place, leaf in enumerate(self.leaves) if place not in self.places]
        if self.function is Tensor.__getitem__:
            return fixed[:1] == [slice(None)]
        if self.function in (torch.flatten, Tensor.flatten):
            return fixed[:1] == [1]
        if self.function in (torch.mean, Tensor.mean):
            return fixed[:2] in ([2, 3], [-2, -1])
        if self.function is Tensor.mul:
            return not any(isinstance(leaf, Tensor) for leaf in fixed)
        return self.function in (F.adaptive_avg_pool2d, F.avg_pool2d, F.linear, F.max_pool2d, F.pad)


@dataclass(frozen=True, eq=False)
class Opaque:
    """A module that could not be looked into."""

    module: nn.Module
    watched: tuple[nn.Module, ...]
    """What a proxy watches inside."""
    given: Mapping[str, Any]
    """Keyword arguments for it."""

    def __call__(self, *sources: Tensor) -> Tensor:
        # A copy: a module that works in place would change what others read.
        source = sources[0].clone()
        # Its weights are not in the lower precision, as others' are: that is left to torch.
        with torch.autocast(source.device.type, torch.bfloat16, enabled=source.dtype == torch.bfloat16):
            output: Tensor = self.module(source, **self.given)
        return output.to(source.dtype)

    def run(self, source: Tensor, see: Callable[[Tensor], None]) -> Tensor:
        """Run it, and show the input of everything that is watched."""
        hooks = [m.register_forward_pre_hook(lambda module, inputs: see(inputs[0])) for m in self.watched]
        try:
            return self(source)
        finally:
            for hook in hooks:
                hook.remove()


def into(output: Tensor, op: Op, x: Tensor) -> Tensor:
    """Write what an operation gives into a tensor."""
    if isinstance(op, Relu):
        return torch.clamp(x, 0, op.top, out=output)
    return output.copy_(op(x))


PerImage = AveragePool | Convolution | MaxPool3 | Relu | Scale
"""Operations on one image each, of whatever other images there are."""
