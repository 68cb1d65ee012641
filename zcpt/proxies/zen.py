"""Zen-score: the sensitivity of a random network's feature maps to its input (Lin et al., ICCV 2021)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies._feature_maps import LastMapFinder
from zcpt.proxies._forward import run_network
from zcpt.proxies._images import draw_normal
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import Proxy, register_proxy
from zcpt.proxies._weights import draw_weights
from zcpt.seeding import derive_seed

_NOISE = 0.01


@register_proxy
class Zen(Proxy):
    """ln(mean over images of sum |f(x) - f(x + 0.01 e)|) + sum over BatchNorms of ln sqrt(mean running variance).

    f are the feature maps before the global pooling; x and e are standard normal, as many and as large as the images of
    the batch (the paper has 16). Weights are N(0, 1), biases 0. A repeat draws all of them anew; the score is the mean
    over the repeats. A running variance is the moving average that the BatchNorm keeps, starting at 1, through both
    forward passes of all repeats, and not the variance of a batch. BatchNorms that do not run add 0.

    The published search scores networks without their residual connections; here they are scored as they are. Without
    any BatchNorm, N(0, 1) weights overflow in deep networks, and the score is inf or nan.

    Args:
        repeats: Number of draws.

    Raises:
        ProxyError: There are no repeats; or, from ``score``, a BatchNorm keeps no running statistics, or there are no
            feature maps before a pooling.
    """

    name = "zen"
    summary = "sensitivity of the last feature maps to the input, with N(0, 1) weights"
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
        # Shared by the repeats: the published code builds the network once and draws new weights into it.
        statistics = initial_statistics(net)
        terms = []
        for repeat in range(self.repeats):
            seed = derive_seed(batch.seed, "zen", repeat)
            tensors = draw_weights(net, "normal", seed) | statistics
            x, e = (draw_normal(batch.images.shape, batch.images, derive_seed(seed, name)) for name in ("x", "e"))
            terms.append(self.compute_term(net, tensors, x, x + _NOISE * e, mixture))
        return sum(terms) / len(terms)

    def compute_term(
        self,
        net: nn.Module,
        tensors: Mapping[str, Tensor],
        images: Tensor,
        noisy_images: Tensor,
        mixture: Mixture | None = None,
    ) -> float:
        """Return the term of one repeat.

        Args:
            net: The network.
            tensors: Its parameters and buffers; the running statistics among them are updated.
            images: Images x [B, C, H, W].
            noisy_images: x + 0.01 e.
            mixture: Weights of the supernet's candidates.
        """
        with norm_mode("batch"):
            before, after = (self._compute_maps(net, tensors, x, mixture) for x in (images, noisy_images))
        change = (after.double() - before.double()).abs().sum() / len(images)
        scales = [tensors[f"{name}.running_var"].double().mean().sqrt().log() for name in list_batch_norms(net)]
        return float(sum(scales, change.log()))

    def _compute_maps(
        self, net: nn.Module, tensors: Mapping[str, Tensor], images: Tensor, mixture: Mixture | None
    ) -> Tensor:
        finder = LastMapFinder(images)
        with finder.observe():
            run_network(net, images, mixture, tensors)
        return finder.get_maps(net, self.name)


def list_batch_norms(net: nn.Module) -> list[str]:
    """Return the names of the 2d BatchNorms of a network.

    Raises:
        ProxyError: One of them keeps no running statistics.
    """
    norms = {name: m for name, m in net.named_modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)}
    for name, module in norms.items():
        if module.running_var is None:
            raise ProxyError(
                f"proxy 'zen' reads running variances, and BatchNorm '{name}' of {type(net).__name__} keeps none: "
                "build it with track_running_stats=True."
            )
    return list(norms)


def initial_statistics(net: nn.Module) -> dict[str, Tensor]:
    """Return the running statistics of BatchNorms that have not run, by name: means 0, variances 1."""
    statistics = {}
    for norm in list_batch_norms(net):
        for buffer_name in ("running_mean", "running_var", "num_batches_tracked"):
            name = f"{norm}.{buffer_name}" if norm else buffer_name
            buffer = net.get_buffer(name)
            statistics[name] = torch.ones_like(buffer) if buffer_name == "running_var" else torch.zeros_like(buffer)
    return statistics
