"""Scores of freshly initialised discrete networks, by which architectures are compared without training."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch

from zcpt.architecture import Architecture
from zcpt.batches import Batch
from zcpt.devices import move_batch, move_network
from zcpt.errors import ZcptError
from zcpt.journal import Record
from zcpt.proxies import ArchitectureProxy, Proxy
from zcpt.scoring.score import score
from zcpt.seeding import derive_seed, use_seed
from zcpt.space import DiscreteNetwork, NetworkConfig, SearchSpace

IndexedArchitecture = tuple[int, Architecture]
"""A number, such as an index into a benchmark, with its architecture."""


@dataclass(frozen=True)
class NetworkScorer:
    """Settings by which networks are scored. A record depends on them and on its architecture alone."""

    space: SearchSpace
    network_config: NetworkConfig
    proxies: tuple[Proxy, ...]
    batch: Batch
    seed: int
    own_weights: bool
    """Draw the weights of each network from a seed of its own; otherwise all use the same seed."""
    device: str

    def score_network(self, item: IndexedArchitecture) -> Record:
        """Build one network, score it by all proxies, and return its line of a journal.

        The line has ``scores`` and ``seconds`` of each proxy, and ``failures``: the reasons of those that raised an
        error or gave no finite score.
        """
        index, architecture = item
        seed = derive_seed(self.seed, "weights", *([index] if self.own_weights else []))
        network = None if all(map(_needs_no_network, self.proxies)) else self._build_network(architecture, seed)
        batch = move_batch(self.batch, torch.device(self.device))
        scores: dict[str, float] = {}
        seconds: dict[str, float] = {}
        failures: dict[str, str] = {}
        for proxy in self.proxies:
            started = time.perf_counter()
            try:
                if isinstance(proxy, ArchitectureProxy):
                    value = proxy.score_architecture(architecture, seed)
                else:
                    assert network is not None
                    value = score(network, batch, proxy)[proxy.name]
            except ZcptError as error:
                failures[proxy.name] = str(error)
                continue
            scores[proxy.name], seconds[proxy.name] = value, time.perf_counter() - started
            if not math.isfinite(value):
                failures[proxy.name] = f"the score is {value}"
        text = self.space.format(architecture)
        return {"index": index, "architecture": text, "scores": scores, "seconds": seconds, "failures": failures}

    def _build_network(self, architecture: Architecture, seed: int) -> DiscreteNetwork:
        with use_seed(seed):
            network = self.space.build_network(architecture, self.network_config)
        return move_network(network, torch.device(self.device))


def _needs_no_network(proxy: Proxy) -> bool:
    return isinstance(proxy, ArchitectureProxy)
