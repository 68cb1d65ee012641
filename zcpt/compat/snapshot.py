"""Putting somebody else's model back to what it was."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_CONTAINERS = (dict, OrderedDict, list, set)


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Leave a model bit for bit as it was, and the random generators too, also when the block fails.

    That is every attribute of every module, among them its parameters and buffers, training flag, hooks and forward;
    the content, ``requires_grad`` and gradient of every tensor in them, registered or not; the states of torch's
    generators of the CPU and of the model's device, of NumPy's and of Python's.
    """
    device = next(model.parameters()).device
    modules = [_Attributes(module) for module in model.modules()]
    tensors = [_Content(tensor) for tensor in {id(t): t for m in modules for t in _tensors(m.values)}.values()]
    generators = torch.get_rng_state(), _device_state(device), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        for attributes in modules:
            attributes.restore()
        for content in tensors:
            content.restore()
        torch.set_rng_state(generators[0])
        if generators[1] is not None:
            getattr(torch, device.type).set_rng_state(generators[1], *_named(device))
        np.random.set_state(generators[2])
        random.setstate(generators[3])


class _Attributes:
    """The attributes of a module, and what the containers among them held."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.values = module, dict(vars(module))
        self._copies = [(value, value.copy()) for value in self.values.values() if type(value) in _CONTAINERS]

    def restore(self) -> None:
        now = vars(self.module)
        for name in now.keys() - self.values.keys():
            del now[name]
        now.update(self.values)
        for container, earlier in self._copies:
            container.clear()
            (container.extend if isinstance(container, list) else container.update)(earlier)


class _Content:
    """What a tensor held, where, and its gradient."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.where, self.values = tensor, tensor.data, tensor.detach().clone()
        self.requires_grad = tensor.requires_grad
        self.gradient = tensor.grad if tensor.is_leaf else None
        self._of_gradient = None if self.gradient is None else _Content(self.gradient)

    def restore(self) -> None:
        if self.tensor.data_ptr() != self.where.data_ptr() or self.tensor.stride() != self.where.stride():
            self.tensor.data = self.where
        if not torch.equal(self.where, self.values):
            self.where.copy_(self.values)
        if self.tensor.is_leaf:
            self.tensor.requires_grad_(self.requires_grad)
            self.tensor.grad = self.gradient
        if self._of_gradient is not None:
            self._of_gradient.restore()


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors(item)


def _named(device: torch.device) -> tuple[torch.device, ...]:
    """The device as an argument, for those of which there may be several."""
    return () if device.type == "mps" else (device,)


def _device_state(device: torch.device) -> Tensor | None:
    if device.type == "cpu":
        return None
    state: Tensor = getattr(torch, device.type).get_rng_state(*_named(device))
    return state
