"""From a network, mixtures and a batch to scores, by either of two engines that give the same answer."""

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

    A score depends on the weights, the mixture and the batch and on nothing else; the network is not copied
    and is afterwards what it was, bit for bit.

    Args:
        net: A supernet; or a discrete network, with ``[None]`` as mixtures.
        proxy: What to measure.
        mixtures: P mixtures.
        batch: Images [B, C, H, W], normalised, and labels [B], on the network's device.
        engine: ``"plain"`` runs the network once for each mixture. ``"fast"`` gives the same scores but for rounding
            (1e-3 at most), for proxies of the naswot family. ``"auto"`` is the fast one where it can be used.
        precision: What the network is computed in.
        max_memory: Bytes that the fast engine may take at once; 0 sets no limit.

    Returns:
        Scores [P], float64, on the CPU.

    Raises:
        ProxyError: The batch is too small for the proxy.
        ConfigError: The engine cannot score the network with the proxy, or not in so little memory.
    """
    return Evaluator(net, proxy, engine=engine, precision=precision, max_memory=max_memory).score_mixtures(
        mixtures, batch
    )


class Evaluator:
    """Scores one network again and again; its weights must stay what they are.

    The arguments are those of ``score_mixtures``.

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
        self._asked, self._dtype, self._max_memory = engine, _DTYPES[precision], max_memory
        self._choose(mixed=False)

    def _choose(self, mixed: bool) -> None:
        self.engine = resolve_engine(self._asked, self.proxy, self._max_memory, self.net, mixed)
        if self.engine == "fast":
            assert isinstance(self.proxy, Naswot)
            self._scorer: FastEvaluator | PlainEvaluator = FastEvaluator(
                self.net, self.proxy, self._dtype, self._max_memory
            )
        else:
            self._scorer = PlainEvaluator(self.net, self.proxy, self._dtype)

    def score_mixtures(self, mixtures: Sequence[Mixture | None], batch: Batch) -> Tensor:
        """Scores [P] of P mixtures on one batch, float64, on the CPU.

        Raises:
            ProxyError: The batch is too small for the proxy, or no ReLU ran.
            ConfigError: The engine cannot score the network under mixtures, or ``max_memory`` is too little.
        """
        mixed = any(mixture is not None for mixture in mixtures)
        if self.engine == "fast" and mixed and not isinstance(self.net, Supernet):
            self._choose(mixed)  # only now it shows that the network takes mixtures
        with scoring_context(self.net, self.proxy, batch):
            return self._scorer.score_mixtures(mixtures, batch)

    def estimate_memory(self, mixtures: Sequence[Mixture | None], batch: Batch) -> int | None:
        """Estimate the bytes that ``score_mixtures`` takes beside network and batch; None with the plain engine.

        Raises:
            ConfigError: ``max_memory`` is too little.
        """
        with scoring_context(self.net, self.proxy, batch):
            return (
                self._scorer.estimate_memory(mixtures, batch.images)
                if isinstance(self._scorer, FastEvaluator)
                else None
            )


@contextmanager
def scoring_context(net: nn.Module, proxy: Proxy, batch: Batch) -> Iterator[None]:
    """What a proxy relies on: evaluation mode, no gradients, seeded noise; ProxyError if the batch is too small."""
    if len(batch.images) < proxy.min_batch:
        raise ProxyError(
            f"proxy '{proxy.name}' cannot tell networks apart by {len(batch.images)} image: "
            f"use a batch size of at least {proxy.min_batch}, such as --batch-size 64."
        )
    modules = list(net.modules())  # once: going through thousands takes as long as scoring a small network
    # A caller's inference mode would take away what proxies notice changes by, and gradients for good.
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
    """The engine that scores networks with a proxy.

    Args:
        engine: What was asked for.
        proxy: What is measured.
        max_memory: What was asked for.
        net: A network, where it is known.
        mixed: Whether it is scored under mixtures, be it a supernet or not.

    Raises:
        ConfigError: It cannot do what was asked for.
    """
    reason = _obstacle(proxy, net, mixed)
    if engine == "fast" and reason:
        raise ConfigError(f"--engine fast cannot be used: {reason}. Give --engine plain, or leave it out.")
    chosen: Engine = "plain" if reason or engine == "plain" else "fast"
    if chosen == "plain" and max_memory:
        why = reason or "--engine plain was given"
        raise ConfigError(f"only the fast engine keeps --max-memory, and {why}. Leave it out, or lower --batch-size.")
    return chosen


def _obstacle(proxy: Proxy, net: nn.Module | None, mixed: bool = False) -> str:
    """Why the fast engine cannot score networks with a proxy, or this one; empty if it can."""
    if not (proxy.fast_engine and isinstance(proxy, Naswot)):
        return f"it computes naswot and naswot-official, not proxy '{proxy.name}'"
    if isinstance(net, Supernet):
        if type(net).forward is not Supernet.forward or type(net).compute_values is not Supernet.compute_values:
            return f"{type(net).__name__} has a forward pass of its own, and it carries out the program"
        if net._forward_pre_hooks or net._forward_hooks:
            return f"{type(net).__name__} has hooks, and it carries out the program"
    elif net is not None and (mixed or hasattr(net, "choices")):
        return f"{type(net).__name__} is a search network of other code, which it cannot look into"
    return ""


@contextmanager
def seed_stochastic_modules(modules: Iterable[nn.Module], seed: int) -> Iterator[None]:
    """Give every stochastic module of a network a seed of its own, derived from one."""
    stochastic = [module for module in modules if isinstance(module, Stochastic)]
    before = [module.seed for module in stochastic]
    for index, module in enumerate(stochastic):
        module.seed = derive_seed(seed, "noise", index)
    try:
        yield
    finally:
        for module, earlier in zip(stochastic, before, strict=True):
            module.seed = earlier


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
