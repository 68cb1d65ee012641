"""Functions of torch in the form that is fast: each one's arguments, and the value that it adds to a graph.

A lowering gives None where the function is called in a way that it does not know; then the call is noted as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zcpt.scoring.fast.graph import Graph, Mix, Term, Value
from zcpt.scoring.fast.operations import AveragePool, Convolution, Join, MaxPool3, Relu, Scale, Size, Zeros, pair


def _conv2d(
    graph: Graph,
    source: Value,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value | None:
    known = isinstance(weight, Tensor) and not isinstance(bias, Value) and not isinstance(padding, str)
    if not known or len(source.shape) != 4:
        return None
    window = [d * (k - 1) + 1 for d, k in zip(pair(dilation), weight.shape[2:], strict=True)]
    shape = (source.shape[0], len(weight), *_slid(source.shape[2:], window, pair(stride), pair(padding)))
    bias, every = None if bias is None else bias.detach(), 1
    if weight.shape[2:] == (1, 1) and pair(padding) == (0, 0) and len({*pair(stride)}) == 1:
        # To leave out first what is not read is less work than to step over it.
        every, stride = pair(stride)[0], 1
    return graph.add(Convolution(weight.detach(), bias, stride, padding, dilation, groups, every), (source,), shape)


def _batch_norm(
    graph: Graph,
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
    uniform = not summands.any() and bool((factors == factors[0]).all())
    op = Scale(scale, shift, float(factors[0]) if uniform else None)
    return graph.add(op, (source,), source.shape, ("scale", factors.tobytes(), summands.tobytes()))


def _relu(graph: Graph, source: Value, inplace: bool = False) -> Value:
    return _cut_off(graph, source, None)


def _relu6(graph: Graph, source: Value, inplace: bool = False) -> Value:
    return _cut_off(graph, source, 6.0)


def _cut_off(graph: Graph, source: Value, top: float | None) -> Value:
    if isinstance(source.op, Join):
        # Of what is joined, most is cut off elsewhere, too.
        return joined(graph, [_cut_off(graph, part, top) for part in source.sources])
    return graph.add(Relu(top), (source,), source.shape, ("relu", top))


def _hardtanh(
    graph: Graph, source: Value, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Value | None:
    return _cut_off(graph, source, float(max_val)) if min_val == 0 else None


def _zeros_like(graph: Graph, source: Value, **kwargs: Any) -> Value | None:
    return (
        None
        if kwargs
        else graph.add(Zeros(source.shape[1:], graph.dtype, graph.device), (), source.shape, source.shape)
    )


def _max_pool2d(
    graph: Graph,
    source: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value | None:
    given = (pair(kernel_size), pair(stride or kernel_size), pair(padding), pair(dilation), return_indices)
    usual = given == ((3, 3), (1, 1), (1, 1), (1, 1), False) and len(source.shape) == 4
    if not usual or graph.device.type != "cpu":
        return None
    return graph.add(MaxPool3(), (source,), source.shape, "max_pool_3x3")


def _avg_pool2d(
    graph: Graph,
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
    share = _share(source.shape[2:], window, stride, padding, count_include_pad).to(graph.dtype)
    pool = AveragePool(torch.ones(source.shape[1], 1, *window, dtype=graph.dtype), share, stride, padding)
    shape = (*source.shape[:2], *share.shape[2:])
    return graph.add(pool, (source,), shape, ("average", window, stride, padding, count_include_pad))


@lru_cache
def _share(size: Size, window: Size, stride: Size, padding: Size, pluralize: bool) -> Tensor:
    """One over the number of pixels of each window that count."""
    pixels = F.pad(torch.ones(1, 1, *size), (padding[1], padding[1], padding[0], padding[0]), value=float(pluralize))
    return F.conv2d(pixels, torch.ones(1, 1, *window), None, stride).reciprocal()


def _add(graph: Graph, source: Value, other: Any, **kwargs: Any) -> Value | None:
    if kwargs or not isinstance(other, Value) or source.shape != other.shape:
        return None
    return graph.add(Mix(((Term(),), (Term(),))), (source, other), source.shape)


def _cat(graph: Graph, sources: Sequence[Value], dim: int = 0) -> Value | None:
    return joined(graph, sources) if dim == 1 else None


def joined(graph: Graph, sources: Sequence[Value]) -> Value:
    """The values side by side along the channels."""
    batch, _, *size = sources[0].shape
    return graph.add(Join(), sources, (batch, sum(source.shape[1] for source in sources), *size), "join")


def _slid(size: Size, window: Any, stride: tuple[int, int], padding: tuple[int, int]) -> Size:
    """How often a window fits, along height and width."""
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
