"""Scores of a single network by several proxies, and of its layers."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from zcpt.batches import Batch, as_batch
from zcpt.errors import ConfigError, ProxyError, describe_unknown_name
from zcpt.mixture import Mixture
from zcpt.proxies import LayerProxy, Proxy, get_proxy, list_proxies
from zcpt.scoring.boundary import explain_failure
from zcpt.scoring.evaluator import resolve_proxy, scoring_context
from zcpt.scoring.plain import PlainEvaluator
from zcpt.snapshot import preserve

_log = logging.getLogger(__name__)


def score(
    net: nn.Module,
    batch: Batch | tuple[Tensor, Tensor],
    proxies: str | Proxy | Iterable[str | Proxy],
    mixture: Mixture | None = None,
    *,
    on_error: Literal["raise", "skip"] = "raise",
) -> dict[str, float]:
    """Score any network by zero-cost proxies.

    The network and the random generators are left unchanged, bit for bit, even if the network or a proxy fails
    (``zcpt.snapshot.preserve``). A network that draws from torch's CPU generator draws the same numbers in every call
    with the same batch.

    Args:
        net: Any network from images [B, C, H, W] to logits [B, classes], from torchvision or timm for example. The
            network inside is scored if it is wrapped for several devices, or compiled.
        batch: Images [B, C, H, W], normalised, and labels [B], on the network's device; a ``Batch`` also has a seed.
        proxies: Proxies, or their names (``zcpt list proxies``).
        mixture: Weights of a supernet's candidates. None for a discrete network, or a supernet with nothing decided.
        on_error: What to do where a proxy cannot score this network or batch: ``"raise"`` the error, or ``"skip"`` the
            proxy, with a warning in the log.

    Returns:
        Scores by the names of the proxies; nan or infinite where a proxy's definition gives that.

    Raises:
        ProxyError: A proxy is unknown, is given twice, or cannot score this network or this batch; or the network
            raises an error of its own, which is the cause.
        ConfigError: ``net`` is no network, ``batch`` is no batch, or their types or devices differ.
        SpaceError: The mixture belongs to another supernet.
    """
    if on_error not in ("raise", "skip"):
        raise ConfigError(describe_unknown_name("value of on_error", str(on_error), ("raise", "skip")))
    net, batch = _check_inputs(net, batch, mixture)
    requested = proxies if isinstance(proxies, Iterable) and not isinstance(proxies, str) else [proxies]
    resolved = [resolve_proxy(proxy) for proxy in requested]
    names = [proxy.name for proxy in resolved]
    if duplicates := sorted({name for name in names if names.count(name) > 1}):
        raise ProxyError(
            f"scores are returned by name, so give each proxy only once: {', '.join(duplicates)} is repeated."
        )
    scores: dict[str, float] = {}
    for proxy in resolved:
        try:
            scores[proxy.name] = _score_by_one(net, proxy, batch, mixture)
        except ProxyError as error:
            if on_error == "raise":
                raise
            _log.warning("left out: %s", error)
    return scores


def _score_by_one(net: nn.Module, proxy: Proxy, batch: Batch, mixture: Mixture | None) -> float:
    # The network is restored whatever the proxy does, so a proxy that changes it is no error here.
    with (
        _preserve_inputs(net, batch) as batch_copy,
        scoring_context(net, proxy, batch_copy),
        explain_failure(proxy, net),
    ):
        return float(PlainEvaluator(net, proxy).score_mixtures([mixture], batch_copy))


def score_layers(
    net: nn.Module, batch: Batch | tuple[Tensor, Tensor], proxy: str | Proxy, mixture: Mixture | None = None
) -> dict[str, float]:
    """Return the term of each layer in the score of a proxy that is a sum over layers.

    Arguments and errors are those of ``score``, and the network is left unchanged.

    Returns:
        Terms by the names of the convolutions and linear layers that the proxy scores.

    Raises:
        ProxyError: The proxy is no sum over layers, or the network raises an error of its own.
    """
    net, batch = _check_inputs(net, batch, mixture)
    layer_proxy = resolve_proxy(proxy)
    if not isinstance(layer_proxy, LayerProxy):
        layer_proxies = [name for name in list_proxies() if isinstance(get_proxy(name), LayerProxy)]
        raise ProxyError(f"proxy '{layer_proxy.name}' is no sum over layers: give one of {', '.join(layer_proxies)}.")
    with (
        _preserve_inputs(net, batch) as batch_copy,
        scoring_context(net, layer_proxy, batch_copy),
        explain_failure(layer_proxy, net),
    ):
        return layer_proxy.score_layers(net, batch_copy, mixture)


@contextmanager
def _preserve_inputs(net: nn.Module, batch: Batch) -> Iterator[Batch]:
    """Preserve the network, and yield a copy of the batch, whose images an in-place operation may overwrite."""
    with torch.inference_mode(False), preserve(net):
        torch.default_generator.manual_seed(batch.seed)
        yield Batch(batch.images.clone(), batch.labels.clone(), batch.seed)


def _check_inputs(net: object, batch: object, mixture: Mixture | None) -> tuple[nn.Module, Batch]:
    """Return the network without its wrappers, and the batch; raise ConfigError if they cannot be used together."""
    network, checked_batch = _unwrap_network(net), as_batch(batch)
    weights = [parameter for parameter in network.parameters() if parameter.is_floating_point()]
    types = {weight.dtype for weight in weights}
    devices = {weight.device for weight in weights}
    images = checked_batch.images
    if not images.is_floating_point():
        raise ConfigError(f"images are {images.dtype}: give floating-point numbers, normalised.")
    if types and images.dtype not in types:
        raise ConfigError(
            f"images are {images.dtype} and the weights are {_join_names(types)}: convert both to one type."
        )
    if len(devices) == 1 and images.device not in devices:
        raise ConfigError(
            f"images are on {images.device} and the network is on {_join_names(devices)}: move the images there."
        )
    if mixture is not None and not _accepts_arguments(network, images, mixture):
        raise ConfigError(f"{type(network).__name__} is no supernet that takes a mixture: leave the mixture out.")
    return network, checked_batch


def _unwrap_network(net: object) -> nn.Module:
    if isinstance(net, nn.DataParallel | nn.parallel.DistributedDataParallel):
        net = net.module
    net = getattr(net, "_orig_mod", net)  # the module inside torch.compile's
    if not isinstance(net, nn.Module):
        raise ConfigError(f"a network must be a torch.nn.Module, not {net!r}: build it first.")
    if isinstance(net, torch.jit.ScriptModule):
        raise ConfigError(
            "proxies need modules of Python, which torch.jit does not keep: give the network before it is scripted."
        )
    if any(map(is_lazy, net.parameters())):
        raise ConfigError(
            f"{type(net).__name__} has lazy layers without weights: run it on images once before scoring."
        )
    return net


def _accepts_arguments(net: nn.Module, *arguments: Any) -> bool:
    try:
        inspect.signature(net.forward).bind(*arguments)
    except TypeError:
        return False
    return True


def _join_names(values: Iterable[object]) -> str:
    return " and ".join(sorted(map(str, values)))
