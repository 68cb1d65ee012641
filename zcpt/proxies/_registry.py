"""The names under which proxies are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError, unknown
from zcpt.mixture import Mixture


class Proxy(ABC):
    """A number for a network. A subclass says which direction is better and what it needs."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for ``zcpt list``."""
    higher_is_better: ClassVar[bool]
    min_batch: ClassVar[int]
    """The smallest batch for which the value says anything."""

    @abstractmethod
    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        """Score a network in evaluation mode, without gradients; it must leave the network as it was.

        Args:
            net: A supernet, or a discrete network where ``mixture`` is None.
            batch: Normalised images and labels, on the network's device.
            mixture: Weights of the supernet's candidates.
        """


_PROXIES: dict[str, Callable[[], Proxy]] = {}


def register_proxy(proxy: type[Proxy]) -> type[Proxy]:
    """Decorate a Proxy class, so that ``get_proxy`` finds it under its name."""
    if proxy.name in _PROXIES:
        raise ProxyError(f"a proxy named '{proxy.name}' exists already: choose another name.")
    _PROXIES[proxy.name] = proxy
    return proxy


def list_proxies() -> list[str]:
    """Names of all proxies."""
    return sorted(_PROXIES)


def get_proxy(name: str) -> Proxy:
    """Make the proxy of that name; ProxyError with the nearest name when there is none."""
    if name not in _PROXIES:
        raise ProxyError(unknown("proxy", name, _PROXIES, "zcpt list proxies"))
    return _PROXIES[name]()
