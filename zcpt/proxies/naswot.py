"""NASWOT: how differently the images of a batch switch a network's ReLUs (Mellor et al., ICML 2021)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._running import copied, logits_of, norms_as, run

_EXACT_FLOAT32 = 2**24


@register_proxy
class Naswot(Proxy):
    """log det K, where K[i, j] counts the ReLU units that images i and j switch alike.

    Every ReLU that runs adds a term of its own: two operations that read the same node count twice, and a
    removed operation does not count. BatchNorms work in evaluation mode.
    """

    name = "naswot"
    summary = "log-determinant of the ReLU agreement kernel, each operation's own ReLUs counted"
    higher_is_better = True
    min_batch = 2
    paper = "Mellor et al., ICML 2021"
    fast_engine = True

    def is_counted(self, module: nn.Module) -> bool:
        """Whether the input of this module adds a term."""
        return isinstance(module, nn.ReLU | nn.ReLU6)

    def adapt_mixture(self, mixture: Mixture | None) -> Mixture | None:
        """The mixture under which the activations are taken."""
        return mixture

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        kernel, logits = self._observed(net, batch.images, mixture)
        return log_determinant(kernel) if bool(torch.isfinite(logits).all()) else math.nan

    def compute_kernel(self, net: nn.Module, images: Tensor, mixture: Mixture | None = None) -> Tensor:
        """The agreement kernel K [B, B], int64, on the CPU; K[i, i] is the number of units counted.

        Raises:
            ProxyError: No ReLU module of the network ran.
        """
        return self._observed(net, images, mixture)[0]

    def _observed(self, net: nn.Module, images: Tensor, mixture: Mixture | None) -> tuple[Tensor, Tensor]:
        terms = _Terms()
        mixture = self.adapt_mixture(mixture)
        with _observing((m for m in net.modules() if self.is_counted(m)), terms.add):
            logits = self.compute_logits(net, images, mixture)
        if terms.total is None:
            raise self.no_relu_error(net)
        return terms.total.cpu(), logits

    def compute_logits(self, net: nn.Module, images: Tensor, mixture: Mixture | None) -> Tensor:
        """Run the network."""
        return logits_of(net, net(images) if mixture is None else net(images, mixture))

    def no_relu_error(self, net: nn.Module) -> ProxyError:
        """The error of a network in which nothing counts."""
        return ProxyError(
            f"proxy '{self.name}' compares how ReLUs switch, and no nn.ReLU module ran in "
            f"{type(net).__name__}: use a network whose activations are nn.ReLU or nn.ReLU6 modules."
        )


@register_proxy
class OfficialNaswot(Naswot):
    """NASWOT as the published Zero-Cost-PT code counts.

    It hooks every module with 'ReLU' in its class name, so composite modules such as ReLUConvBN count once
    more than their ReLU does, and on NAS-Bench-201 and NAS-Bench-Macro removed convolutions stay and see zeros.
    """

    name = "naswot-official"
    summary = "naswot as the published code counts: composite modules again, masked convolutions fed zeros"

    def is_counted(self, module: nn.Module) -> bool:
        return "ReLU" in type(module).__name__

    def adapt_mixture(self, mixture: Mixture | None) -> Mixture | None:
        return mixture and replace(mixture, feed_zeros=True)


@register_proxy
class BatchNaswot(Naswot):
    """NASWOT of a whole network as its authors take it: BatchNorms use the statistics of the batch.

    In evaluation mode those of a network that was never trained do nothing.
    """

    name = "naswot-batch"
    summary = "naswot with BatchNorms by the statistics of the batch, for whole networks"
    norms = "batch"
    cost = 1.2

    def compute_logits(self, net: nn.Module, images: Tensor, mixture: Mixture | None) -> Tensor:
        with norms_as("batch"):
            return run(net, copied(net, gradients=False), images, mixture)


class _Terms:
    """Adds up the kernels of the tensors that it is shown; one that is shown again is not computed again."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self._known = WeakIdKeyDictionary()

    def add(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        x: Tensor = inputs[0]
        version, term = self._known.get(x, (-1, None))
        if version != x._version:  # an operation that works in place has changed it since
            term = agreement_kernel(x)
            self._known[x] = (x._version, term)
        self.total = term.clone() if self.total is None else self.total.add_(term)


def agreement_kernel(x: Tensor) -> Tensor:
    """Count, for every two samples of ``x`` [B, ...], the units that are positive in both or in neither.

    Returns:
        [B, B], int64, exact: the products are taken in float32, whose integers are exact up to 2^24, over
        pieces of at most that many units.
    """
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)  # the order of the units is all the same, and so flattening copies nothing
    both = torch.zeros(len(x), len(x), dtype=torch.int64, device=x.device)
    units = x.detach().flatten(1)
    for piece in units.split(_EXACT_FLOAT32, dim=1):
        # Compared straight into floats: going by way of booleans takes thirty times as long.
        positive = torch.gt(piece, 0, out=torch.empty_like(piece, dtype=torch.float32))
        both += (positive @ positive.T).long()
    alone = both.diagonal()
    return 2 * both - alone[:, None] - alone[None, :] + units.shape[1]


def log_determinant(kernel: Tensor) -> float:
    """log det of a positive semi-definite kernel [B, B], in float64; -inf when it is singular to that precision.

    The Cholesky pivots tell: a rounding error left over from a dependent row is not mistaken for a determinant.
    """
    kernel = kernel.double()
    factor, failed = torch.linalg.cholesky_ex(kernel)
    pivots = factor.diagonal()
    smallest = math.sqrt(len(kernel) * torch.finfo(kernel.dtype).eps * float(kernel.diagonal().max()))
    if failed or float(pivots.min()) <= smallest:
        return -math.inf
    return 2 * float(pivots.log().sum())


@contextmanager
def _observing(modules: Iterator[nn.Module], observe: Any) -> Iterator[None]:
    handles = [module.register_forward_pre_hook(observe) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
