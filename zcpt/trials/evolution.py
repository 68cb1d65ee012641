"""Ageing evolution, with warm-up and move."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from zcpt.architecture import Architecture
from zcpt.options import option
from zcpt.trials.algorithm import Suggestion, register_algorithm
from zcpt.trials.mutation import MutatingAlgorithm, MutationSettings

_PARENTS = 10
"""Number of parents that are tried until one has a neighbour that was not suggested before."""


@dataclass(frozen=True)
class EvolutionSettings(MutationSettings):
    """Settings of ageing evolution.

    The defaults are those of the notebook of Zero-Cost Proxies (https://github.com/mohsaied/zero-cost-nas).
    """

    pool: int = option(64, "evolution: number of living architectures; the oldest one makes room for a new one")
    tournament: int = option(10, "evolution: number of living architectures that compete to be the parent")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("pool", self.pool >= 1, "at least 1")
        self.check_range("tournament", self.tournament >= 1, "at least 1")


@register_algorithm
class Evolution(MutatingAlgorithm):
    """Mutate the best of a few random members of a pool that only the youngest architectures live in.

    Ageing evolution (Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019). The
    first ``pool`` architectures are random; after a warm-up they are its best by proxy. Then each trial draws
    ``tournament`` different members. The one with the best value is the parent, and its child, which differs in one
    decision, takes the place of the oldest member once it is measured. With ``move`` the child is the neighbour of the
    parent with the best proxy score; with probability ``explore`` it is a random one all the same.

    Unless ``repeats`` is set, only children that were not measured before are suggested. That is ours: in the published
    code a repeated child counts as one more trained network.
    """

    name = "evolution"
    summary = "ageing evolution: mutations of the best of a few members of a pool"
    settings_class = EvolutionSettings
    settings: EvolutionSettings

    def set_up(self) -> None:
        self.members: deque[tuple[Architecture, float]] = deque()
        """The pool: architectures and their values, the oldest first."""
        self._first_suggested = 0
        """Number of architectures that were suggested to fill the pool."""

    def suggest(self) -> Suggestion:
        """Suggest an architecture that fills the pool; later, a child of a member."""
        # In a batch, no member may be measured when the first child is due.
        if self._first_suggested < self.settings.pool or not self.members:
            self._first_suggested += 1
            return self.pop_warm_up() or self.suggest_random()
        for _ in range(_PARENTS):
            child = self.make_child(self._select_parent())
            if child is not None:
                return child
        return self.suggest_random()

    def learn(self, architecture: Architecture, value: float) -> None:
        """Add the architecture to the pool, and remove the oldest one if the pool is full."""
        self.members.append((architecture, value))
        if len(self.members) > self.settings.pool:
            self.members.popleft()

    def revise(self, values: Mapping[Architecture, float]) -> None:
        """Replace the values of the pool."""
        self.members = deque((architecture, values.get(architecture, value)) for architecture, value in self.members)

    def _select_parent(self) -> Architecture:
        order = torch.randperm(len(self.members), generator=self.generator)[: self.settings.tournament]
        competitors = [self.members[i] for i in order.tolist()]
        return max(competitors, key=lambda member: member[1])[0]
