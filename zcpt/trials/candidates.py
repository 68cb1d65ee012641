"""The architectures that trials may take: those of a space within all budgets, or those of a list."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zcpt.architecture import Architecture
from zcpt.errors import ConfigError, InfeasibleError
from zcpt.search import BudgetChecker
from zcpt.space import SearchSpace
from zcpt.variation import draw_index

_TRIES = 1000
"""Largest number of architectures that are drawn from the whole space to find one within the budgets."""


class Candidates:
    """The architectures that trials may take.

    Args:
        space: The search space.
        checker: Check of the budgets; None allows all architectures.
        pool: The only architectures that are allowed, such as those of a table; None allows all of the space.
    """

    def __init__(
        self, space: SearchSpace, checker: BudgetChecker | None = None, pool: Sequence[Architecture] | None = None
    ) -> None:
        self.space = space
        self.checker = checker
        self.pool = None if pool is None else tuple(a for a in pool if checker is None or checker.is_feasible(a))
        if self.pool is not None and not self.pool:
            raise ConfigError("no architecture of the pool meets the budgets: give larger limits, or leave one out.")

    def is_allowed(self, architecture: Architecture) -> bool:
        """Return whether trials may take an architecture."""
        if self.pool is not None:
            return architecture in self.pool
        return self.checker is None or self.checker.is_feasible(architecture)

    def sample(self, generator: torch.Generator) -> Architecture:
        """Draw an allowed architecture."""
        if self.pool is not None:
            return self.pool[draw_index(len(self.pool), generator)]
        for _ in range(_TRIES):
            architecture = self.space.sample_architecture(generator)
            if self.is_allowed(architecture):
                return architecture
        raise InfeasibleError("no architecture within the budgets was found: give larger limits, or leave one out.")

    def list_neighbors(self, architecture: Architecture) -> list[Architecture]:
        """Return the allowed neighbours of an architecture, in a fixed order."""
        return [neighbor for neighbor in self.space.list_neighbors(architecture) if self.is_allowed(neighbor)]

    def mutate(self, architecture: Architecture, generator: torch.Generator) -> Architecture:
        """Draw an allowed neighbour of an architecture uniformly, or another architecture if it has none."""
        neighbors = self.list_neighbors(architecture)
        return neighbors[draw_index(len(neighbors), generator)] if neighbors else self.sample(generator)
