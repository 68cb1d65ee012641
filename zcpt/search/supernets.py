"""Sources of supernets: where a search takes its supernets and their initial mixtures from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from zcpt.architecture import Choice
from zcpt.batches import Batch
from zcpt.devices import move_batch, move_network
from zcpt.mixture import Mixture
from zcpt.search.config import SearchConfig, SearchSeeds
from zcpt.seeding import derive_seed, use_seed
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.supernet import Scorable


class SupernetSource(Protocol):
    """Source of the supernets of a search and of their initial mixtures."""

    def draw_initial_mixture(self, draw: int) -> Mixture:
        """Draw the mixture before any decision; each ``draw`` has its own architecture parameters."""
        ...

    def build_supernet(self, draw: int) -> Scorable:
        """Build the supernet for one draw of the weights, on its device and in evaluation mode."""
        ...

    def move_batch(self, batch: Batch) -> Batch:
        """Move a batch to the supernet's device and memory format."""
        ...


@dataclass(frozen=True)
class FreshSupernets:
    """Supernets of a space, with fresh weights for each draw."""

    space: SearchSpace
    network_config: NetworkConfig
    config: SearchConfig
    device: torch.device

    def draw_initial_mixture(self, draw: int) -> Mixture:
        return draw_mixture(self.space.choices, self.config, draw)

    def build_supernet(self, draw: int) -> Scorable:
        with use_seed(derive_seed(SearchSeeds.from_seed(self.config.seed).weights, draw)):
            net = self.space.build_supernet(self.network_config)
        return move_network(net, self.device).eval()

    def move_batch(self, batch: Batch) -> Batch:
        return move_batch(batch, self.device)


def draw_mixture(choices: Sequence[Choice], config: SearchConfig, draw: int) -> Mixture:
    """Draw the mixture before any decision, with noise of ``config.alpha_noise`` in the architecture parameters."""
    with use_seed(derive_seed(SearchSeeds.from_seed(config.seed).alpha, draw)):
        return Mixture.initial(choices, config.alpha_noise)
