"""What a proxy is and declares, and the names under which proxies are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, TypeVar

from torch import nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.registry import Registry

Need = Literal["images", "shape", "labels", "gradients", "batches"]
"""What a proxy reads: real images, or only their shape; labels; gradients; several batches (parts of the given one)."""
Norms = Literal["evaluation", "batch", "bypassed", "mixed", "none"]
"""How normalisation layers work: as in evaluation; BatchNorms with the statistics of the batch; all of them left out;
not alike in the parts of the proxy; or it is all the same, as nothing is run."""
Weights = Literal["given", "normal", "kaiming", "kaiming fan-out"]
"""With which weights a network is scored: its own, or ones that the proxy draws, seeded by the batch."""


class Proxy(ABC):
    """A number for a network. A subclass says which direction is better and what it needs."""

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    """One line for ``zcpt list``; where it is empty, that of the docstring."""
    higher_is_better: ClassVar[bool]
    min_batch: ClassVar[int] = 1
    """The smallest batch for which the value says anything."""
    needs: ClassVar[frozenset[Need]] = frozenset({"images"})
    norms: ClassVar[Norms] = "evaluation"
    dtype: ClassVar[Literal["as given", "float64"]] = "as given"
    weights: Weights = "given"
    """A proxy that draws weights may be told others when it is made."""
    depends_on_mixture: ClassVar[bool] = True
    """Whether the value depends on the mixture of a supernet; if not, the proxy cannot score operations."""
    independence_reason: ClassVar[str] = ""
    """Reason for the error message where it does not: 'it reads the weights alone'."""
    cost: ClassVar[float] = 1.0
    """Roughly how many forward passes of the batch it takes."""
    paper: ClassVar[str] = ""
    fast_engine: ClassVar[bool] = False
    """True if the fast engine of ``zcpt.scoring`` computes this proxy's scores.

    A subclass that replaces ``score``, ``compute_kernel`` or ``compute_logits`` is reset to False unless it declares
    the attribute anew: the fast engine calls none of these methods, so it would compute the parent's scores.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Looked up along the MRO, not in vars(cls): a mixin can replace a method as well as the class itself.
        declaring = next(base for base in cls.__mro__ if "fast_engine" in vars(base))
        names = ("score", "compute_kernel", "compute_logits")
        if any(getattr(cls, name, None) is not getattr(declaring, name, None) for name in names):
            cls.fast_engine = False

    @abstractmethod
    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        """Score a network that is handed over in evaluation mode, without gradients; it must be left as it was.

        Args:
            net: A supernet, or a discrete network where ``mixture`` is None.
            batch: Normalised images and labels, on the network's device.
            mixture: Weights of the supernet's candidates.

        Returns:
            The value; nan where it has none, and -inf or inf where it is that.

        Raises:
            ProxyError: The network has nothing that this proxy looks at, or the batch does not do.
        """


_PROXIES: Registry[type[Proxy]] = Registry("proxy", ProxyError, "zcpt list proxies")
Class = TypeVar("Class", bound=type[Proxy])


def register_proxy(proxy: Class) -> Class:
    """Decorate a Proxy class, so that ``get_proxy`` finds it under its name.

    Raises:
        ProxyError: The name is taken, or the class does not say its name or direction.
    """
    return _PROXIES.decorator(required=("name", "higher_is_better"))(proxy)


def list_proxies() -> list[str]:
    """Names of all proxies."""
    return sorted(_PROXIES)


def get_proxy(name: str) -> Proxy:
    """Make the proxy of that name; ProxyError with the nearest name when there is none."""
    return _PROXIES[name]()
