"""NASWOT: how differently the images of a batch switch a network's ReLUs (Mellor et al., ICML 2021)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from zcpt.batches import Batch
from zcpt.errors import ProxyError, refuse_old_names
from zcpt.mixture import Mixture
from zcpt.proxies._forward import run_network
from zcpt.proxies._intercept import hook_modules
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._weights import clone_tensors

_EXACT_FLOAT32 = 2**24
"""Largest integer up to which float32 holds every integer exactly."""


_RENAMED = {
    "counts": "is_counted",
    "mixture": "adapt_mixture",
    "kernel": "compute_kernel",
    "logits": "compute_logits",
    "nothing_ran": "no_relu_error",
}
"""Method of naswot in version 0.1 -> its name now."""


@register_proxy
class Naswot(Proxy):
    """log det K, where K[i, j] counts the ReLU units that images i and j switch alike.

    Every ReLU that runs adds a term of its own: two operations that read the same node count twice, and a removed
    operation does not count. BatchNorms work in evaluation mode.
    """

    name = "naswot"
    summary = "log-determinant of the ReLU agreement kernel, each operation's own ReLUs counted"
    higher_is_better = True
    min_batch = 2
    paper = "Mellor et al., ICML 2021"
    fast_engine = True

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_old_names(cls, _RENAMED, ProxyError)

    def is_counted(self, module: nn.Module) -> bool:
        """Return whether the input of this module adds a term to the kernel."""
        return isinstance(module, nn.ReLU | nn.ReLU6)

    def adapt_mixture(self, mixture: Mixture | None) -> Mixture | None:
        """Return the mixture under which the activations are taken."""
        return mixture

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        kernel, logits = self._compute_kernel_and_logits(net, batch.images, mixture)
        return log_determinant(kernel) if bool(torch.isfinite(logits).all()) else math.nan

    def compute_kernel(self, net: nn.Module, images: Tensor, mixture: Mixture | None = None) -> Tensor:
        """Return the agreement kernel K [B, B], int64, on the CPU; K[i, i] is the number of units counted.

        Raises:
            ProxyError: No ReLU module of the network ran.
        """
        return self._compute_kernel_and_logits(net, images, mixture)[0]

    def _compute_kernel_and_logits(
        self, net: nn.Module, images: Tensor, mixture: Mixture | None
    ) -> tuple[Tensor, Tensor]:
        kernels = _KernelSum()
        with hook_modules((module for module in net.modules() if self.is_counted(module)), before=kernels.add):
            logits = self.compute_logits(net, images, self.adapt_mixture(mixture))
        if kernels.total is None:
            raise self.no_relu_error(net)
        return kernels.total.cpu(), logits

    def compute_logits(self, net: nn.Module, images: Tensor, mixture: Mixture | None) -> Tensor:
        """Run the network and return its logits [B, classes]."""
        return run_network(net, images, mixture)

    def no_relu_error(self, net: nn.Module) -> ProxyError:
        """Return the error for a network in which no module is counted."""
        return ProxyError(
            f"proxy '{self.name}' compares how ReLUs switch, and no nn.ReLU module ran in "
            f"{type(net).__name__}: use a network whose activations are nn.ReLU or nn.ReLU6 modules."
        )


@register_proxy
class OfficialNaswot(Naswot):
    """NASWOT as the published Zero-Cost-PT code counts.

    It hooks every module with 'ReLU' in its class name, so composite modules such as ReLUConvBN count once
    more than their ReLU does, and on NAS-Bench-201 and NAS-Bench-Macro removed convolutions stay and read zeros.
    """

    name = "naswot-official"
    summary = "naswot as the published code counts: composite modules again, masked convolutions fed zeros"

    def is_counted(self, module: nn.Module) -> bool:
        return "ReLU" in type(module).__name__

    def adapt_mixture(self, mixture: Mixture | None) -> Mixture | None:
        return mixture and replace(mixture, feed_zeros=True)


@register_proxy
class BatchNaswot(Naswot):
    """NASWOT of a whole network as its authors compute it: BatchNorms use the statistics of the batch.

    In evaluation mode the BatchNorms of a network that was never trained do nothing.
    """

    name = "naswot-batch"
    summary = "naswot with BatchNorms by the statistics of the batch, for whole networks"
    norms = "batch"
    cost = 1.2

    def compute_logits(self, net: nn.Module, images: Tensor, mixture: Mixture | None) -> Tensor:
        with norm_mode("batch"):
            # On clones, because BatchNorms that use the statistics of the batch also update their running statistics.
            return run_network(net, images, mixture, clone_tensors(net, gradients=False))


class _KernelSum:
    """Sum of the agreement kernels of module inputs; the kernel of a tensor that is read twice is computed once."""

    def __init__(self) -> None:
        self.total: Tensor | None = None
        self._kernels = WeakIdKeyDictionary()

    def add(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Add the kernel of a module's input; a forward pre-hook."""
        x: Tensor = inputs[0]
        version, kernel = self._kernels.get(x, (-1, None))
        if version != x._version:  # not in the cache, or changed by an in-place operation since
            kernel = agreement_kernel(x)
            self._kernels[x] = (x._version, kernel)
        # A clone, because the sum is taken in place and the first kernel may be added again.
        self.total = kernel.clone() if self.total is None else self.total.add_(kernel)


def agreement_kernel(x: Tensor) -> Tensor:
    """Count, for every two samples of ``x`` [B, ...], the units that are positive in both or in neither.

    Returns:
        [B, B], int64, exact: the products are computed in float32, whose integers are exact up to 2^24, over
        pieces of at most that many units.
    """
    if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
        x = x.permute(0, 2, 3, 1)  # in memory order, so that flattening copies nothing; any order of the units works
    both = torch.zeros(len(x), len(x), dtype=torch.int64, device=x.device)
    units = x.detach().flatten(1)
    for piece in units.split(_EXACT_FLOAT32, dim=1):
        # Compared straight into floats: via booleans it takes thirty times as long.
        positive = torch.gt(piece, 0, out=torch.empty_like(piece, dtype=torch.float32))
        both += (positive @ positive.T).long()
    positives = both.diagonal()
    # Of N units, sample i has positives[i] positive ones, so for two samples:
    # positive in neither = N - positives[i] - positives[j] + positive in both.
    return 2 * both - positives[:, None] - positives[None, :] + units.shape[1]


def log_determinant(kernel: Tensor) -> float:
    """Return log det of a positive semi-definite kernel [B, B], in float64; -inf if it is singular to that precision.

    Singularity is decided by the pivots of the Cholesky factor: a determinant would take the rounding error of a
    dependent row for a small positive number.
    """
    kernel = kernel.double()
    factor, failed = torch.linalg.cholesky_ex(kernel)
    pivots = factor.diagonal()
    # The kernel's rounding error is B * eps * largest entry; the factor is its square root, and so is the tolerance.
    tolerance = math.sqrt(len(kernel) * torch.finfo(kernel.dtype).eps * float(kernel.diagonal().max()))
    if failed or float(pivots.min()) <= tolerance:
        return -math.inf
    return 2 * float(pivots.log().sum())
