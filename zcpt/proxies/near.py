"""NEAR: the effective rank of the outputs of layers and activations (Husistein et al., ICLR 2025)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import activation

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._forward import run_network
from zcpt.proxies._intercept import hook_modules
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._weights import clone_tensors
from zcpt.seeding import derive_seed

_CHANNELS_LAST = (nn.Linear, nn.LayerNorm)
_ACTIVATIONS = tuple(getattr(activation, name) for name in activation.__all__)


@register_proxy
class Near(Proxy):
    """Sum over modules of the effective rank of their output: exp(entropy of the normalised singular values).

    The modules are those with a weight of their own and the activation functions of torch.nn; one that runs again
    counts once, with its first output. Maps [B, C, H, W] form a matrix of B H W rows and C columns, of which a square
    block is taken that starts at a random row of pixels of an image. With fewer than C rows it is all of them (the
    authors' code takes further batches), and the rank is at most their number. BatchNorms use the statistics of the
    batch, weights are the given ones. A matrix of zeros has rank 0; nan where an output is not finite (the authors'
    code puts 0 there). Outputs of linear layers and LayerNorms have their channels last; maps of other modules are
    [B, C, H, W].
    """

    name = "near"
    summary = "effective rank of the outputs of layers and activations, summed"
    higher_is_better = True
    min_batch = 2
    norms = "batch"
    cost = 4.0
    paper = "Husistein et al., ICLR 2025"

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        modules = {module: index for index, module in enumerate(net.modules()) if _is_counted(module)}
        if not modules:
            raise ProxyError(
                f"proxy 'near' needs layers or activation functions, and {type(net).__name__} has none: "
                "use a network made of modules of torch.nn."
            )
        ranks: dict[int, float] = {}

        def add_rank(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            index = modules[module]
            if index not in ranks and isinstance(output, Tensor):
                # Seeded by the module, so that a removed candidate does not change the rows of the others.
                seed = derive_seed(batch.seed, "near", index)
                ranks[index] = effective_rank(_draw_rows(output.detach(), seed, isinstance(module, _CHANNELS_LAST)))

        with norm_mode("batch"), hook_modules(modules, after=add_rank):
            run_network(net, batch.images, mixture, clone_tensors(net))
        return sum(ranks.values())


def _is_counted(module: nn.Module) -> bool:
    return module._parameters.get("weight") is not None or isinstance(module, _ACTIVATIONS)


def _draw_rows(output: Tensor, seed: int, channels_last: bool = False) -> Tensor:
    """Return consecutive rows of an output [B, C, H, W] as a matrix: as many as it has columns, or all if fewer."""
    output = output if output.ndim != 4 or channels_last else output.movedim(1, -1)
    step = output.shape[-2] if output.ndim == 4 else 1  # of maps, the block starts at the first pixel of a row
    rows = output.flatten(0, -2)
    last = len(rows) - rows.shape[1]
    if last <= 0:
        return rows
    starts = last // step + 1
    start = step * int(torch.randint(starts, (), generator=torch.Generator().manual_seed(seed), device="cpu"))
    return rows[start : start + rows.shape[1]]


def effective_rank(matrix: Tensor) -> float:
    """Return exp(entropy of the normalised singular values) of a matrix; 0 for zeros, nan if it is not finite."""
    if not bool(torch.isfinite(matrix).all()):
        return math.nan
    values = torch.linalg.svdvals(matrix.double())
    if not float(values.sum()):
        return 0.0
    shares = values / values.sum()
    return math.exp(float(torch.special.entr(shares).sum()))
