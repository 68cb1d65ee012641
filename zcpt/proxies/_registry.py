"""The contract of a proxy, and the registry in which proxies are found by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from torch import nn

from zcpt.architecture import Architecture
from zcpt.batches import Batch
from zcpt.errors import ProxyError, refuse_old_names
from zcpt.mixture import Mixture
from zcpt.printing import shorten
from zcpt.registry import Registry, check_part_class

Need = Literal["images", "shape", "labels", "gradients", "batches"]
"""Input of a proxy: the images, or only their shape; labels; gradients; several batches (parts of the given one)."""
NormMode = Literal["evaluation", "batch", "bypassed", "mixed", "none"]
"""Mode of normalisation layers: as in evaluation; BatchNorms with the statistics of the batch; all norms left out;
different modes in the parts of the proxy; or none, because nothing is run."""
WeightInit = Literal["given", "normal", "kaiming", "kaiming fan-out"]
"""Weights on which a network is scored: its own, or random ones that the proxy draws, seeded by the batch."""


_RENAMED = {"sees_mixture": "depends_on_mixture", "blind": "independence_reason"}
"""Attribute of a proxy in version 0.1 -> its name now."""


class Proxy(ABC):
    """A zero-cost proxy: a score of a network from one mini-batch, without training.

    Subclasses set ``name`` and ``higher_is_better``, declare what they need, and implement ``score``.
    """

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    """One line for ``zcpt list``; if empty, the first line of the docstring."""
    higher_is_better: ClassVar[bool]
    min_batch: ClassVar[int] = 1
    """Smallest batch for which the score is meaningful."""
    needs: ClassVar[frozenset[Need]] = frozenset({"images"})
    norms: ClassVar[NormMode] = "evaluation"
    dtype: ClassVar[Literal["as given", "float64"]] = "as given"
    weights: WeightInit = "given"
    """Initialisation of the weights; proxies that draw weights take it as a constructor argument."""
    depends_on_mixture: ClassVar[bool] = True
    """True if the score depends on the mixture of a supernet; if not, the proxy cannot score operations."""
    independence_reason: ClassVar[str] = ""
    """Reason shown to the user if ``depends_on_mixture`` is False, e.g. 'it reads the weights alone': no full stop."""
    cost: ClassVar[float] = 1.0
    """Approximate cost, in forward passes of the batch."""
    paper: ClassVar[str] = ""
    fast_engine: ClassVar[bool] = False
    """True if the fast engine of ``zcpt.scoring`` computes this proxy's scores.

    A subclass that replaces ``score``, ``compute_kernel`` or ``compute_logits`` is reset to False unless it declares
    the attribute anew: the fast engine calls none of these methods, so it would compute the parent's scores.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_old_names(cls, _RENAMED, ProxyError)
        # Looked up along the MRO, not in vars(cls): a mixin can replace a method as well as the class itself.
        declaring = next(base for base in cls.__mro__ if "fast_engine" in vars(base))
        names = ("score", "compute_kernel", "compute_logits")
        if any(getattr(cls, name, None) is not getattr(declaring, name, None) for name in names):
            cls.fast_engine = False

    @abstractmethod
    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        """Score a network, and leave it as it was.

        Args:
            net: A supernet, or a discrete network if ``mixture`` is None; in evaluation mode, gradients disabled.
            batch: Normalised images and labels, on the network's device.
            mixture: Weights of the supernet's candidates.

        Returns:
            The score; nan if it is undefined, and -inf or inf if that is its value.

        Raises:
            ProxyError: The network lacks what this proxy reads, or the batch does not fit.
        """


class LayerProxy(Proxy):
    """A proxy that is a sum over the convolutions and linear layers of a network."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_old_names(cls, {"per_layer": "score_layers"}, ProxyError)

    @abstractmethod
    def score_layers(self, net: nn.Module, batch: Batch, mixture: Mixture | None = None) -> dict[str, float]:
        """Return the terms that ``score`` sums, by the name of the layer.

        Args:
            net: As in ``score``.
            batch: As in ``score``.
            mixture: As in ``score``.

        Raises:
            ProxyError: The network has no such layer, or the batch does not fit.
        """

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        return float(sum(self.score_layers(net, batch, mixture).values()))


class ArchitectureProxy(Proxy):
    """A proxy that measures an architecture by networks of its own, such as a short training.

    Rankings of architectures take it beside other proxies; it can score neither a given network nor operations.
    """

    higher_is_better = True
    needs = frozenset()
    norms = "none"
    depends_on_mixture = False
    independence_reason = "it trains networks of its own"
    about: Mapping[str, Any] = MappingProxyType({})
    """What its scores depend on, for the folder of a measurement."""

    @abstractmethod
    def score_architecture(self, architecture: Architecture, seed: int) -> float:
        """Return the score of an architecture; nan if it has none.

        Args:
            architecture: Architecture.
            seed: Seed of all random numbers.

        Raises:
            ZcptError: The architecture cannot be measured.
        """

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        raise ProxyError(f"proxy '{self.name}' measures architectures, and scores no network that is given.")


_PROXIES: Registry[type[Proxy]] = Registry("proxy", ProxyError, "zcpt list proxies")
Class = TypeVar("Class", bound=type[Proxy])


def register_proxy(proxy: Class) -> Class:
    """Decorate a Proxy class, so that ``get_proxy`` finds it under its name.

    Raises:
        ProxyError: The name is taken, or the class lacks its name or direction.
    """
    check_part_class(proxy, Proxy, "a proxy", ProxyError)
    return _PROXIES.decorator(required=("name", "higher_is_better"))(proxy)


def list_proxies() -> list[str]:
    """Return the names of all proxies, sorted."""
    return sorted(_PROXIES)


def get_proxy(name: str) -> Proxy:
    """Return a new proxy of that name.

    Raises:
        ProxyError: There is none, with the nearest name; or the class of a user cannot be created without arguments, or
            has an attribute of the wrong type.
    """
    kind = _PROXIES[name]
    try:
        proxy = kind()
    except ProxyError:
        raise
    except Exception as error:  # the constructor of a user may raise anything
        raise ProxyError(
            f"proxy '{name}' cannot be created: {kind.__name__}() raises {type(error).__name__} "
            f"({shorten(error, 200)}). Give every argument of its constructor a default."
        ) from error
    check_attributes(proxy)
    return proxy


def check_attributes(proxy: object) -> None:
    """Check that a proxy, possibly of a class that is not derived from ours, has what scoring reads.

    Raises:
        ProxyError: An attribute is missing or of the wrong type.
    """
    name, direction, least = (getattr(proxy, key, None) for key in ("name", "higher_is_better", "min_batch"))
    is_count = isinstance(least, int | np.integer) and not isinstance(least, bool)
    requirements = {
        "name": ("a text", isinstance(name, str) and name != "" and name.isprintable()),
        "higher_is_better": ("True or False", isinstance(direction, bool | np.bool_)),
        "min_batch": ("a whole number of at least 1", is_count and int(least or 0) >= 1),
        "score": ("a method", callable(getattr(proxy, "score", None))),
    }
    for attribute, (allowed, is_met) in requirements.items():
        if not is_met:
            given = shorten(repr(getattr(proxy, attribute, None)))
            raise ProxyError(
                f"{attribute} of proxy class {type(proxy).__name__} must be {allowed}, not {given}: set it in the "
                "class, and derive that from zcpt.Proxy."
            )
