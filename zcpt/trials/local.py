"""Local search: moves to better neighbours, with warm-up and move."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from zcpt.architecture import Architecture
from zcpt.options import option
from zcpt.trials.algorithm import Algorithm, Settings, Suggestion, register_algorithm

Measured = tuple[Architecture, float]


@dataclass(frozen=True)
class LocalSettings(Settings):
    """Settings of local search.

    The defaults are those of the authors' code (https://github.com/naszilla/naszilla).
    """

    starts: int = option(10, "local: number of random architectures of which the best is the first centre")
    full_neighborhood: bool = option(
        False, "local: measure all neighbours of a centre before the next one is chosen, not only until one is better"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range("starts", self.starts >= 1, "at least 1")


@register_algorithm
class LocalSearch(Algorithm):
    """Measure the neighbours of the best architecture found, and go on from the first one that is better.

    As in White et al., "Exploring the Loss Landscape in Neural Architecture Search" (UAI 2021): the best of ``starts``
    random architectures is the first centre. Its neighbours are measured in random order. The first that is better, or
    with ``full_neighborhood`` the best of all, is the next centre. Where none is better the search starts again.

    After a warm-up the starts are its best architectures by proxy. With ``move`` the neighbours are measured in the
    order of their proxy scores, the best first. Both are ours.
    """

    name = "local"
    summary = "local search: from neighbour to better neighbour, and a new start where none is better"
    settings_class = LocalSettings
    settings: LocalSettings

    def set_up(self) -> None:
        self.centre: Measured | None = None
        """Architecture whose neighbours are measured, and its value; None while starts are measured."""
        self._starts: list[Measured] = []
        self._starts_asked = 0
        self._neighbors: deque[Architecture] = deque()
        """Neighbours of the centre that were not suggested yet."""
        self._pending: list[Architecture] = []
        """Neighbours that were suggested and not measured yet."""
        self._best_neighbor: Measured | None = None

    def suggest(self) -> Suggestion:
        """Suggest a neighbour of the centre, or a start."""
        if self.centre is not None:
            while self._neighbors:
                neighbor = self._neighbors.popleft()
                if self.is_new(neighbor):
                    self._pending.append(neighbor)
                    return Suggestion(neighbor, "neighbour")
            self._finish_neighborhood()
            if self._neighbors:
                return self.suggest()
        # While the last neighbours of a batch are not measured yet, the starts of the next search are.
        self._starts_asked += 1
        return self.pop_warm_up() or self.suggest_random()

    def learn(self, architecture: Architecture, value: float) -> None:
        """Take in the value of a start or of a neighbour; one that is better than the centre becomes the centre."""
        if architecture not in self._pending:
            self._starts.append((architecture, value))
            if self.centre is None:
                self._finish_starts()
            return
        self._pending.remove(architecture)
        if self.centre is not None and value > self.centre[1]:
            if not self.settings.full_neighborhood:
                self._move_to((architecture, value))
            elif self._best_neighbor is None or value > self._best_neighbor[1]:
                self._best_neighbor = (architecture, value)

    def revise(self, values: Mapping[Architecture, float]) -> None:
        """Replace the values of the centre, its best neighbour, and the starts."""

        def renew(measured: Measured) -> Measured:
            return measured[0], values.get(*measured)

        self.centre = None if self.centre is None else renew(self.centre)
        self._best_neighbor = None if self._best_neighbor is None else renew(self._best_neighbor)
        self._starts = [renew(start) for start in self._starts]

    def _finish_neighborhood(self) -> None:
        """Move to the best neighbour, or end this search, once all neighbours are measured."""
        if self._pending:
            return
        if self._best_neighbor is not None:
            self._move_to(self._best_neighbor)
        else:
            self.centre = None
            self._finish_starts()

    def _finish_starts(self) -> None:
        """Move to the best start once enough starts, and all that were suggested, are measured."""
        if len(self._starts) >= max(self.settings.starts, self._starts_asked):
            self._move_to(max(self._starts, key=lambda measured: measured[1]))
            self._starts, self._starts_asked = [], 0

    def _move_to(self, centre: Measured) -> None:
        self.centre = centre
        self._best_neighbor = None
        neighbors = self.shuffle(self.candidates.list_neighbors(centre[0]))
        if self.settings.move and self.score is not None:
            scores = [score if math.isfinite(score) else -math.inf for score in self.score(neighbors)]
            order = sorted(range(len(neighbors)), key=lambda i: -scores[i])
            neighbors = [neighbors[i] for i in order]
        self._neighbors = deque(neighbors)
