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
from zcpt.snapshot import preserved


def score(
    net: nn.Module,
    batch: Batch | tuple[Tensor, Tensor],
    proxies: str | Proxy | Iterable[str | Proxy],
    mixture: Mixture | None = None,
) -> dict[str, float]:
    """Score any network by zero-cost proxies.

    The network is afterwards what it was, bit for bit, and so are the random generators, also when it or a proxy fails
    (``zcpt.snapshot.preserved``). What it draws from torch's generator of the CPU is the same in every call with the
    same batch.

    Args:
        net: Any network from images [B, C, H, W] to logits [B, classes], such as one of torchvision or timm.
        batch: Images, normalised, and labels [B], on the network's device; as a ``Batch`` also with a seed.
        proxies: Proxies, or their names (``zcpt list proxies``).
        mixture: Where the network is a supernet: weights of its candidates; None is that of a search's start.

    Returns:
        A number for each name. It can be nan or infinite, where that is what the definition gives.

    Raises:
        ProxyError: A proxy cannot score this network or this batch, or the name is not known.
        ConfigError: The batch is no pair of tensors, as many labels as images.
    """
    images, labels, *seed = _checked(batch)
    given = Batch(images, labels, *seed)
    several = [proxies] if isinstance(proxies, str | Proxy) else list(proxies)
    chosen = [_single(proxy) if isinstance(proxy, str) else proxy for proxy in several]
    scores: dict[str, float] = {}
    for proxy in chosen:
        with preserved(net):
            torch.default_generator.manual_seed(given.seed)
            copy = given._replace(images=images.clone())  # a network may begin with what works in place
            scores[proxy.name] = evaluate(net, proxy, [mixture], copy, engine="plain").item()
    return scores


def _checked(batch: object) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, int]:
    if (
        not isinstance(batch, tuple | list)
        or len(batch) not in (2, 3)
        or not all(isinstance(tensor, Tensor) for tensor in batch[:2])
    ):
        raise ConfigError("the batch must be a pair of tensors: images [B, C, H, W] and labels [B].")
    images, labels = batch[:2]
    if labels.shape != images.shape[:1]:
        raise ConfigError(
            f"the batch must have one label for each image, not labels {list(labels.shape)} for images "
            f"{list(images.shape)}: give images [B, C, H, W] and labels [B]."
        )
    return tuple(batch)


def _single(name: str) -> Proxy:
    found = get_criterion(name)
    if isinstance(found, Aggregate):
        parts = ", ".join(part.name for part in found.parts)
        raise ProxyError(
            f"aggregate '{name}' ranks several networks by each other and has no value for one: score each by {parts}, "
            f"and give the scores to zcpt.get_aggregate('{name}').values."
        )
    return found
