"""NEAR: in how many directions the outputs of layers and activations spread (Husistein et al., ICLR 2025)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import activation

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._running import copied, norms_as, observing, run
from zcpt.seeding import derive_seed

_CHANNELS_LAST = (nn.Linear, nn.LayerNorm)
_ACTIVATIONS = tuple(getattr(activation, name) for name in activation.__all__)


@register_proxy
class Near(Proxy):
    """Sum over modules of the effective rank of what they give: exp(entropy of the normalised singular values).

    The modules are those with a weight of their own and the activation functions of torch.nn; one that runs again
    counts once, by its first output. Maps [B, C, H, W] make a matrix of B H W rows and C columns, of which a square
    block is taken that starts at a random row of pixels of an image. Where there are fewer than C rows it is all of
    them (the authors' code goes on to further batches), and the rank is at most their number. BatchNorms use the
    statistics of the batch, weights are the given ones. A matrix of zeros has rank 0; nan where an output is not finite
    (the authors' code puts 0 there). What linear layers and LayerNorms give has its channels last; of other modules
    maps are [B, C, H, W].
    """

    name = "near"
    summary = "effective rank of what layers and activations give, summed"
    higher_is_better = True
    min_batch = 2
    norms = "batch"
    cost = 4.0
    paper = "Husistein et al., ICLR 2025"

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        modules = {module: index for index, module in enumerate(net.modules()) if _counts(module)}
        if not modules:
            raise ProxyError(
                f"proxy 'near' looks at layers and activation functions, and {type(net).__name__} has none: "
                "use a network made of modules of torch.nn."
            )
        ranks: dict[int, float] = {}

        def see(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            index = modules[module]
            if index not in ranks and isinstance(output, Tensor):
                seed, last = derive_seed(batch.seed, "near", index), isinstance(module, _CHANNELS_LAST)
                ranks[index] = effective_rank(_block(output.detach(), seed, last))

        with norms_as("batch"), observing(modules, see):
            run(net, copied(net), batch.images, mixture)
        return sum(ranks.values())


def _counts(module: nn.Module) -> bool:
    return module._parameters.get("weight") is not None or isinstance(module, _ACTIVATIONS)


def _block(output: Tensor, seed: int, channels_last: bool = False) -> Tensor:
    """The rows of an output that count: at most as many as there are columns."""
    output = output if output.ndim != 4 or channels_last else output.movedim(1, -1)
    step, rows = (output.shape[-2] if output.ndim == 4 else 1), output.flatten(0, -2)
    last = len(rows) - rows.shape[1]
    if last <= 0:
        return rows
    starts = last // step + 1
    start = step * int(torch.randint(starts, (), generator=torch.Generator().manual_seed(seed), device="cpu"))
    return rows[start : start + rows.shape[1]]


def effective_rank(matrix: Tensor) -> float:
    """exp(entropy of the normalised singular values) of a matrix; 0 of zeros, nan of what is not finite."""
    if not bool(torch.isfinite(matrix).all()):
        return math.nan
    values = torch.linalg.svdvals(matrix.double())
    if not float(values.sum()):
        return 0.0
    shares = values / values.sum()
    return math.exp(float(torch.special.entr(shares).sum()))
