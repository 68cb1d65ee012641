"""The architectures that trials may take: those of a space within all budgets, or those of a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from zcpt.architecture import Architecture, Choice
from zcpt.errors import ConfigError, InfeasibleError
from zcpt.options import pluralize
from zcpt.search import BudgetChecker, FeasibleSet
from zcpt.space import SearchSpace
from zcpt.variation import Decisions, complete_decisions, draw_index

_SAMPLES = 100
"""Architectures drawn from the whole space until one is within the budgets. To decide choice by choice takes as long as
some 90 of them."""
_DRAWS = 30
"""Draws for each of several different architectures, among which enough different ones have to be."""
_MUTATIONS = 10
"""Neighbours drawn until one is within the budgets; after that all of them are checked."""
_POOL_NEIGHBORS = 10
"""Least number of neighbours of an architecture in a pool that has more."""


class Candidates:
    """The architectures that trials may take.

    All methods return canonical architectures (``SearchSpace.canonicalize``).

    Args:
        space: The search space.
        checker: Check of the budgets; None allows all architectures.
        pool: The only architectures that are allowed, such as those of a table, where they meet the budgets; None
            allows all of the space.

    Raises:
        InfeasibleError: No architecture of the pool meets the budgets.
        ConfigError: The pool is empty.
        SpaceError: The pool has an architecture of another space.
    """

    def __init__(
        self, space: SearchSpace, checker: BudgetChecker | None = None, pool: Sequence[Architecture] | None = None
    ) -> None:
        self.space = space
        # A check without budgets costs more than drawing the architecture.
        self.checker = checker if checker is not None and checker.is_restrictive else None
        self._pool = None if pool is None else _Pool(space, self._restrict_pool(pool))

    def _restrict_pool(self, pool: Sequence[Architecture]) -> list[Architecture]:
        if not pool:
            raise ConfigError("the pool of architectures is empty.")
        canonical = dict.fromkeys(map(self.space.canonicalize, pool))
        allowed = [a for a in canonical if self.checker is None or self.checker.is_feasible(a)]
        if self.checker is not None and not allowed:
            flags = [budget.flag for budget in self.checker.budgets] + ["--valid-only"] * self.checker.valid_only
            raise InfeasibleError(
                f"none of the {pluralize(len(canonical), 'architecture')} to choose from meets {' with '.join(flags)}: "
                "give larger limits, or leave one out."
            )
        return allowed

    @property
    def pool(self) -> tuple[Architecture, ...] | None:
        """Architectures of the pool that are allowed, each once; None if the whole space is allowed."""
        return None if self._pool is None else self._pool.architectures

    def is_allowed(self, architecture: Architecture) -> bool:
        """Return whether trials may take an architecture."""
        if self._pool is not None:
            return self.space.canonicalize(architecture) in self._pool.positions
        return self.checker is None or self.checker.is_feasible(architecture)

    def iterate(self) -> Iterator[Architecture]:
        """Yield all allowed architectures, each once, in a fixed order; the first at once, however large the space is.

        With several budgets some may be missing, those that ``BudgetChecker.find_feasible`` does not find.
        """
        if self._pool is not None:
            yield from self._pool.architectures
            return
        choices, checker, seen = self.space.choices, self.checker, set[Architecture]()

        def is_possible(decisions: Decisions) -> bool:
            assert checker
            return checker.find_feasible({c.name: decisions.get(c.name, c.selectable) for c in choices}) is not None

        for found in complete_decisions(choices, self.space.architecture, {}, is_possible if checker else None):
            architecture = self.space.canonicalize(found)
            if architecture not in seen and self.is_allowed(architecture):
                seen.add(architecture)
                yield architecture

    def sample(self, generator: torch.Generator) -> Architecture:
        """Draw an allowed architecture.

        The draw is uniform over a pool, and as uniform as ``SearchSpace.sample_architecture`` over a space, with
        budgets or without. Only where budgets exclude almost all architectures, so that none of 100 draws is allowed,
        the choices are decided one by one in random order: each time uniformly among the candidates with which the
        budgets can still be met. Some architectures are then likelier than others.
        """
        if self._pool is not None:
            return self._pool.architectures[draw_index(len(self._pool.architectures), generator)]
        if self.checker is None:
            return self.space.sample_architecture(generator)
        for _ in range(_SAMPLES):
            architecture = self.space.sample_architecture(generator)
            if self.checker.is_feasible(architecture):
                return architecture
        return self.space.canonicalize(_decide_within_budgets(self.checker, generator))

    def sample_distinct(self, count: int, generator: torch.Generator) -> list[Architecture]:
        """Draw different allowed architectures, each as ``sample`` does; fewer than ``count`` if so many are not found.

        If at least half of all architectures are wanted, they are listed and shuffled, which takes fewer draws.
        """
        if self.checker is None and 2 * count >= (self.space.count() if self.pool is None else len(self.pool)):
            listed = list(self.iterate())
            return [listed[index] for index in torch.randperm(len(listed), generator=generator)[:count].tolist()]
        drawn: dict[Architecture, None] = {}
        for _ in range(_DRAWS * count):
            drawn[self.sample(generator)] = None
            if len(drawn) == count:
                break
        return list(drawn)

    def list_neighbors(self, architecture: Architecture) -> list[Architecture]:
        """Return the allowed neighbours of an architecture, in a fixed order.

        In a space these are the allowed ones of ``SearchSpace.list_neighbors``. In a pool they are the nearest
        architectures by the number of choices in which they differ: those at distance 1, and where these are fewer than
        10 those at distance 2, and so on.
        """
        if self._pool is not None:
            return self._pool.list_nearest(self.space.canonicalize(architecture))
        neighbors = self.space.list_neighbors(architecture)
        return neighbors if self.checker is None else [n for n in neighbors if self.checker.is_feasible(n)]

    def mutate(self, architecture: Architecture, generator: torch.Generator) -> Architecture:
        """Draw an allowed neighbour, as ``SearchSpace.mutate`` does; if there is none, a random architecture."""
        if self._pool is None and self.checker is None:
            return self.space.mutate(architecture, generator)
        if self._pool is None:
            for _ in range(_MUTATIONS):
                neighbor = self.space.mutate(architecture, generator)
                if self.is_allowed(neighbor):
                    return neighbor
        neighbors = self.list_neighbors(architecture)
        return neighbors[draw_index(len(neighbors), generator)] if neighbors else self.sample(generator)


def _decide_within_budgets(checker: BudgetChecker, generator: torch.Generator) -> Architecture:
    """Decide all choices in random order, each uniformly among the decisions that leave a feasible architecture."""
    choices, kept = checker.space.choices, dict[str, tuple[str, ...]]()
    feasible = FeasibleSet(checker, choices)
    for index in torch.randperm(len(choices), generator=generator).tolist():
        choice = choices[index]
        remaining = choice.selectable
        while len(remaining) > choice.keep:
            # As in a search: a candidate is chosen, or where several are kept, one is dropped.
            excluded = feasible.find_excluded(choice, remaining)
            options = [candidate for candidate in remaining if candidate not in excluded]
            decided = options[draw_index(len(options), generator)]
            remaining = (decided,) if choice.keep == 1 else tuple(c for c in remaining if c != decided)
            feasible.restrict(choice, remaining)
        kept[choice.name] = remaining
    return checker.space.architecture(kept)


class _Pool:
    """A list of architectures with their distances.

    Args:
        space: The search space.
        architectures: Canonical architectures, each once.
    """

    def __init__(self, space: SearchSpace, architectures: Sequence[Architecture]) -> None:
        self.architectures = tuple(architectures)
        self.positions = {architecture: position for position, architecture in enumerate(architectures)}
        self._choices: tuple[Choice, ...] = space.choices
        # Kept candidates as numbers [architectures, choices], so that distances to a million are fast.
        self._codes: dict[tuple[str, ...], int] = {}
        self._kept = np.array([self._encode(architecture) for architecture in architectures], dtype=np.int32)

    def _encode(self, architecture: Architecture) -> list[int]:
        kept = (architecture.kept.get(choice.name, ()) for choice in self._choices)
        return [self._codes.setdefault(names, len(self._codes)) for names in kept]

    def list_nearest(self, architecture: Architecture) -> list[Architecture]:
        """Return all architectures within the least distance that has enough, the nearest first, without itself."""
        distances = (self._kept != np.array(self._encode(architecture))).sum(axis=1)
        others = np.flatnonzero(distances)
        if not len(others):
            return []
        limit = np.sort(distances[others])[min(_POOL_NEIGHBORS, len(others)) - 1]
        near = [int(index) for index in others if distances[index] <= limit]
        return [self.architectures[index] for index in sorted(near, key=lambda index: distances[index])]
