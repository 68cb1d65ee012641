"""Scores of one network by several proxies."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ConfigError, ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies import Aggregate, Proxy, get_criterion
from zcpt.scoring.evaluate import evaluate


def score(
    net: nn.Module,
    batch: Batch | tuple[Tensor, Tensor],
    proxies: str | Proxy | Iterable[str | Proxy],
    mixture: Mixture | None = None,
) -> dict[str, float]:
    """Score any network by zero-cost proxies; it is afterwards what it was, bit for bit.

    Args:
        net: Any network from images [B, C, H, W] to logits [B, classes], such as one of torchvision or timm.
        batch: Images, normalised, and labels [B], on the network's device.
        proxies: Proxies, or their names (``zcpt list proxies``).
        mixture: Where the network is a supernet: weights of its candidates; None is that of a search's start.

    Returns:
        A number for each name. It can be nan or infinite, where that is what the definition gives.

    Raises:
        ProxyError: A proxy cannot score this network, or does not know the name.
        ConfigError: The batch is no pair of tensors.
    """
    if not isinstance(batch, tuple | list) or not all(isinstance(tensor, Tensor) for tensor in batch[:2]):
        raise ConfigError("the batch must be a pair of tensors: images [B, C, H, W] and labels [B].")
    several = [proxies] if isinstance(proxies, str | Proxy) else list(proxies)
    chosen = [_single(proxy) if isinstance(proxy, str) else proxy for proxy in several]
    batch = Batch(*batch)
    with torch.random.fork_rng(devices=[]):
        return {proxy.name: evaluate(net, proxy, [mixture], batch, engine="plain").item() for proxy in chosen}


def _single(name: str) -> Proxy:
    found = get_criterion(name)
    if isinstance(found, Aggregate):
        parts = ", ".join(part.name for part in found.parts)
        raise ProxyError(
            f"aggregate '{name}' ranks several networks by each other and has no value for one: score each by {parts}, "
            f"and give the scores to zcpt.get_aggregate('{name}').values."
        )
    return found
