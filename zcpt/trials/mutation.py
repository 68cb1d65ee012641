"""Children of an architecture: random mutations, and moves to the neighbour of the best proxy score."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from zcpt.architecture import Architecture
from zcpt.options import option
from zcpt.trials.algorithm import Algorithm, Settings, Suggestion

_MUTATIONS = 10
"""Number of mutations of a parent that are drawn before its new neighbours are listed."""


@dataclass(frozen=True)
class MutationSettings(Settings):
    """Settings of algorithms that mutate; the default of ``explore`` is that of the notebook of Zero-Cost Proxies."""

    explore: float = option(0.25, "--move of a parent: probability of a random mutation instead")
    move_samples: int = option(
        0, "--move of a parent: number of its random neighbours that are scored; 0 scores all of them"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("explore", 0 <= self.explore <= 1, "between 0 and 1")
        self.check_range("move_samples", self.move_samples >= 0, "at least 0")


class MutatingAlgorithm(Algorithm):
    """An algorithm that mutates architectures."""

    settings: MutationSettings

    def make_child(self, parent: Architecture) -> Suggestion | None:
        """Return a new architecture one decision away from its parent; None if there is none."""
        if self.settings.move and float(torch.rand((), generator=self.generator)) >= self.settings.explore:
            neighbors = self._list_new_neighbors(parent)
            if 0 < self.settings.move_samples < len(neighbors):
                neighbors = self.shuffle(neighbors)[: self.settings.move_samples]
            best = self.pick_best_by_proxy(neighbors)
            if best is not None:
                return Suggestion(best, "move")
        child = self.draw_new(partial(self.candidates.mutate, parent, self.generator), _MUTATIONS)
        if child is None and (neighbors := self._list_new_neighbors(parent)):
            child = self.shuffle(neighbors)[0]
        return Suggestion(child, "mutation") if child is not None else None

    def _list_new_neighbors(self, architecture: Architecture) -> list[Architecture]:
        return [neighbor for neighbor in self.candidates.list_neighbors(architecture) if self.is_new(neighbor)]
