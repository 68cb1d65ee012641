"""The plain evaluator, which defines what a score is: one forward pass for each mixture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies import Proxy
from zcpt.seeding import derive
from zcpt.supernet import Stochastic


def evaluate(net: nn.Module, proxy: Proxy, mixtures: Sequence[Mixture | None], batch: Batch) -> Tensor:
    """Score one network under P mixtures, all on the same batch.

    A score depends on the weights, the mixture and the batch and on nothing else; the network is not copied
    and is afterwards what it was, bit for bit.

    Args:
        net: A supernet; or a discrete network, with ``[None]`` as mixtures.
        proxy: What to measure.
        mixtures: P mixtures.
        batch: Images [B, C, H, W], normalised, and labels [B], on the network's device.

    Returns:
        Scores [P], float64, on the CPU.

    Raises:
        ProxyError: The batch is too small for the proxy.
    """
    if len(batch.images) < proxy.min_batch:
        raise ProxyError(
            f"proxy '{proxy.name}' cannot tell networks apart by {len(batch.images)} image: "
            f"use a batch size of at least {proxy.min_batch}, such as --batch-size 64."
        )
    modules = list(net.modules())  # once: going through some thousand takes as long as scoring a small network
    # A caller's inference mode would take away what proxies notice changes by, and gradients for good.
    with (
        torch.inference_mode(False),
        torch.no_grad(),
        _evaluation_mode(net, modules),
        seeded_modules(modules, batch.seed),
    ):
        scores = [proxy.score(net, batch, mixture) for mixture in mixtures]
    return torch.tensor(scores, dtype=torch.float64)


@contextmanager
def seeded_modules(modules: Iterable[nn.Module], seed: int) -> Iterator[None]:
    """Give every stochastic module of a network a seed of its own, derived from one."""
    stochastic = [module for module in modules if isinstance(module, Stochastic)]
    before = [module.seed for module in stochastic]
    for index, module in enumerate(stochastic):
        module.seed = derive(seed, "noise", index)
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
