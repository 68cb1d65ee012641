"""The boundary to proxies of users: what they raise, return and leave changed becomes a ProxyError that names them."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import LostError, ProxyError, ZcptError, describe_error, is_out_of_memory
from zcpt.items import describe_value
from zcpt.mixture import Mixture
from zcpt.proxies import Proxy
from zcpt.registry import is_built_in
from zcpt.snapshot import StateCopy, use_generators


def _set_default_device(device: torch.device) -> None:
    # None, not "cpu": a device that is set costs time in every call of a torch function.
    torch.set_default_device(None if device.type == "cpu" else device)


_SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "default type": (torch.get_default_dtype, torch.set_default_dtype),
    "default device": (torch.get_default_device, _set_default_device),
    "number of threads": (torch.get_num_threads, torch.set_num_threads),
    "gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "deterministic mode": (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
}
"""Settings of torch that a proxy must leave as they are: how to read and how to write each."""
_OWN_PACKAGES = ("zcpt", "darts_space", "mobilenet_space")


def compute_score(proxy: Proxy, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
    """Score a network under one mixture by any proxy.

    The random generators of torch's CPU, NumPy and Python have the seed of the batch while a proxy of the user runs, so
    that its score depends on nothing else; their state is restored.

    Raises:
        ProxyError: A proxy of the user raises an error, returns something else than a number, or leaves a setting of
            torch changed.
    """
    if is_built_in(proxy):
        return float(proxy.score(net, batch, mixture))
    with explain_failure(proxy, net), _restore_settings(proxy), use_generators(batch.seed, batch.images.device):
        value: object = proxy.score(net, batch, mixture)
    return _convert_score(proxy, value)


@contextmanager
def explain_failure(proxy: Proxy, net: nn.Module) -> Iterator[None]:
    """Turn an error that a proxy or a network of the user raises into a ProxyError, with that error as its cause."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ZcptError | LostError) or is_out_of_memory(error):
            raise
        if not is_built_in(proxy):
            reason = describe_error(error, type(proxy).__module__)
            raise ProxyError(
                f"proxy '{proxy.name}' failed on {type(net).__name__}: {reason}. Mend {type(proxy).__name__}.score; "
                "zcpt.testing.check_proxy tests it."
            ) from error
        # A network of the user may consist of torch's modules only, one of ours has modules of ours.
        foreign = next((module for module in net.modules() if not _is_from(module, *_OWN_PACKAGES, "torch")), net)
        if _is_from(foreign, *_OWN_PACKAGES):
            raise
        reason = describe_error(error, type(foreign).__module__)
        raise ProxyError(
            f"network {type(foreign).__name__} failed while proxy '{proxy.name}' scored it: {reason}. Mend the "
            "network, or give another proxy."
        ) from error


def _is_from(module: nn.Module, *packages: str) -> bool:
    """Return whether the class of a module is one of these packages."""
    return type(module).__module__.partition(".")[0] in packages


@contextmanager
def check_unchanged(proxy: Proxy, net: nn.Module, batch: Batch) -> Iterator[None]:
    """Check that a proxy of the user leaves network and batch as they are; where it does not, they are restored.

    Raises:
        ProxyError: It changes a parameter, a buffer, a gradient, a mode, hooks or the batch.
    """
    if is_built_in(proxy):
        yield
        return
    state = StateCopy(net, {"the images of the batch": batch.images, "the labels of the batch": batch.labels})
    try:
        yield
    finally:
        if change := state.find_change():
            state.restore()
    if change:
        raise ProxyError(
            f"proxy '{proxy.name}' changes {change}, on which later scores depend: let {type(proxy).__name__}.score "
            "restore it, or work on clones (zcpt.proxies.clone_tensors and run_network)."
        )


@contextmanager
def _restore_settings(proxy: Proxy) -> Iterator[None]:
    before = {name: read() for name, (read, _) in _SETTINGS.items()}
    changed: list[str] = []
    try:
        yield
    finally:
        for name, (read, write) in _SETTINGS.items():
            now = read()
            if now != before[name]:
                write(before[name])
                changed.append(f"torch's {name} changed from {before[name]} to {now}")
    if changed:
        raise ProxyError(
            f"proxy '{proxy.name}' leaves {' and '.join(changed)}: let {type(proxy).__name__}.score restore it, in "
            "a 'finally' block."
        )


def _convert_score(proxy: Proxy, value: object) -> float:
    """Return the score that a proxy of the user returned as a float; ProxyError if it is no real number."""
    number = _read_element(value)
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise ProxyError(
            f"proxy '{proxy.name}' returns {describe_value(value)} instead of a score: let "
            f"{type(proxy).__name__}.score return one real number, as float(...)."
        )
    try:
        return float(number)
    except OverflowError:
        raise ProxyError(
            f"proxy '{proxy.name}' returns an integer beyond the largest float (1.8e308): let "
            f"{type(proxy).__name__}.score return a smaller number, such as its logarithm."
        ) from None


def _read_element(value: object) -> object:
    """Return the number in a tensor or an array of one element; anything else as it is."""
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 and not value.is_meta else value
    if isinstance(value, np.ndarray | np.generic):
        return value.item() if value.size == 1 else value
    return value
