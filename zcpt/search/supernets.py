"""Where the supernets of a search come from, and the mixtures that they start with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from zcpt.architecture import Choice
from zcpt.batches import Batch
from zcpt.devices import move_batch, move_network
from zcpt.mixture import Mixture
from zcpt.proxies import Use
from zcpt.scoring import CriterionEvaluator
from zcpt.search.config import SearchConfig
from zcpt.seeding import derive_seed, use_seed
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.supernet import Scorable


@dataclass(frozen=True)
class SearchSeeds:
    """The separate seeds of a search, all derived from one."""

    weights: int
    alpha: int
    order: int
    batch: int
    init: int
    validation: int

    @classmethod
    def derived(cls, seed: int) -> SearchSeeds:
        return cls(**{name: derive_seed(seed, name) for name in cls.__dataclass_fields__})


class SupernetSource(Protocol):
    """Where the supernets of a search come from, and the mixtures that they start with."""

    def start(self, draw: int) -> Mixture:
        """The mixture before any decision, of that draw of architecture parameters."""
        ...

    def supernet(self, draw: int) -> Scorable:
        """The supernet of that draw of weights: on its device, in evaluation mode."""
        ...

    def place(self, batch: Batch) -> Batch:
        """Move a batch to the supernet's device, in the layout that suits it."""
        ...


@dataclass(frozen=True)
class FreshSupernets:
    """Supernets of a space, each draw with fresh weights."""

    space: SearchSpace
    network_config: NetworkConfig
    config: SearchConfig
    device: torch.device

    def start(self, draw: int) -> Mixture:
        return draw_start(self.space.choices, self.config, draw)

    def supernet(self, draw: int) -> Scorable:
        with use_seed(derive_seed(SearchSeeds.derived(self.config.seed).weights, draw)):
            net = self.space.build_supernet(self.network_config)
        return move_network(net, self.device).eval()

    def place(self, batch: Batch) -> Batch:
        return move_batch(batch, self.device)


def panel(net: Scorable, config: SearchConfig, use: Use) -> CriterionEvaluator:
    """What scores a network as the settings say."""
    return CriterionEvaluator(
        net,
        config.criterion(use),
        engine=config.engine,
        precision=config.precision,
        max_memory=config.max_memory,
    )


def draw_start(choices: Sequence[Choice], config: SearchConfig, draw: int) -> Mixture:
    """The mixture before any decision, with architecture parameters as the settings draw them."""
    with use_seed(derive_seed(SearchSeeds.derived(config.seed).alpha, draw)):
        return Mixture.initial(choices, config.alpha_noise)
