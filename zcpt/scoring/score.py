"""Scores of one network of any make by several proxies, and layer by layer."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from zcpt.batches import Batch, as_batch
from zcpt.errors import ConfigError, ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies import Aggregate, LayerProxy, Proxy, get_criterion, get_proxy, list_proxies
from zcpt.scoring.evaluator import score_mixtures, scoring_context
from zcpt.snapshot import preserve


def score(
    net: nn.Module,
    batch: Batch | tuple[Tensor, Tensor],
    proxies: str | Proxy | Iterable[str | Proxy],
    mixture: Mixture | None = None,
) -> dict[str, float]:
    """Score any network by zero-cost proxies.

    The network is afterwards what it was, bit for bit, and so are the random generators, also when it or a proxy fails
    (``zcpt.snapshot.preserve``). What it draws from torch's generator of the CPU is the same in every call with the
    same batch.

    Args:
        net: Any network from images [B, C, H, W] to logits [B, classes], such as one of torchvision or timm. Of one
            that is wrapped for several devices, or compiled, it is the network inside.
        batch: Images, normalised, and labels [B], on the network's device; as a ``Batch`` also with a seed.
        proxies: Proxies, or their names (``zcpt list proxies``).
        mixture: Where the network is a supernet: weights of its candidates; None is that of a search's start.

    Returns:
        A number for each name. It can be nan or infinite, where that is what the definition gives.

    Raises:
        ProxyError: A proxy cannot score this network or this batch, or the name is not known.
        ConfigError: The network or the batch is none, or the two do not go together.
    """
    net, given = _fitting(net, batch, mixture)
    several = proxies if isinstance(proxies, Iterable) and not isinstance(proxies, str) else [proxies]
    chosen = [_single(proxy) for proxy in several]
    names = [proxy.name for proxy in chosen]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ProxyError(f"scores are told apart by name, and {', '.join(sorted(twice))} comes twice: give it once.")
    scores: dict[str, float] = {}
    for proxy in chosen:
        with _untouched(net, given) as copy:
            scores[proxy.name] = score_mixtures(net, proxy, [mixture], copy, engine="plain").item()
    return scores


def score_layers(
    net: nn.Module, batch: Batch | tuple[Tensor, Tensor], proxy: str | Proxy, mixture: Mixture | None = None
) -> dict[str, float]:
    """What each layer adds to the score of a proxy that is a sum over layers.

    Arguments and errors are those of ``score``, and the network is afterwards what it was.

    Returns:
        A number for the name of each convolution and linear layer that the proxy looks at.
    """
    net, given = _fitting(net, batch, mixture)
    chosen = _single(proxy)
    if not isinstance(chosen, LayerProxy):
        those = [name for name in list_proxies() if isinstance(get_proxy(name), LayerProxy)]
        raise ProxyError(f"proxy '{chosen.name}' is no sum over layers: give one of {', '.join(those)}.")
    with _untouched(net, given) as copy, scoring_context(net, chosen, copy):
        return chosen.score_layers(net, copy, mixture)


@contextmanager
def _untouched(net: nn.Module, batch: Batch) -> Iterator[Batch]:
    """Leave the network as it was, and give a copy of the batch: a network may begin with what works in place."""
    with torch.inference_mode(False), preserve(net):
        torch.default_generator.manual_seed(batch.seed)
        yield Batch(batch.images.clone(), batch.labels.clone(), batch.seed)


def _fitting(net: object, batch: object, mixture: Mixture | None) -> tuple[nn.Module, Batch]:
    """The network inside ``net``, and the batch; ConfigError where they cannot be used."""
    inside, given = _network(net), as_batch(batch)
    weights = [parameter for parameter in inside.parameters() if parameter.is_floating_point()]
    types, devices = ({getattr(weight, name) for weight in weights} for name in ("dtype", "device"))
    images = given.images
    if not images.is_floating_point():
        raise ConfigError(f"images are {images.dtype}: give floating-point numbers, normalised.")
    if types and images.dtype not in types and not torch.is_autocast_enabled(images.device.type):
        raise ConfigError(f"images are {images.dtype} and the weights are {_listed(types)}: bring both to one type.")
    if len(devices) == 1 and images.device not in devices:
        raise ConfigError(f"images are on {images.device} and the network is on {_listed(devices)}: bring them there.")
    if mixture is not None and not _takes(inside, images, mixture):
        raise ConfigError(f"{type(inside).__name__} is no supernet that takes a mixture: leave the mixture out.")
    return inside, given


def _network(net: object) -> nn.Module:
    if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
        net = net.module
    net = getattr(net, "_orig_mod", net)  # of torch.compile
    if not isinstance(net, nn.Module):
        raise ConfigError(f"a network must be a torch.nn.Module, not {net!r}: build it first.")
    if isinstance(net, torch.jit.ScriptModule):
        raise ConfigError("proxies look at modules, which torch.jit has taken apart: give the network before that.")
    if any(map(is_lazy, net.parameters())):
        raise ConfigError(f"{type(net).__name__} has lazy layers, without weights yet: run it on images once before.")
    return net


def _takes(net: nn.Module, *arguments: Any) -> bool:
    try:
        inspect.signature(net.forward).bind(*arguments)
    except TypeError:
        return False
    return True


def _listed(things: Iterable[object]) -> str:
    return " and ".join(sorted(map(str, things)))


def _single(given: object) -> Proxy:
    found: object = get_criterion(given) if isinstance(given, str) else given
    if isinstance(found, Aggregate):
        parts = ", ".join(part.name for part in found.components)
        raise ProxyError(
            f"aggregate '{found.name}' ranks several networks by each other and has no value for one: score each by "
            f"{parts}, and give the scores to zcpt.get_aggregate('{found.name}').compute_values."
        )
    if not isinstance(found, Proxy):
        raise ProxyError(f"{found!r} is no proxy: give names of 'zcpt list proxies', or proxies such as Swap().")
    return found
