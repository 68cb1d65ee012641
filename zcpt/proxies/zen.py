"""Zen-score: how much the feature maps of a network with random weights move with its input (Lin et al., ICCV 2021)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._running import draw_weights, mean, normal, norms_as, run
from zcpt.proxies._watching import LastMaps
from zcpt.seeding import derive_seed

_NOISE = 0.01


@register_proxy
class Zen(Proxy):
    """ln(mean over images of sum |f(x) - f(x + 0.01 e)|) + sum over BatchNorms of ln sqrt(mean running variance).

    f are the feature maps before the global pooling; x and e are standard normal, as many and as large as the images of
    the batch (the paper has 16). Weights are N(0, 1), biases 0. A repeat draws all of them anew; the score is the mean
    over the repeats. A running variance is the moving average that the BatchNorm keeps, from 1 on, through both forward
    passes of all repeats, and not the variance of a batch. BatchNorms that do not run add 0.

    The published search scores networks without their residual connections; here they are scored as they are. Without
    any BatchNorm, N(0, 1) weights overflow in deep networks, and the value is inf or nan.

    Args:
        repeats: How many draws.

    Raises:
        ProxyError: There are no repeats; or, from ``score``, a BatchNorm keeps no running statistics, or there are no
            feature maps before a pooling.
    """

    name = "zen"
    summary = "how much the last feature maps of a network with N(0, 1) weights move with its input"
    higher_is_better = True
    needs = frozenset({"shape"})
    norms = "batch"
    weights = "normal"
    cost = 64.0
    paper = "Lin et al., ICCV 2021"

    def __init__(self, repeats: int = 32) -> None:
        if repeats < 1:
            raise ProxyError(f"proxy 'zen' needs at least 1 repeat, not {repeats}.")
        self.repeats = repeats

    def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
        statistics = fresh_statistics(net)
        terms = []
        for repeat in range(self.repeats):
            seed = derive_seed(batch.seed, "zen", repeat)
            tensors = draw_weights(net, "normal", seed) | statistics
            x, e = (normal(batch.images.shape, batch.images, derive_seed(seed, name)) for name in ("x", "e"))
            terms.append(self.term(net, tensors, x, x + _NOISE * e, mixture))
        return mean(terms)

    def term(
        self, net: nn.Module, tensors: Mapping[str, Tensor], x: Tensor, moved: Tensor, mixture: Mixture | None = None
    ) -> float:
        """The value for these weights and two batches of images [B, C, H, W].

        Args:
            net: The network.
            tensors: Its parameters and buffers; the running statistics among them go on moving.
            x: Images.
            moved: The same ones, moved a little.
            mixture: Weights of the supernet's candidates.
        """
        with norms_as("batch"):
            before, after = (self._maps(net, tensors, images, mixture) for images in (x, moved))
        change = (after.double() - before.double()).abs().sum() / len(x)
        scales = [tensors[f"{name}.running_var"].double().mean().sqrt().log() for name in batch_norms(net)]
        return float(sum(scales, change.log()))

    def _maps(self, net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None) -> Tensor:
        last = LastMaps(images)
        with last.watching():
            run(net, tensors, images, mixture)
        return last.found(net, self.name)


def batch_norms(net: nn.Module) -> list[str]:
    """The names of the 2d BatchNorms of a network.

    Raises:
        ProxyError: One of them keeps no running statistics.
    """
    found = {name: m for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)}
    for name, module in found.items():
        if module.running_var is None:
            raise ProxyError(
                f"proxy 'zen' reads running variances, and BatchNorm '{name}' of {type(net).__name__} keeps none: "
                "build it with track_running_stats=True."
            )
    return list(found)


def fresh_statistics(net: nn.Module) -> dict[str, Tensor]:
    """The running statistics of BatchNorms that have not run: means 0, variances 1."""
    statistics = {}
    for name in batch_norms(net):
        for part in ("running_mean", "running_var", "num_batches_tracked"):
            path = f"{name}.{part}" if name else part
            buffer = net.get_buffer(path)
            statistics[path] = torch.ones_like(buffer) if part == "running_var" else torch.zeros_like(buffer)
    return statistics
