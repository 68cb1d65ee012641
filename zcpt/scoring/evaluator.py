"""Scores of a network under mixtures, by either of two engines that give the same scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from zcpt.batches import Batch, as_batch
from zcpt.devices import leave_autocast
from zcpt.errors import ConfigError, ProxyError, describe_unknown_name
from zcpt.mixture import Mixture
from zcpt.printing import shorten
from zcpt.proxies import Aggregate, Naswot, Proxy, check_attributes, get_criterion
from zcpt.scoring.boundary import check_unchanged, explain_failure
from zcpt.scoring.fast import FastEvaluator
from zcpt.scoring.plain import PlainEvaluator
from zcpt.seeding import derive_seed, exclude_threads
from zcpt.supernet import Scorable, Stochastic, Supernet

Engine = Literal["auto", "plain", "fast"]
Precision = Literal["float32", "bf16"]
_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def score_mixtures(
    net: Scorable,
    proxy: Proxy | str,
    mixtures: Sequence[Mixture | None],
    batch: Batch | tuple[Tensor, Tensor],
    *,
    engine: Engine = "auto",
    precision: Precision = "float32",
    max_memory: float = 0,
) -> Tensor:
    """Score one network under P mixtures, all on the same batch.

    A score depends only on the weights, the mixture and the batch. The network is not copied, and is left unchanged,
    bit for bit.

    Args:
        net: A supernet, or a discrete network with ``[None]`` as mixtures.
        proxy: The proxy, or its name.
        mixtures: P mixtures.
        batch: Images [B, C, H, W], normalised, and labels [B], on the network's device.
        engine: ``"plain"`` computes the proxy for each mixture by itself. ``"fast"`` gives the same scores up to
            rounding (1e-3 at most), for proxies that declare ``fast_engine``. ``"auto"`` uses it where possible.
        precision: Precision of the network's computation.
        max_memory: Bytes that the fast engine may take at once; 0 sets no limit.

    Returns:
        Scores [P], float64, on the CPU.

    Raises:
        ProxyError: The proxy is unknown, the batch is too small for it, or it is one of yours and fails, returns no
            number, or changes the network.
        ConfigError: The engine cannot score the network with the proxy, or ``max_memory`` is too little.
        SpaceError: A mixture belongs to another supernet.
    """
    return Evaluator(net, proxy, engine=engine, precision=precision, max_memory=max_memory).score_mixtures(
        mixtures, batch
    )


class Evaluator:
    """Scores one network many times; its weights must not change between calls.

    Arguments are those of ``score_mixtures``.

    Raises:
        ConfigError: The engine cannot score the network with the proxy.
    """

    def __init__(
        self,
        net: Scorable,
        proxy: Proxy | str,
        *,
        engine: Engine = "auto",
        precision: Precision = "float32",
        max_memory: float = 0,
    ) -> None:
        for option, value, allowed in (("engine", engine, get_args(Engine)), ("precision", precision, _DTYPES)):
            if value not in allowed:
                raise ConfigError(describe_unknown_name(f"value of --{option}", str(value), allowed))
        if max_memory < 0:
            raise ConfigError(f"--max-memory {max_memory} must not be negative.")
        if not isinstance(net, nn.Module):
            raise ConfigError(f"a network must be a torch.nn.Module, not {net!r}: build it first.")
        self.net = net
        self.proxy = resolve_proxy(proxy)
        self._requested_engine = engine
        self._dtype = _DTYPES[precision]
        self._max_memory = max_memory
        self._choose_engine(mixed=False)

    def _choose_engine(self, mixed: bool) -> None:
        self.engine = resolve_engine(self._requested_engine, self.proxy, self._max_memory, self.net, mixed)
        if self.engine == "fast":
            assert isinstance(self.proxy, Naswot)
            self._scorer: FastEvaluator | PlainEvaluator = FastEvaluator(
                self.net, self.proxy, self._dtype, self._max_memory
            )
        else:
            self._scorer = PlainEvaluator(self.net, self.proxy, self._dtype)

    def score_mixtures(self, mixtures: Sequence[Mixture | None], batch: Batch | tuple[Tensor, Tensor]) -> Tensor:
        """Return the scores [P] of P mixtures on one batch, float64, on the CPU.

        Raises:
            ProxyError: The batch is too small for the proxy, or no ReLU ran; or a proxy of the user fails.
            ConfigError: The engine cannot score the network under mixtures, or ``max_memory`` is too little.
            SpaceError: A mixture belongs to another supernet.
        """
        if not isinstance(mixtures, Sequence):
            raise ConfigError(f"mixtures must be a list, not {type(mixtures).__name__}: write [mixture], or [None].")
        batch = batch if isinstance(batch, Batch) else as_batch(batch)
        mixed = any(mixture is not None for mixture in mixtures)
        if self.engine == "fast" and mixed and not isinstance(self.net, Supernet):
            # A module of another class counts as a discrete network until it is scored under a mixture.
            self._choose_engine(mixed)
        with (
            scoring_context(self.net, self.proxy, batch),
            check_unchanged(self.proxy, self.net, batch),
            explain_failure(self.proxy, self.net),
        ):
            # Tensors of an inference mode can never have gradients, also after it.
            images, labels = (values.clone() if values.is_inference() else values for values in batch[:2])
            return self._scorer.score_mixtures(mixtures, Batch(images, labels, batch.seed))

    def estimate_memory(self, mixtures: Sequence[Mixture | None], batch: Batch) -> int | None:
        """Estimate the bytes that ``score_mixtures`` takes beside network and batch; None with the plain engine.

        Raises:
            ConfigError: ``max_memory`` is too little.
        """
        with scoring_context(self.net, self.proxy, batch):
            if not isinstance(self._scorer, FastEvaluator):
                return None
            return self._scorer.estimate_memory(mixtures, batch.images)


@contextmanager
def scoring_context(net: nn.Module, proxy: Proxy, batch: Batch) -> Iterator[None]:
    """Set up what a proxy relies on: evaluation mode, no gradients, seeded noise.

    Raises:
        ProxyError: The batch is too small for the proxy.
    """
    if len(batch.images) < proxy.min_batch:
        raise ProxyError(
            f"proxy '{proxy.name}' cannot compare networks on {len(batch.images)} image: "
            f"use a batch size of at least {proxy.min_batch}, such as --batch-size 64."
        )
    modules = list(net.modules())  # listed once: listing thousands takes as long as scoring a small network
    # A caller's inference mode is turned off: its tensors can never have gradients, and they have no version counter,
    # by which proxies detect in-place changes.
    with (
        exclude_threads(),
        torch.inference_mode(False),
        torch.no_grad(),
        leave_autocast(),
        _evaluation_mode(net, modules),
        seed_stochastic_modules(modules, batch.seed),
    ):
        yield


def resolve_proxy(proxy: object) -> Proxy:
    """Return a proxy that is given as an object or by its name.

    Raises:
        ProxyError: There is none of that name; the name is that of an aggregate; or the object is no proxy.
    """
    criterion: object = get_criterion(proxy) if isinstance(proxy, str) else proxy
    if isinstance(criterion, Aggregate):
        parts = ", ".join(part.name for part in criterion.components)
        raise ProxyError(
            f"aggregate '{criterion.name}' ranks several networks and has no value for one: score each by "
            f"{parts}, and pass the scores to zcpt.get_aggregate('{criterion.name}').compute_values."
        )
    if isinstance(criterion, type) or not hasattr(criterion, "score"):
        raise ProxyError(
            f"{shorten(criterion)} is no proxy: give names of 'zcpt list proxies', or proxies such as Swap()."
        )
    check_attributes(criterion)
    return cast(Proxy, criterion)


def resolve_engine(
    engine: Engine, proxy: Proxy, max_memory: float = 0, net: nn.Module | None = None, mixed: bool = False
) -> Engine:
    """Return the engine that scores networks with a proxy, "plain" or "fast".

    Args:
        engine: Requested engine.
        proxy: The proxy.
        max_memory: Requested limit in bytes; 0 sets none.
        net: The network; None before it is built.
        mixed: True if the network is scored under mixtures: it is a supernet then, even if its class is another one.

    Raises:
        ConfigError: The requested engine cannot score this, or the limit needs the fast engine.
    """
    reason = _explain_unsupported(proxy, net, mixed)
    if engine == "fast" and reason:
        raise ConfigError(f"--engine fast cannot be used: {reason}. Give --engine plain, or leave it out.")
    if not reason and engine != "plain":
        return "fast"
    if max_memory:
        reason = reason or "--engine plain was given"
        raise ConfigError(
            f"only the fast engine supports --max-memory, and {reason}. Leave it out, or lower --batch-size."
        )
    return "plain"


def _explain_unsupported(proxy: Proxy, net: nn.Module | None, mixed: bool = False) -> str:
    """Return the reason why the fast engine cannot score the network with the proxy, empty if it can."""
    if not (isinstance(proxy, Naswot) and proxy.fast_engine):
        return f"it computes naswot and naswot-official, not proxy '{proxy.name}'"
    name = type(net).__name__
    if isinstance(net, Supernet):
        # The fast engine executes the supernet's program itself, and would skip an overridden forward pass and hooks.
        if type(net).forward is not Supernet.forward or type(net).compute_values is not Supernet.compute_values:
            return f"{name} overrides the forward pass of zcpt.Supernet, which the fast engine does not call"
        if net._forward_pre_hooks or net._forward_hooks:
            return f"{name} has forward hooks, which the fast engine does not call"
    elif net is not None and (mixed or hasattr(net, "choices")):
        return f"{name} is no subclass of zcpt.Supernet, and the fast engine can trace no other supernet"
    return ""


@contextmanager
def seed_stochastic_modules(modules: Iterable[nn.Module], seed: int) -> Iterator[None]:
    """Give every stochastic module a seed of its own, derived from one; restore the former seeds at the end."""
    stochastic = [module for module in modules if isinstance(module, Stochastic)]
    seeds_before = [module.seed for module in stochastic]
    for index, module in enumerate(stochastic):
        module.seed = derive_seed(seed, "noise", index)
    try:
        yield
    finally:
        for module, seed_before in zip(stochastic, seeds_before, strict=True):
            module.seed = seed_before


@contextmanager
def _evaluation_mode(net: nn.Module, modules: Iterable[nn.Module]) -> Iterator[None]:
    """Set evaluation mode; restore the former mode of each module at the end, for some may be frozen in evaluation."""
    training = [module for module in modules if module.training]
    if training:
        net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
