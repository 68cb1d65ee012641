"""Restore a model to its earlier state after a block of code has changed it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zcpt.seeding import exclude_threads

_CONTAINERS = (dict, list, set, deque)
Undo = Callable[[], object]
"""Function that restores one part of the state."""


@contextmanager
def preserve(model: nn.Module) -> Iterator[None]:
    """Restore a model and the random generators bit for bit after a ``with`` block, also when the block fails.

    Restored is everything that can be reached from the model through attributes of modules and tensors, dicts, lists,
    tuples, sets, deques and classes derived from these:

    - the class and the attributes of modules, among them parameters, buffers, flags, hooks and ``forward``;
    - the items of containers;
    - memory, content, type, shape, ``requires_grad``, gradient and hooks of dense tensors, registered or not;
    - the content of NumPy arrays;
    - the state of torch's generators on the CPU and on the model's devices, of NumPy's and of Python's.

    Objects of other classes are not searched. Other threads of zcpt wait.
    """
    with exclude_threads():
        yield from _preserve(model)


def _preserve(model: nn.Module) -> Iterator[None]:
    devices = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    undo = [restore for device in sorted(devices, key=str) for restore in _save_device_generator(device)]
    undo += [*_save_cpu_generators(), *_save_model(model)]
    try:
        yield
    finally:
        errors = []
        for restore in undo:
            try:
                restore()
            except Exception as error:  # the rest must be restored all the same
                errors.append(error)
        if errors:
            raise RuntimeError(f"the model could not be restored ({len(errors)} parts failed)") from errors[0]


def _save_model(model: nn.Module) -> Iterator[Undo]:
    """Yield the functions that restore the model. Their order matters, see the comments."""
    reachable = list(_find_reachable(model))
    tensors = [_TensorState(item) for item in reachable if isinstance(item, Tensor)]
    storages = {s.data_ptr(): s for s in (state.data.untyped_storage() for state in tensors)}
    for item in reachable:
        if isinstance(item, nn.Module):
            yield partial(_restore_attribute, item, "__class__", item.__class__)
        elif isinstance(item, _CONTAINERS):
            yield partial(_refill, item, _list_items(item))
        elif isinstance(item, np.ndarray) and item.flags.writeable:
            yield partial(np.copyto, item, item.copy())
    # Tensors first get back their storage, so that the copies below reach the memory that they use.
    yield from (state.restore_data for state in tensors)
    # Whole storages, so that -0, NaN and memory shared by views come back bit for bit, and no version counter moves.
    yield from (partial(storage.copy_, storage.clone()) for storage in storages.values())
    # Last, because a gradient must have the type and shape of its tensor.
    yield from (state.restore_autograd for state in tensors)


def _find_reachable(model: nn.Module) -> Iterator[Any]:
    """Yield the modules, tensors, containers and arrays that can be reached from a model, each once."""
    seen: dict[int, object] = {}
    waiting: list[Any] = [model]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or not isinstance(
            item, nn.Module | dict | list | tuple | set | deque | Tensor | np.ndarray
        ):
            continue
        seen[id(item)] = item  # the reference keeps its id from being given to another object
        if isinstance(item, Tensor):
            if item.layout is not torch.strided:
                continue
            waiting += [item.grad if item.is_leaf else None, *(getattr(item, name) for name in _HOOKS)]
        if isinstance(item, Tensor | nn.Module):
            waiting.append(vars(item))
        elif not isinstance(item, np.ndarray):
            waiting += item.values() if isinstance(item, dict) else item
        yield item


def _list_items(container: Any) -> list[Any]:
    """Return the items of a container; of a dict all keys, then all values."""
    return [*container.keys(), *container.values()] if isinstance(container, dict) else list(container)


def _refill(container: Any, earlier: list[Any]) -> None:
    now = _list_items(container)
    # By identity: comparing tensors with == would give tensors. An unchanged container is not touched.
    if len(now) == len(earlier) and all(a is b for a, b in zip(now, earlier, strict=True)):
        return
    container.clear()
    if isinstance(container, dict):
        half = len(earlier) // 2
        for key, value in zip(earlier[:half], earlier[half:], strict=True):
            container[key] = value
    else:
        (container.update if isinstance(container, set) else container.extend)(earlier)


def _restore_attribute(owner: object, name: str, earlier: object) -> None:
    if getattr(owner, name) is not earlier:  # some attributes can be read but not set
        setattr(owner, name, earlier)


_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


class _TensorState:
    """Storage, layout and autograd state of a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        self.data = tensor.data
        self.is_leaf = tensor.is_leaf
        self.autograd = {name: getattr(tensor, name) for name in ("requires_grad", *_HOOKS)}
        self.gradient = tensor.grad if tensor.is_leaf else None

    def restore_data(self) -> None:
        if self.is_leaf and not self.tensor.is_leaf:
            self.tensor.detach_()
        if _get_layout(self.tensor) != _get_layout(self.data):
            if self.is_leaf:
                self.tensor.grad = None  # torch refuses data whose shape or type the gradient does not have
            self.tensor.data = self.data

    def restore_autograd(self) -> None:
        if self.is_leaf:
            for name, earlier in self.autograd.items():
                _restore_attribute(self.tensor, name, earlier)
            _restore_attribute(self.tensor, "grad", self.gradient)


def _get_layout(tensor: Tensor) -> tuple[object, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def _save_cpu_generators() -> Iterator[Undo]:
    yield partial(torch.set_rng_state, torch.get_rng_state())
    yield partial(np.random.set_state, np.random.get_state())
    yield partial(random.setstate, random.getstate())


def _save_device_generator(device: torch.device) -> Iterator[Undo]:
    """Yield the function that restores the generator of a device, if it has one besides the CPU's."""
    if device.type not in ("cpu", "meta"):
        backend: Any = getattr(torch, device.type)
        # torch.mps takes no device, because there is only one.
        arguments = () if device.type == "mps" else (device,)
        yield partial(backend.set_rng_state, backend.get_rng_state(*arguments), *arguments)


@contextmanager
def use_generators(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's generators on the CPU and on a device, NumPy's and Python's for a block, and restore them."""
    with exclude_threads():
        undo = [*_save_device_generator(device), *_save_cpu_generators()]
        torch.default_generator.manual_seed(seed)
        if device.type not in ("cpu", "meta"):
            getattr(torch, device.type).manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            for restore in undo:
                restore()


class StateCopy:
    """Copy of the state of a network that scoring must not change: tensors, gradients, modes and hooks.

    It is cheaper than ``preserve`` and tells what has changed.

    Args:
        model: The network.
        others: Further tensors that must not change, by name.
    """

    def __init__(self, model: nn.Module, others: Mapping[str, Tensor] | None = None) -> None:
        self._model = model
        self._others = others or {}
        modules = list(model.named_modules())
        tensors, self._flags = self._list_state(modules)
        self._tensors = {name: (tensor, tensor.detach().clone()) for name, tensor in tensors.items()}
        self._modes = [(module, module.training) for _, module in modules]

    def find_change(self) -> str:
        """Return the name of the first thing that has changed, e.g. "'stem.0.weight'"; empty if nothing has."""
        tensors, flags = self._list_state(self._model.named_modules())
        for name in (*self._tensors, *tensors):
            tensor, content = self._tensors.get(name, (None, None))
            if tensor is None or content is None or tensors.get(name) is not tensor or not _is_equal(tensor, content):
                return name
        return next((name for name in (*self._flags, *flags) if flags.get(name) != self._flags.get(name)), "")

    def restore(self) -> None:
        """Restore the content of tensors, the modes, and gradients that were absent; not tensors that were replaced."""
        with torch.no_grad():
            for tensor, content in self._tensors.values():
                if tensor.shape == content.shape and tensor.dtype == content.dtype:
                    tensor.copy_(content)
        for name, parameter in self._model.named_parameters():
            if f"the gradient of '{name}'" not in self._tensors:
                parameter.grad = None
        for module, training in self._modes:
            module.training = training

    def _list_state(self, modules: Iterable[tuple[str, nn.Module]]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors and flags by name, in the order in which changes are looked for."""
        parameters: dict[str, Tensor] = {}
        buffers: dict[str, Tensor] = {}
        flags: dict[str, Any] = {}
        seen: set[int] = set()
        # One walk for all: named_parameters and named_buffers walk through the modules again, and a network of
        # thousands of modules would take longer to walk through than to score by a cheap proxy.
        for path, module in modules:
            owner = f"'{path}'" if path else "the network"
            hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks)
            flags[f"the training mode of {owner}"] = module.training
            flags[f"the hooks of {owner}"] = tuple(map(len, hooks))
            flags[f"the method forward of {owner}"] = vars(module).get("forward")
            for registered, found in ((module._parameters, parameters), (module._buffers, buffers)):
                for name, tensor in registered.items():
                    if tensor is not None and id(tensor) not in seen:  # shared ones have the first of their names
                        seen.add(id(tensor))
                        found[f"'{path}.{name}'" if path else f"'{name}'"] = tensor
        flags |= {f"requires_grad of {name}": parameter.requires_grad for name, parameter in parameters.items()}
        gradients = {f"the gradient of {name}": p.grad for name, p in parameters.items() if p.grad is not None}
        return {**parameters, **buffers, **gradients, **self._others}, flags


def _is_equal(tensor: Tensor, content: Tensor) -> bool:
    if tensor.shape != content.shape or tensor.dtype != content.dtype or tensor.is_meta:
        return tensor.is_meta and tensor.shape == content.shape
    # A second look only where they differ: torch.equal takes NaN for unequal to itself.
    return torch.equal(tensor, content) or bool(((tensor == content) | (tensor.isnan() & content.isnan())).all())
