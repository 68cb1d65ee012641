"""Tracing modules: the functions that a forward pass calls, recorded as values of a graph.

A module is run once on meta tensors, which have a shape and no content, under a mode that intercepts every call of a
torch function. A function in ``lowering`` becomes a fast operation, any other is recorded as it was called. A module
that does what a graph cannot repeat (overwrites its input, draws random numbers, branches on numbers) stays one value.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from zcpt.scoring.fast.graph import GraphBuilder, Value
from zcpt.scoring.fast.lowering import LOWERINGS
from zcpt.scoring.fast.operations import FunctionCall, Identity, OpaqueModule
from zcpt.supernet import Stochastic

IsWatched = Callable[[nn.Module], bool]
"""Predicate of the modules whose inputs a proxy observes."""
_log = logging.getLogger(__name__)


class _UntraceableError(Exception):
    """A module does what a graph cannot repeat."""

    def __str__(self) -> str:
        return "it works in place, draws random numbers, or uses a result that cannot be traced"


@dataclass(frozen=True)
class TracedModule:
    """The values that a module in its place gives and that a proxy observes in it."""

    output: Value
    observed: tuple[Value, ...]
    """Input of each watched module, once for each time that it runs."""


def trace_module(
    graph: GraphBuilder, module: nn.Module, source: Value, is_watched: IsWatched, **arguments: Any
) -> TracedModule:
    """Add to a graph the values that a module in evaluation mode computes from one value.

    Args:
        graph: Graph to add to.
        module: The module.
        source: Value that it is applied to.
        is_watched: Predicate of the modules inside whose inputs are observed.
        arguments: Keyword arguments of its forward pass.
    """
    if any(isinstance(m, Stochastic) for m in module.modules()):
        return _add_opaque(graph, module, source, is_watched, arguments)
    try:
        return _record_calls(graph, module, source, is_watched, arguments)
    except Exception as error:
        # Any exception: each function refuses meta tensors in its own way. A real mistake of the module is raised
        # again by the run in _add_opaque. Values that were added so far are dropped by the passes.
        _log_once(type(module).__name__, str(error).partition("\n")[0] or type(error).__name__)
        return _add_opaque(graph, module, source, is_watched, arguments)


@cache
def _log_once(name: str, reason: str) -> None:
    _log.info("the fast engine runs %s as it is, since it cannot be traced: %s", name, reason)


def _record_calls(
    graph: GraphBuilder, module: nn.Module, source: Value, is_watched: IsWatched, arguments: Mapping[str, Any]
) -> TracedModule:
    recorder = _CallRecorder(graph, source)
    hooks = [m.register_forward_pre_hook(recorder.observe) for m in module.modules() if is_watched(m)]
    try:
        with recorder:
            output = module(recorder.source, **arguments)
        return TracedModule(recorder.get_value(output), tuple(recorder.observed))
    finally:
        for hook in hooks:
            hook.remove()


def _add_opaque(
    graph: GraphBuilder, module: nn.Module, source: Value, is_watched: IsWatched, arguments: Mapping[str, Any]
) -> TracedModule:
    watched = tuple(m for m in module.modules() if is_watched(m))
    opaque = OpaqueModule(module, watched, arguments)
    zeros = torch.zeros(source.shape, dtype=graph.dtype, device=graph.device)
    with torch.random.fork_rng(devices=[]):
        # Run with hooks from the first time on: a module of torch.compile looks for hooks only when it is compiled.
        output = opaque.run(zeros, lambda seen: None)
    value = graph.add(opaque, (source,), tuple(output.shape))
    if not watched:
        return TracedModule(value, ())
    # An observed opaque value stands for the inputs of the modules inside. Its output is a value of its own, because a
    # ReLU behind it observes that.
    return TracedModule(graph.add(Identity(), (value,), value.shape), (value,))


class _CallRecorder(TorchFunctionMode):
    """Records the calls of torch functions while it is active.

    Each meta tensor of the traced module stands for one value; tensors are found by ``id`` and kept alive, because an
    id may be used again for a new tensor.
    """

    def __init__(self, graph: GraphBuilder, source: Value) -> None:
        super().__init__()
        self.graph = graph
        self.observed: list[Value] = []
        self._values: dict[int, tuple[Tensor, Value | None]] = {}
        """Value of each tensor; None if its memory was overwritten through another tensor."""
        self.source = self._represent(torch.empty(source.shape, dtype=graph.dtype, device="meta"), source)

    def _represent(self, tensor: Tensor, value: Value) -> Tensor:
        if id(tensor) in self._values:  # a function returned its argument: a second tensor for the second value
            tensor = tensor.view_as(tensor)
        self._values[id(tensor)] = tensor, value
        return tensor

    def get_value(self, tensor: object) -> Value:
        """Return the value that a tensor stands for."""
        _, value = self._values.get(id(tensor), (None, None))
        if value is None:
            raise _UntraceableError
        return value

    def observe(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Record the input of a watched module: its forward pre-hook."""
        self.observed.append(self.get_value(inputs[0]))

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        value = self._lower(function, args, kwargs) if function in LOWERINGS else None
        if value is None:
            return self._record_other(function, args, kwargs)
        if self._is_in_place(function, kwargs):
            return self._overwrite(args[0], value)
        return self._represent(torch.empty(value.shape, dtype=self.graph.dtype, device="meta"), value)

    def _lower(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Value | None:
        first = args[0] if args else None
        sources = first if isinstance(first, list | tuple) else [first]
        if not all(id(source) in self._values for source in sources):
            return None
        values: Any = [self.get_value(source) for source in sources]
        positional = [self._lookup(arg) for arg in args[1:]]
        named = {name: self._lookup(arg) for name, arg in kwargs.items()}
        return LOWERINGS[function](self.graph, values if sources is first else values[0], *positional, **named)

    def _lookup(self, arg: Any) -> Any:
        return self.get_value(arg) if id(arg) in self._values else arg

    def _record_other(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the result of a call without lowering."""
        leaves, structure = tree_flatten((args, kwargs))
        if not any(id(leaf) in self._values for leaf in leaves):
            return _compute_constant(function, leaves, args, kwargs)
        if self._is_in_place(function, kwargs):
            raise _UntraceableError
        return self._record_call(function, leaves, structure)

    def _record_call(self, function: Callable[..., Any], leaves: list[Any], structure: Any) -> Any:
        """Record a function that will be called again with the same arguments."""
        places = [i for i, leaf in enumerate(leaves) if id(leaf) in self._values]
        leaves = [leaf if i in places else self._cast(leaf) for i, leaf in enumerate(leaves)]
        sources = [self.get_value(leaves[place]) for place in places]
        fixed = [None if i in places else leaf for i, leaf in enumerate(leaves)]
        if any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in fixed):
            raise _UntraceableError
        on_meta = [leaf.to("meta") if isinstance(leaf, Tensor) and not leaf.is_meta else leaf for leaf in leaves]
        args, kwargs = tree_unflatten(on_meta, structure)
        output = function(*args, **kwargs)
        if not isinstance(output, Tensor):
            if any(isinstance(leaf, Tensor) for leaf in tree_flatten(output)[0]):
                raise _UntraceableError
            return output
        if output.dtype != self.graph.dtype:
            raise _UntraceableError
        value = self.graph.add(FunctionCall(function, places, fixed, structure), sources, tuple(output.shape))
        return self._represent(output, value)

    def _cast(self, leaf: Any) -> Any:
        return leaf.to(self.graph.dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    def _is_in_place(self, function: Callable[..., Any], kwargs: Mapping[str, Any]) -> bool:
        """Return whether a call is a ReLU that overwrites its argument; no other function may do that."""
        if not kwargs.get("inplace", False):
            if _is_mutating(function) or kwargs.get("out") is not None:
                raise _UntraceableError
            return False
        if function not in (F.relu, F.relu6, F.hardtanh):
            raise _UntraceableError
        return True

    def _overwrite(self, tensor: Tensor, value: Value) -> Tensor:
        """Let a tensor stand for the value it was overwritten with; other tensors in its memory lose theirs."""
        storage = _storage(tensor)
        if storage == _storage(self.source):  # other modules read it too
            raise _UntraceableError
        for key, (other, _) in self._values.items():
            if _storage(other) == storage:
                self._values[key] = other, None
        self._values[id(tensor)] = tensor, value
        return tensor


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _compute_constant(
    function: Callable[..., Any], leaves: Sequence[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """Compute a result that does not depend on the images once, while tracing.

    Tensors made from numbers alone are refused, because random ones would have to be drawn anew in every forward pass.
    """
    output = function(*args, **kwargs)
    is_from_numbers = not any(isinstance(leaf, Tensor) for leaf in leaves)
    if isinstance(output, Tensor) and (is_from_numbers or _is_mutating(function) or output.is_meta):
        raise _UntraceableError
    return output


def _is_mutating(function: Callable[..., Any]) -> bool:
    """Return whether a torch function writes into its arguments, by its name, such as ``add_`` or ``__iadd__``."""
    name = getattr(function, "__name__", "")
    if name.startswith("__") and name.endswith("__"):
        return name in ("__setitem__", "__set__") or (name.startswith("__i") and name != "__invert__")
    return bool(name.endswith("_"))
