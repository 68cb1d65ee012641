"""Looking into modules: the functions that a forward pass calls, written down as values of a graph.

A module is run once on tensors without content, under a mode that sees every call of a torch function. What is in
``lowering`` gets the form that is fast, and anything else is noted as it was called. A module that does what cannot be
repeated elsewhere (writes over what it reads, draws random numbers, looks at numbers) stays one opaque value.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_unflatten

from zcpt.scoring.fast.graph import Graph, Piece, Value
from zcpt.scoring.fast.lowering import LOWERINGS
from zcpt.scoring.fast.operations import Call, Opaque
from zcpt.supernet import Stochastic

Watched = Callable[[nn.Module], bool]


_log = logging.getLogger(__name__)


class _UntraceableError(Exception):
    """A module does what a graph cannot repeat."""

    def __str__(self) -> str:
        return "it works in place, draws random numbers, or uses what cannot be followed"


def trace(graph: Graph, module: nn.Module, source: Value, watched: Watched, **given: Any) -> Piece:
    """Add to a graph what a module in evaluation mode computes from one value.

    Args:
        graph: Where to.
        module: What to look into.
        source: What it is applied to.
        watched: Whether the input of a module inside is observed.
        given: Keyword arguments for it.
    """
    if any(isinstance(m, Stochastic) for m in module.modules()):
        return _opaque(graph, module, source, watched, given)
    try:
        return _looked_into(graph, module, source, watched, given)
    except Exception as error:
        # Each function has its own way to refuse tensors without content. A module's own mistakes come up where it is
        # run.
        _say_once(type(module).__name__, str(error).partition("\n")[0] or type(error).__name__)
        return _opaque(graph, module, source, watched, given)


@cache
def _say_once(name: str, reason: str) -> None:
    _log.info("the fast engine runs %s as it is, since it cannot look into it: %s", name, reason)


def _looked_into(graph: Graph, module: nn.Module, source: Value, watched: Watched, given: Mapping[str, Any]) -> Piece:
    recorder = _Recorder(graph, source)
    hooks = [m.register_forward_pre_hook(recorder.observe) for m in module.modules() if watched(m)]
    try:
        with recorder:
            output = module(recorder.start, **given)
        return Piece(recorder.value(output), tuple(recorder.observed))
    finally:
        for hook in hooks:
            hook.remove()


def _opaque(graph: Graph, module: nn.Module, source: Value, watched: Watched, given: Mapping[str, Any]) -> Piece:
    inside = tuple(m for m in module.modules() if watched(m))
    opaque = Opaque(module, inside, given)
    zeros = torch.zeros(source.shape, dtype=graph.dtype, device=graph.device)
    with torch.random.fork_rng(devices=[]):
        # With hooks from the first run on: what torch.compile made of a module looks for them only then.
        output = opaque.run(zeros, lambda seen: None)
    value = graph.add(opaque, (source,), tuple(output.shape))
    return Piece(value, (value,) if inside else ())


class _Recorder(TorchFunctionMode):
    """Writes down what is called while it is on."""

    def __init__(self, graph: Graph, source: Value) -> None:
        super().__init__()
        self.graph, self.observed = graph, list[Value]()
        self._values: dict[int, tuple[Tensor, Value | None]] = {}
        """What each tensor stands for; None if something else that lies in its memory was written over."""
        self.start = self._stand_in(torch.empty(source.shape, dtype=graph.dtype, device="meta"), source)

    def _stand_in(self, tensor: Tensor, value: Value) -> Tensor:
        if id(tensor) in self._values:  # a function gave back what it was given
            tensor = tensor.view_as(tensor)
        self._values[id(tensor)] = tensor, value
        return tensor

    def value(self, tensor: object) -> Value:
        """The value that a tensor stands for."""
        _, value = self._values.get(id(tensor), (None, None))
        if value is None:
            raise _UntraceableError
        return value

    def observe(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Note what a watched module reads: its forward pre-hook."""
        self.observed.append(self.value(inputs[0]))

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        value = self._lowered(function, args, kwargs) if function in LOWERINGS else None
        if value is None:
            return self._other(function, args, kwargs)
        if self._in_place(function, kwargs):
            return self._overwritten(args[0], value)
        return self._stand_in(torch.empty(value.shape, dtype=self.graph.dtype, device="meta"), value)

    def _lowered(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Value | None:
        first = args[0] if args else None
        sources = first if isinstance(first, list | tuple) else [first]
        if not all(id(source) in self._values for source in sources):
            return None
        opened: Any = [self.value(source) for source in sources]
        others = [self._opened(arg) for arg in args[1:]]
        named = {name: self._opened(arg) for name, arg in kwargs.items()}
        return LOWERINGS[function](self.graph, opened if sources is first else opened[0], *others, **named)

    def _opened(self, arg: Any) -> Any:
        return self.value(arg) if id(arg) in self._values else arg

    def _other(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a function gives that there is no lowering for."""
        leaves, structure = tree_flatten((args, kwargs))
        if not any(id(leaf) in self._values for leaf in leaves):
            return _constant(function, leaves, args, kwargs)
        if self._in_place(function, kwargs):
            raise _UntraceableError
        return self._called(function, leaves, structure)

    def _called(self, function: Callable[..., Any], leaves: list[Any], structure: Any) -> Any:
        """Note a function that is called again with the same arguments."""
        places = [i for i, leaf in enumerate(leaves) if id(leaf) in self._values]
        leaves = [leaf if i in places else self._in_precision(leaf) for i, leaf in enumerate(leaves)]
        sources = [self.value(leaves[place]) for place in places]
        fixed = [None if i in places else leaf for i, leaf in enumerate(leaves)]
        if any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in fixed):
            raise _UntraceableError
        there = [leaf.to("meta") if isinstance(leaf, Tensor) and not leaf.is_meta else leaf for leaf in leaves]
        args, kwargs = tree_unflatten(there, structure)
        output = function(*args, **kwargs)
        if not isinstance(output, Tensor):
            if any(isinstance(leaf, Tensor) for leaf in tree_flatten(output)[0]):
                raise _UntraceableError
            return output
        if output.dtype != self.graph.dtype:
            raise _UntraceableError
        value = self.graph.add(Call(function, places, fixed, structure), sources, tuple(output.shape))
        return self._stand_in(output, value)

    def _in_precision(self, leaf: Any) -> Any:
        return leaf.to(self.graph.dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    def _in_place(self, function: Callable[..., Any], kwargs: Mapping[str, Any]) -> bool:
        """Whether a ReLU writes over what it reads; nothing else may."""
        if not kwargs.get("inplace", False):
            if _changes(function) or kwargs.get("out") is not None:
                raise _UntraceableError
            return False
        if function not in (F.relu, F.relu6, F.hardtanh):
            raise _UntraceableError
        return True

    def _overwritten(self, tensor: Tensor, value: Value) -> Tensor:
        """Let a tensor stand for what it was overwritten with; what else lies in its memory stands for nothing now."""
        storage = _storage(tensor)
        if storage == _storage(self.start):
            raise _UntraceableError
        for key, (other, _) in self._values.items():
            if _storage(other) == storage:
                self._values[key] = other, None
        self._values[id(tensor)] = tensor, value
        return tensor


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _constant(
    function: Callable[..., Any], leaves: Sequence[Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Any:
    """What does not depend on the images is computed once; but random numbers would have to be drawn again."""
    output = function(*args, **kwargs)
    made_from_nothing = not any(isinstance(leaf, Tensor) for leaf in leaves)
    if isinstance(output, Tensor) and (made_from_nothing or _changes(function) or output.is_meta):
        raise _UntraceableError
    return output


def _changes(function: Callable[..., Any]) -> bool:
    """Whether a torch function writes into what it is given, by its name."""
    name = getattr(function, "__name__", "")
    if name.startswith("__") and name.endswith("__"):
        return name in ("__setitem__", "__set__") or (name.startswith("__i") and name != "__invert__")
    return bool(name.endswith("_"))
