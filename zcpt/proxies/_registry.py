"""The names under which proxies are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, TypeVar

from torch import nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.registry import Registry


class Proxy(ABC):
    """A number for a network. A subclass says which direction is better and what it needs."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    """One line for ``zcpt list``; where it is empty, that of the docstring."""
    higher_is_better: ClassVar[bool]
    min_batch: ClassVar[int] = 1
    """The smallest batch for which the value says anything."""

    @abstractmethod
    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        """Score a network in evaluation mode, without gradients; it must leave the network as it was.

        Args:
            net: A supernet, or a discrete network where ``mixture`` is None.
            batch: Normalised images and labels, on the network's device.
            mixture: Weights of the supernet's candidates.
        """


_PROXIES: Registry[type[Proxy]] = Registry("proxy", ProxyError, "zcpt list proxies")
Class = TypeVar("Class", bound=type[Proxy])


def register_proxy(proxy: Class) -> Class:
    """Decorate a Proxy class, so that ``get_proxy`` finds it under its name.

    Raises:
        ProxyError: The name is taken, or the class does not say its name or direction.
    """
    for attribute in ("name", "higher_is_better"):
        if not hasattr(proxy, attribute):
            raise ProxyError(f"proxy {proxy.__name__} has no {attribute}: write '{attribute} = ...' into the class.")
    _PROXIES.register(proxy.name, proxy, proxy)
    return proxy


def list_proxies() -> list[str]:
    """Names of all proxies."""
    return sorted(_PROXIES)


def get_proxy(name: str) -> Proxy:
    """Make the proxy of that name; ProxyError with the nearest name when there is none."""
    return _PROXIES[name]()
