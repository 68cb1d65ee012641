"""Putting a model back to what it was."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_CONTAINERS = (dict, list, set, deque)
Undo = Callable[[], object]


@contextmanager
def preserve(model: nn.Module) -> Iterator[None]:
    """Leave a model bit for bit as it was, and the random generators too, also when the block fails.

    That is all that can be reached from it through attributes of modules and tensors, dicts, lists, tuples, sets,
    deques and what is derived from them: the class and the attributes of modules, among them parameters, buffers,
    flags, hooks and forward; what containers hold; the memory, content, type, shape, ``requires_grad``, gradient and
    hooks of dense tensors, registered or not; the content of NumPy arrays. Objects of other classes are not looked
    into. Of the random generators it is the states of torch's of the CPU and of the model's devices, of NumPy's and of
    Python's.
    """
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    undo = [restore for device in sorted(devices, key=str) for restore in _backend(device)]
    undo += [*_generators(), *_undo(model)]
    try:
        yield
    finally:
        errors = []
        for restore in undo:
            try:
                restore()
            except Exception as error:  # the others are to be put back all the same
                errors.append(error)
        if errors:
            raise RuntimeError(f"the model could not be put back as it was ({len(errors)} parts of it)") from errors[0]


def _undo(model: nn.Module) -> Iterator[Undo]:
    """What puts everything back, in an order in which it can be done."""
    found = list(_reachable(model))
    tensors = [_State(thing) for thing in found if isinstance(thing, Tensor)]
    storages = {s.data_ptr(): s for s in (state.where.untyped_storage() for state in tensors)}
    for thing in found:
        if isinstance(thing, nn.Module):
            yield partial(_set, thing, "__class__", thing.__class__)
        elif isinstance(thing, _CONTAINERS):
            yield partial(_refill, thing, _items(thing))
        elif isinstance(thing, np.ndarray) and thing.flags.writeable:
            yield partial(np.copyto, thing, thing.copy())
    yield from (state.put_data_back for state in tensors)
    # Whole memories, so that -0, NaN and what views share come out as they were, and no version counter moves.
    yield from (partial(storage.copy_, storage.clone()) for storage in storages.values())
    # Last, because a gradient has to be of its tensor's type and shape.
    yield from (state.put_autograd_back for state in tensors)


def _reachable(model: nn.Module) -> Iterator[Any]:
    seen: dict[int, object] = {}
    waiting: list[Any] = [model]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or not isinstance(
            thing, nn.Module | dict | list | tuple | set | deque | Tensor | np.ndarray
        ):
            continue
        seen[id(thing)] = thing  # holds it, so that no other object gets its id
        if isinstance(thing, Tensor):
            if thing.layout is not torch.strided:
                continue
            waiting += [thing.grad if thing.is_leaf else None, *(getattr(thing, name) for name in _HOOKS)]
        if isinstance(thing, Tensor | nn.Module):
            waiting.append(vars(thing))
        elif not isinstance(thing, np.ndarray):
            waiting += thing.values() if isinstance(thing, dict) else thing
        yield thing


def _items(container: Any) -> list[Any]:
    return [*container.keys(), *container.values()] if isinstance(container, dict) else list(container)


def _refill(container: Any, earlier: list[Any]) -> None:
    now = _items(container)
    if len(now) == len(earlier) and all(one is other for one, other in zip(now, earlier, strict=True)):
        return
    container.clear()
    if isinstance(container, dict):
        half = len(earlier) // 2
        for key, value in zip(earlier[:half], earlier[half:], strict=True):
            container[key] = value
    else:
        (container.update if isinstance(container, set) else container.extend)(earlier)


def _set(thing: object, name: str, earlier: object) -> None:
    if getattr(thing, name) is not earlier:  # some may be read and not set
        setattr(thing, name, earlier)


_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


class _State:
    """Of a tensor: where its content is, in which form, and what autograd knows of it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.where, self.is_leaf = tensor, tensor.data, tensor.is_leaf
        self.autograd = {name: getattr(tensor, name) for name in ("requires_grad", *_HOOKS)}
        self.gradient = tensor.grad if tensor.is_leaf else None

    def put_data_back(self) -> None:
        if self.is_leaf and not self.tensor.is_leaf:
            self.tensor.detach_()
        if _form(self.tensor) != _form(self.where):
            if self.is_leaf:
                self.tensor.grad = None  # it need not fit what the data were and will be
            self.tensor.data = self.where

    def put_autograd_back(self) -> None:
        if self.is_leaf:
            for name, earlier in self.autograd.items():
                _set(self.tensor, name, earlier)
            _set(self.tensor, "grad", self.gradient)


def _form(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _generators() -> Iterator[Undo]:
    yield partial(torch.set_rng_state, torch.get_rng_state())
    yield partial(np.random.set_state, np.random.get_state())
    yield partial(random.setstate, random.getstate())


def _backend(device: torch.device) -> Iterator[Undo]:
    """What puts the generator of a device back; the CPU's is ``_generators``', and 'meta' has none."""
    if device.type not in ("cpu", "meta"):
        backend: Any = getattr(torch, device.type)
        # Devices of which there may be several are named.
        named = () if device.type == "mps" else (device,)
        yield partial(backend.set_rng_state, backend.get_rng_state(*named), *named)
