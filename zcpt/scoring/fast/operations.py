"""Tensor operations of the fast engine, each in the form that runs fastest.

``str()`` of an operation is the name under which listings of graphs and plans show it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_unflatten

TensorShape = tuple[int, ...]


def pair(argument: Any) -> tuple[int, int]:
    """Return the (height, width) that a convolution or pooling argument of torch stands for."""
    return (argument, argument) if isinstance(argument, int) else (argument[0], argument[-1])


class TensorOp(Protocol):
    """A function of tensors: how a value of a graph is computed from others."""

    def __call__(self, *sources: Tensor) -> Tensor:
        """Compute the value; the sources stay unchanged, except under a ReLU that works in place."""
        ...


@dataclass(frozen=True, eq=False)
class Convolution:
    """A convolution, with the BatchNorm behind it folded in where there is one."""

    weight: Tensor
    bias: Tensor | None
    stride: Any
    padding: Any
    dilation: Any
    groups: int
    subsampling: int = 1
    """The convolution reads only every n-th pixel along height and width."""

    def __call__(self, *sources: Tensor) -> Tensor:
        x = sources[0]
        if self.subsampling != 1:
            x = x[:, :, :: self.subsampling, :: self.subsampling]
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def __str__(self) -> str:
        height, width = self.weight.shape[2:]
        return f"conv{height}x{width}{'' if self.bias is None else '+bias'}"

    def fold_affine(self, scale: Tensor, shift: Tensor) -> Convolution:
        """Return this convolution followed by a factor and a summand for each output channel."""
        bias = shift if self.bias is None else torch.addcmul(shift, self.bias, scale)
        # Without a bias of zeros: a convolution without bias can be one matrix product (``is_matrix_product``).
        return replace(self, weight=self.weight * scale[:, None, None, None], bias=bias if bias.any() else None)

    def multiply(self, factor: float) -> Convolution:
        """Return this convolution with its output multiplied by a number."""
        return replace(self, weight=self.weight * factor, bias=None if self.bias is None else self.bias * factor)

    def is_mergeable(self, other: Convolution) -> bool:
        """Return whether the sum of both outputs is again one convolution of the same input.

        That holds where both kernels read the same pixels, or where both are centred, so that the smaller one is the
        larger one with zeros around it: 1x1 and 3x3 with padding 1 are one 3x3.
        """
        if self._stepping != other._stepping or self.weight.shape[:2] != other.weight.shape[:2]:
            return False
        return (self._reach == other._reach) or (self._is_centred and other._is_centred)

    @property
    def _stepping(self) -> tuple[object, ...]:
        return pair(self.stride), self.groups, self.subsampling

    @property
    def _reach(self) -> tuple[object, ...]:
        return self.weight.shape[2:], pair(self.padding), pair(self.dilation)

    @property
    def _is_centred(self) -> bool:
        height, width = self.weight.shape[2:]
        padding, dilation = pair(self.padding), pair(self.dilation)
        return height % 2 == width % 2 == 1 and padding == (height // 2, width // 2) and dilation == (1, 1)

    def merge(self, other: Convolution) -> Convolution:
        """Return the one convolution that computes the sum of both outputs; both must be mergeable."""
        large, small = (self, other) if self.weight.shape[2] >= other.weight.shape[2] else (other, self)
        (above, beside) = ((a - b) // 2 for a, b in zip(large.weight.shape[2:], small.weight.shape[2:], strict=True))
        weight = large.weight + F.pad(small.weight, (beside, beside, above, above))
        biases = [bias for bias in (self.bias, other.bias) if bias is not None]
        return replace(large, weight=weight, bias=sum(biases[1:], biases[0]) if biases else None)

    @property
    def is_matrix_product(self) -> bool:
        """Whether the output is [pixels, channels] @ weight.T: a 1x1 convolution with nothing else."""
        dense = self.groups == self.subsampling == 1 and self.bias is None and pair(self.stride) == (1, 1)
        return dense and self.weight.shape[2:] == (1, 1) and pair(self.padding) == (0, 0)

    def to(self, dtype: torch.dtype) -> Convolution:
        """Return this convolution with weights of another precision."""
        bias = None if self.bias is None else self.bias.to(dtype)
        return replace(self, weight=self.weight.to(dtype), bias=bias)


@dataclass(frozen=True, eq=False)
class ChannelAffine:
    """A factor and a summand for each channel: a BatchNorm in evaluation mode."""

    scale: Tensor
    shift: Tensor
    uniform_factor: float | None
    """The factor of every channel, where it is the same for all and all summands are 0; None otherwise."""

    def __call__(self, *sources: Tensor) -> Tensor:
        shape = (1, -1, *(1,) * (sources[0].ndim - 2))
        return torch.addcmul(self.shift.view(shape), sources[0], self.scale.view(shape))

    def __str__(self) -> str:
        return "affine" if self.uniform_factor is None else f"affine {self.uniform_factor:.4g}"

    def to(self, dtype: torch.dtype) -> ChannelAffine:
        """Return this operation with tensors of another precision."""
        return replace(self, scale=self.scale.to(dtype), shift=self.shift.to(dtype))


@dataclass(frozen=True, eq=False)
class Relu:
    """ReLU, or with ``maximum`` a ReLU that is cut off there (ReLU6)."""

    maximum: float | None
    in_place: bool = False
    """Whether the source is overwritten, which nothing else reads."""

    def __call__(self, *sources: Tensor) -> Tensor:
        return sources[0].clamp_(0, self.maximum) if self.in_place else sources[0].clamp(0, self.maximum)

    def __str__(self) -> str:
        return f"relu{'' if self.maximum is None else format(self.maximum, 'g')}{'_' if self.in_place else ''}"


@dataclass(frozen=True, eq=False)
class MaxPool3x3:
    """Maximum of the 3x3 window around every pixel (stride 1, padding 1).

    It is taken over three columns and then over three rows: 4 comparisons a pixel instead of 8, and each is one
    elementwise pass over contiguous memory.
    """

    def __call__(self, *sources: Tensor) -> Tensor:
        return _maximum_of_three(_maximum_of_three(sources[0], 3), 2)

    def __str__(self) -> str:
        return "maxpool3x3"


def _maximum_of_three(x: Tensor, dim: int) -> Tensor:
    length = x.shape[dim]
    if length == 1:
        return x
    pairs = torch.maximum(x.narrow(dim, 0, length - 1), x.narrow(dim, 1, length - 1))
    output = torch.empty_like(x)
    # At either border the window has two pixels, which are one of the pairs; elsewhere it is two overlapping pairs.
    output.narrow(dim, 0, 1).copy_(pairs.narrow(dim, 0, 1))
    output.narrow(dim, length - 1, 1).copy_(pairs.narrow(dim, length - 2, 1))
    if length > 2:
        inner = output.narrow(dim, 1, length - 2)
        torch.maximum(pairs.narrow(dim, 0, length - 2), pairs.narrow(dim, 1, length - 2), out=inner)
    return output


@dataclass(frozen=True, eq=False)
class AveragePool:
    """Mean of windows: their sum, as a depthwise convolution with ones, times one over the pixels that count."""

    ones: Tensor
    """Kernel of ones, [channels, 1, height, width] of the window."""
    reciprocals: Tensor
    """One over the number of pixels that count in each window, [1, 1, height, width] of the output."""
    stride: tuple[int, int]
    padding: tuple[int, int]

    def __call__(self, *sources: Tensor) -> Tensor:
        total = F.conv2d(sources[0], self.ones, None, self.stride, self.padding, groups=len(self.ones))
        return total.mul_(self.reciprocals)

    def __str__(self) -> str:
        height, width = self.ones.shape[2:]
        return f"avgpool{height}x{width}"


@dataclass(frozen=True, eq=False)
class Concatenation:
    """Concatenation along the channels."""

    def __call__(self, *sources: Tensor) -> Tensor:
        return torch.cat(sources, dim=1)

    def __str__(self) -> str:
        return "concat"


@dataclass(frozen=True, eq=False)
class Zeros:
    """Zeros, expanded from one element of memory."""

    shape: TensorShape
    """Shape of one image's tensor."""
    dtype: torch.dtype
    device: torch.device

    def __call__(self, *sources: Tensor) -> Tensor:
        raise AssertionError("zeros have no source that gives the number of images: use expand_to")

    def __str__(self) -> str:
        return "zeros"

    def expand_to(self, images: int) -> Tensor:
        """Return the zeros of so many images."""
        return torch.zeros((), dtype=self.dtype, device=self.device).expand(images, *self.shape)


@dataclass(frozen=True, eq=False)
class FunctionCall:
    """A call of any function without side effects, repeated with the same arguments but for the source tensors."""

    function: Callable[..., Any]
    places: Sequence[int]
    """Positions of the source tensors among the leaves."""
    leaves: Sequence[Any]
    """All arguments, flattened; None in the place of a source."""
    structure: Any
    """Structure of positional and keyword arguments, as torch's pytree has it."""

    def __call__(self, *sources: Tensor) -> Tensor:
        leaves = list(self.leaves)
        for place, source in zip(self.places, sources, strict=True):
            leaves[place] = source
        args, kwargs = tree_unflatten(leaves, self.structure)
        output: Tensor = self.function(*args, **kwargs)
        return output

    def __str__(self) -> str:
        return getattr(self.function, "__name__", "call")

    @property
    def is_per_image(self) -> bool:
        """Whether the result for an image is known not to depend on the other images of the batch.

        The list is conservative. A function that is missing here is still computed, but the batch is not split.
        """
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
class OpaqueModule:
    """A module that could not be traced and is run as it is."""

    module: nn.Module
    watched: tuple[nn.Module, ...]
    """Modules inside whose inputs the proxy observes."""
    arguments: Mapping[str, Any]
    """Keyword arguments of its forward pass."""

    def __call__(self, *sources: Tensor) -> Tensor:
        # A copy: a module that works in place would change what other values are computed from.
        source = sources[0].clone()
        # Its weights stay in float32, unlike those of other operations, so torch casts them where it can.
        with torch.autocast(source.device.type, torch.bfloat16, enabled=source.dtype == torch.bfloat16):
            output: Tensor = self.module(source, **self.arguments)
        return output.to(source.dtype)

    def __str__(self) -> str:
        return f"module {type(self.module).__name__}"

    def run(self, source: Tensor, observe: Callable[[Tensor], None]) -> Tensor:
        """Run the module, and pass the input of every watched module to ``observe``."""
        hooks = [m.register_forward_pre_hook(lambda module, inputs: observe(inputs[0])) for m in self.watched]
        try:
            return self(source)
        finally:
            for hook in hooks:
                hook.remove()


@dataclass(frozen=True, eq=False)
class Identity:
    """The source itself."""

    def __call__(self, *sources: Tensor) -> Tensor:
        return sources[0]

    def __str__(self) -> str:
        return "identity"


def compute_into(output: Tensor, op: TensorOp, x: Tensor) -> Tensor:
    """Write the result of an operation into a tensor."""
    if isinstance(op, Relu):
        return torch.clamp(x, 0, op.maximum, out=output)
    return output.copy_(op(x))


ImageOp = AveragePool | Convolution | MaxPool3x3 | Relu | ChannelAffine
"""Operations on one source that treat every image by itself."""
