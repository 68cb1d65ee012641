"""Scores of a network under mixtures, by either of two engines that give the same answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ConfigError, ProxyError, describe_unknown_name
from zcpt.mixture import Mixture
from zcpt.proxies import Naswot, Proxy
from zcpt.scoring.fast import FastEvaluator
from zcpt.scoring.plain import PlainEvaluator
from zcpt.seeding import derive_seed
from zcpt.supernet import Scorable, Stochastic, Supernet

Engine = Literal["auto", "plain", "fast"]
Precision = Literal["float32", "bf16"]
_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def score_mixtures(
    net: Scorable,
    proxy: Proxy,
    mixtures: Sequence[Mixture | None],
    batch: Batch,
    *,
    engine: Engine = "auto",
    precision: Precision = "float32",
    max_memory: float = 0,
) -> Tensor:
    """Score one network under P mixtures, all on the same batch.

    A score depends on the weights, the mixture and the batch and on nothing else. The network is not copied, and is
    left unchanged, bit for bit.

    Args:
        net: A supernet; or a discrete network, with ``[None]`` as mixtures.
        proxy: The proxy.
        mixtures: P mixtures.
        batch: Images [B, C, H, W], normalised, and labels [B], on the network's device.
        engine: ``"plain"`` computes the proxy for each mixture by itself. ``"fast"`` gives the same scores up to
            rounding (1e-3 at most), for proxies that declare ``fast_engine``. ``"auto"`` is fast where possible.
        precision: Precision of the network's computation.
        max_memory: Bytes that the fast engine may take at once; 0 sets no limit.

    Returns:
        Scores [P], float64, on the CPU.

    Raises:
        ProxyError: The batch is too small for the proxy.
        ConfigError: The engine cannot score the network with the proxy, or not in so little memory.
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
        proxy: Proxy,
        *,
        engine: Engine = "auto",
        precision: Precision = "float32",
        max_memory: float = 0,
    ) -> None:
        for name, given, known in (("engine", engine, get_args(Engine)), ("precision", precision, _DTYPES)):
            if given not in known:
                raise ConfigError(describe_unknown_name(f"value of --{name}", str(given), known))
        if max_memory < 0:
            raise ConfigError(f"--max-memory {max_memory} must not be negative.")
        if not isinstance(net, nn.Module):
            raise ConfigError(f"a network must be a torch.nn.Module, not {net!r}: build it first.")
        self.net = net
        self.proxy = proxy
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

    def score_mixtures(self, mixtures: Sequence[Mixture | None], batch: Batch) -> Tensor:
        """Return the scores [P] of P mixtures on one batch, float64, on the CPU.

        Raises:
            ProxyError: The batch is too small for the proxy, or no ReLU ran.
            ConfigError: The engine cannot score the network under mixtures, or ``max_memory`` is too little.
            SpaceError: A mixture belongs to another supernet.
        """
        mixed = any(mixture is not None for mixture in mixtures)
        if self.engine == "fast" and mixed and not isinstance(self.net, Supernet):
            # A network of other code: only its first mixture shows that it is a search network, not a discrete one.
            self._choose_engine(mixed)
        with scoring_context(self.net, self.proxy, batch):
            return self._scorer.score_mixtures(mixtures, batch)

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
    modules = list(net.modules())  # listed once: for thousands that takes as long as scoring a small network
    # Left here, because tensors of a caller's inference mode have no version counter, by which proxies notice changes,
    # and can never have gradients.
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        _evaluation_mode(net, modules),
        seed_stochastic_modules(modules, batch.seed),
    ):
        yield


def resolve_engine(
    engine: Engine, proxy: Proxy, max_memory: float = 0, net: nn.Module | None = None, mixed: bool = False
) -> Engine:
    """Return the engine that scores networks with a proxy, "plain" or "fast".

    Args:
        engine: Requested engine.
        proxy: The proxy.
        max_memory: Requested limit in bytes; 0 sets none.
        net: The network, where it is known.
        mixed: Whether it is scored under mixtures, be it a ``Supernet`` or not.

    Raises:
        ConfigError: The requested engine cannot score this, or the limit needs the fast engine.
    """
    reason = _describe_obstacle(proxy, net, mixed)
    if engine == "fast" and reason:
        raise ConfigError(f"--engine fast cannot be used: {reason}. Give --engine plain, or leave it out.")
    chosen: Engine = "plain" if reason or engine == "plain" else "fast"
    if chosen == "plain" and max_memory:
        why = reason or "--engine plain was given"
        raise ConfigError(f"only the fast engine keeps --max-memory, and {why}. Leave it out, or lower --batch-size.")
    return chosen


def _describe_obstacle(proxy: Proxy, net: nn.Module | None, mixed: bool = False) -> str:
    """Return why the fast engine cannot score networks with a proxy, or this network; empty if it can."""
    if not (isinstance(proxy, Naswot) and proxy.fast_engine):
        return f"it computes naswot and naswot-official, not proxy '{proxy.name}'"
    if isinstance(net, Supernet):
        if type(net).forward is not Supernet.forward or type(net).compute_values is not Supernet.compute_values:
            return f"{type(net).__name__} has a forward pass of its own, and it executes the program"
        if net._forward_pre_hooks or net._forward_hooks:
            return f"{type(net).__name__} has hooks, and it executes the program"
    elif net is not None and (mixed or hasattr(net, "choices")):
        return f"{type(net).__name__} is a search network of other code, which it cannot trace"
    return ""


@contextmanager
def seed_stochastic_modules(modules: Iterable[nn.Module], seed: int) -> Iterator[None]:
    """Give every stochastic module of a network a seed of its own, derived from one."""
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
    training = [module for module in modules if module.training]
    if training:
        net.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
