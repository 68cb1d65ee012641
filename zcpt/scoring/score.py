"""Scores of any one network by several proxies, and of its layers."""

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

    The network and the random generators are left unchanged, bit for bit, also when the network or a proxy fails
    (``zcpt.snapshot.preserve``). Numbers that the network draws from torch's CPU generator are the same in every call
    with the same batch.

    Args:
        net: Any network from images [B, C, H, W] to logits [B, classes], such as one of torchvision or timm. If it
            is wrapped for several devices, or compiled, the network inside is scored.
        batch: Images, normalised, and labels [B], on the network's device; as a ``Batch`` also with a seed.
        proxies: Proxies, or their names (``zcpt list proxies``).
        mixture: Weights of a supernet's candidates; None means nothing decided, or a discrete network.

    Returns:
        A number for each name; nan or infinite where the proxy's definition gives that.

    Raises:
        ProxyError: A proxy cannot score this network or this batch, or the name is not known.
        ConfigError: The network or the batch is not one, or the batch does not fit the network.
        SpaceError: The mixture belongs to another supernet.
    """
    net, given = _check_inputs(net, batch, mixture)
    listed = proxies if isinstance(proxies, Iterable) and not isinstance(proxies, str) else [proxies]
    chosen = [_get_single_proxy(proxy) for proxy in listed]
    names = [proxy.name for proxy in chosen]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ProxyError(f"scores are returned by name, and {', '.join(sorted(twice))} comes twice: give it once.")
    scores: dict[str, float] = {}
    for proxy in chosen:
        with _preserve_inputs(net, given) as copy:
            scores[proxy.name] = score_mixtures(net, proxy, [mixture], copy, engine="plain").item()
    return scores


def score_layers(
    net: nn.Module, batch: Batch | tuple[Tensor, Tensor], proxy: str | Proxy, mixture: Mixture | None = None
) -> dict[str, float]:
    """Return the summand of each layer in the score of a proxy that is a sum over layers.

    Arguments and errors are those of ``score``, and the network is left unchanged.

    Returns:
        A number by the name of each convolution and linear layer that the proxy scores.
    """
    net, given = _check_inputs(net, batch, mixture)
    chosen = _get_single_proxy(proxy)
    if not isinstance(chosen, LayerProxy):
        layer_proxies = [name for name in list_proxies() if isinstance(get_proxy(name), LayerProxy)]
        raise ProxyError(f"proxy '{chosen.name}' is no sum over layers: give one of {', '.join(layer_proxies)}.")
    with _preserve_inputs(net, given) as copy, scoring_context(net, chosen, copy):
        return chosen.score_layers(net, copy, mixture)


@contextmanager
def _preserve_inputs(net: nn.Module, batch: Batch) -> Iterator[Batch]:
    """Preserve the network, and yield a copy of the batch: a network may begin with an operation in place."""
    with torch.inference_mode(False), preserve(net):
        torch.default_generator.manual_seed(batch.seed)
        yield Batch(batch.images.clone(), batch.labels.clone(), batch.seed)


def _check_inputs(net: object, batch: object, mixture: Mixture | None) -> tuple[nn.Module, Batch]:
    """Return the network inside ``net`` and the batch; raise ConfigError where they cannot be used."""
    inside, given = _unwrap_network(net), as_batch(batch)
    weights = [parameter for parameter in inside.parameters() if parameter.is_floating_point()]
    types, devices = ({getattr(weight, name) for weight in weights} for name in ("dtype", "device"))
    images = given.images
    if not images.is_floating_point():
        raise ConfigError(f"images are {images.dtype}: give floating-point numbers, normalised.")
    if types and images.dtype not in types and not torch.is_autocast_enabled(images.device.type):
        raise ConfigError(
            f"images are {images.dtype} and the weights are {_join_names(types)}: bring both to one type."
        )
    if len(devices) == 1 and images.device not in devices:
        raise ConfigError(
            f"images are on {images.device} and the network is on {_join_names(devices)}: bring them there."
        )
    if mixture is not None and not _accepts(inside, images, mixture):
        raise ConfigError(f"{type(inside).__name__} is no supernet that takes a mixture: leave the mixture out.")
    return inside, given


def _unwrap_network(net: object) -> nn.Module:
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


def _accepts(net: nn.Module, *arguments: Any) -> bool:
    try:
        inspect.signature(net.forward).bind(*arguments)
    except TypeError:
        return False
    return True


def _join_names(things: Iterable[object]) -> str:
    return " and ".join(sorted(map(str, things)))


def _get_single_proxy(given: object) -> Proxy:
    criterion: object = get_criterion(given) if isinstance(given, str) else given
    if isinstance(criterion, Aggregate):
        parts = ", ".join(part.name for part in criterion.components)
        raise ProxyError(
            f"aggregate '{criterion.name}' ranks several networks and has no value for one: score each by "
            f"{parts}, and give the scores to zcpt.get_aggregate('{criterion.name}').compute_values."
        )
    if not isinstance(criterion, Proxy):
        raise ProxyError(f"{criterion!r} is no proxy: give names of 'zcpt list proxies', or proxies such as Swap().")
    return criterion
