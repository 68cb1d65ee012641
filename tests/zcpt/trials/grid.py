"""A search space of two digits, so that what an algorithm does can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from zcpt.architecture import Architecture, Choice
from zcpt.space import CellGraph, DiscreteNetwork, NetworkConfig, SearchSpace, WidthDepth
from zcpt.supernet import Supernet
from zcpt.trials import ALGORITHMS, Algorithm, Candidates, build_settings


class Grid(SearchSpace):
    """All numbers of two digits."""

    name = "grid"
    small_size = WidthDepth(1, 1)

    def __init__(self, digits: int = 4) -> None:
        names = tuple(str(digit) for digit in range(digits))
        self.choices = (Choice("tens", names), Choice("ones", names))

    def build_supernet(self, config: NetworkConfig) -> Supernet:
        """Build a supernet of two steps: the ones read the tens."""
        net, source = Supernet(self.choices), Supernet.IMAGES
        for choice in self.choices:
            digits = {digit: nn.Identity() for digit in choice.candidates}
            source = net.mixed(f"{choice.name}-digit", choice.name, digits, source)
        return net

    def build_network(self, architecture: Architecture, config: NetworkConfig, **options: Any) -> DiscreteNetwork:
        """Raise NotImplementedError: trials on this space measure no networks."""
        raise NotImplementedError

    def parse(self, text: str) -> Architecture:
        """Read two digits."""
        return Architecture(self.name, {"tens": (text[0],), "ones": (text[1],)})

    def format(self, architecture: Architecture) -> str:
        """Write two digits."""
        return architecture["tens"] + architecture["ones"]

    def cells(self, architecture: Architecture) -> tuple[CellGraph, ...]:
        """Return no graphs."""
        return ()


def read_number(architecture: Architecture) -> float:
    """Return the number that the digits form: the value of an architecture, and its proxy score."""
    return float(architecture["tens"] + architecture["ones"])


def read_numbers(architectures: Sequence[Architecture]) -> list[float]:
    """Return the number of each architecture."""
    return [read_number(architecture) for architecture in architectures]


def build_algorithm(name: str, space: SearchSpace | None = None, seed: int = 0, **settings: Any) -> Algorithm:
    """Return an algorithm on the grid, with the numbers as proxy scores."""
    generator = torch.Generator().manual_seed(seed)
    candidates = Candidates(space or Grid())
    return ALGORITHMS[name](candidates, generator, build_settings(name, **settings), read_numbers)
