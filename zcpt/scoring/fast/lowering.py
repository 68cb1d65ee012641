"""Lowerings: for functions of torch, the fast operation that a call of it becomes in a graph.

A lowering has the arguments of its function. It returns None where it does not support them; then the call is recorded
as it is (``operations.FunctionCall``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zcpt.scoring.fast.graph import GraphBuilder, Term, Value, WeightedSum
from zcpt.scoring.fast.operations import (
    AveragePool,
    ChannelAffine,
    Concatenation,
    Convolution,
    MaxPool3x3,
    Relu,
    TensorShape,
    Zeros,
    pair,
)


def _conv2d(
    graph: GraphBuilder,
    source: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value | None:
    is_supported = isinstance(weight, Tensor) and not isinstance(bias, Value) and not isinstance(padding, str)
    if not is_supported or len(source.shape) != 4:
        return None
    window = [d * (k - 1) + 1 for d, k in zip(pair(dilation), weight.shape[2:], strict=True)]
    shape = (source.shape[0], len(weight), *_slide(source.shape[2:], window, pair(stride), pair(padding)))
    bias = None if bias is None else bias.detach()
    subsampling = 1
    if weight.shape[2:] == (1, 1) and pair(padding) == (0, 0) and len({*pair(stride)}) == 1:
        # A strided 1x1 convolution: dropping the pixels that it skips first is faster than stepping over them.
        subsampling, stride = pair(stride)[0], 1
    convolution = Convolution(weight.detach(), bias, stride, padding, dilation, groups, subsampling)
    return graph.add(convolution, (source,), shape)


def _batch_norm(
    graph: GraphBuilder,
    source: Value,
    mean: Any,
    variance: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value | None:
    if training or mean is None:
        return None
    scale = (variance.detach() + eps).rsqrt()
    scale = scale if weight is None else scale * weight.detach()
    shift = -mean.detach() * scale
    shift = shift if bias is None else shift + bias.detach()
    factors, summands = scale.cpu().numpy(), shift.cpu().numpy()
    # As it is in a network that was never trained: then the factor can become part of a sum's weights.
    is_uniform = not summands.any() and bool((factors == factors[0]).all())
    op = ChannelAffine(scale, shift, float(factors[0]) if is_uniform else None)
    # BatchNorms of equal numbers on one value, such as behind the pools of an edge's candidates, are one value.
    return graph.add(op, (source,), source.shape, ("affine", factors.tobytes(), summands.tobytes()))


def _relu(graph: GraphBuilder, source: Value, inplace: bool = False) -> Value:
    return _clamp(graph, source, None)


def _relu6(graph: GraphBuilder, source: Value, inplace: bool = False) -> Value:
    return _clamp(graph, source, 6.0)


def _clamp(graph: GraphBuilder, source: Value, maximum: float | None) -> Value:
    if isinstance(source.op, Concatenation):
        # Clamp the parts instead: other operations read most of them through a ReLU too, and then that is one value.
        return concatenate(graph, [_clamp(graph, part, maximum) for part in source.sources])
    return graph.add(Relu(maximum), (source,), source.shape, ("relu", maximum))


def _hardtanh(
    graph: GraphBuilder, source: Value, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Value | None:
    return _clamp(graph, source, float(max_val)) if min_val == 0 else None


def _zeros_like(graph: GraphBuilder, source: Value, **kwargs: Any) -> Value | None:
    if kwargs:
        return None
    return graph.add(Zeros(source.shape[1:], graph.dtype, graph.device), (), source.shape, source.shape)


def _max_pool2d(
    graph: GraphBuilder,
    source: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value | None:
    arguments = (pair(kernel_size), pair(stride or kernel_size), pair(padding), pair(dilation), return_indices)
    is_supported = arguments == ((3, 3), (1, 1), (1, 1), (1, 1), False) and len(source.shape) == 4
    if not is_supported or graph.device.type != "cpu":  # on a GPU torch's own pooling is fast
        return None
    return graph.add(MaxPool3x3(), (source,), source.shape, "max_pool_3x3")


def _avg_pool2d(
    graph: GraphBuilder,
    source: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value | None:
    if ceil_mode or divisor_override or graph.device.type != "cpu" or len(source.shape) != 4:
        return None
    window, stride, padding = pair(kernel_size), pair(stride or kernel_size), pair(padding)
    reciprocals = _window_reciprocals(source.shape[2:], window, stride, padding, count_include_pad).to(graph.dtype)
    pool = AveragePool(torch.ones(source.shape[1], 1, *window, dtype=graph.dtype), reciprocals, stride, padding)
    shape = (*source.shape[:2], *reciprocals.shape[2:])
    return graph.add(pool, (source,), shape, ("average", window, stride, padding, count_include_pad))


@lru_cache
def _window_reciprocals(
    size: TensorShape, window: TensorShape, stride: TensorShape, padding: TensorShape, count_padding: bool
) -> Tensor:
    """Return one over the number of pixels that count in each window, [1, 1, height, width]."""
    borders = (padding[1], padding[1], padding[0], padding[0])
    pixels = F.pad(torch.ones(1, 1, *size), borders, value=float(count_padding))
    return F.conv2d(pixels, torch.ones(1, 1, *window), None, stride).reciprocal()


def _add(graph: GraphBuilder, source: Value, other: Any, **kwargs: Any) -> Value | None:
    if kwargs or not isinstance(other, Value) or source.shape != other.shape:
        return None
    return graph.add(WeightedSum(((Term(),), (Term(),))), (source, other), source.shape)


def _cat(graph: GraphBuilder, sources: Sequence[Value], dim: int = 0) -> Value | None:
    return concatenate(graph, sources) if dim == 1 else None


def concatenate(graph: GraphBuilder, sources: Sequence[Value]) -> Value:
    """Add the concatenation of values along the channels."""
    batch, _, *size = sources[0].shape
    return graph.add(Concatenation(), sources, (batch, sum(source.shape[1] for source in sources), *size), "join")


def _slide(size: TensorShape, window: Any, stride: tuple[int, int], padding: tuple[int, int]) -> TensorShape:
    """Return the numbers of windows along height and width."""
    return tuple((s + 2 * p - w) // d + 1 for s, w, d, p in zip(size, window, stride, padding, strict=True))


LOWERINGS: dict[Any, Callable[..., Value | None]] = {
    F.conv2d: _conv2d,
    F.batch_norm: _batch_norm,
    F.relu: _relu,
    torch.relu: _relu,
    Tensor.relu: _relu,
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    F.max_pool2d: _max_pool2d,
    F.avg_pool2d: _avg_pool2d,
    torch.zeros_like: _zeros_like,
    torch.cat: _cat,
    torch.add: _add,
    Tensor.add: _add,
}
