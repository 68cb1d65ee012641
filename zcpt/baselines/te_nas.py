"""TE-NAS' pruning of a supernet by its neural tangent kernel and its linear regions.

Chen et al., Neural Architecture Search on ImageNet in Four GPU Hours, ICLR 2021; code: github.com/VITA-Group/TENAS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from zcpt.architecture import Choice
from zcpt.baselines._registry import Importances, OperationScore, ScoringTask, register_operation_score
from zcpt.batches import Batch
from zcpt.errors import ConfigError, ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies import Proxy, get_components
from zcpt.scoring import Evaluator
from zcpt.supernet import Scorable

_DIGITS = 3
"""Decimals that relative changes are rounded to, as in TE-NAS' code: smaller differences leave candidates equal."""


@register_operation_score
@dataclass(frozen=True)
class TeNasPruning(OperationScore):
    """TE-NAS' pruning: in each round every choice loses its least important candidates; later is more important.

    A round removes every remaining candidate in turn and measures, relative to the supernet at the start of the round,
    how much the condition number of the NTK rises and how many linear regions are lost. Both changes are rounded and
    ranked over the candidates of all choices; equal changes share a rank, and ranks have no gaps. Each choice loses
    the candidates with the smallest sums of both ranks, and the weights of the remaining ones become equal shares
    again. Phases follow one another: in DARTS first operations, then inputs.

    The importance is the position in the order of removal, from 0. Excluded candidates have 0, and all that are kept
    have the last position. A change that is not finite ranks as the smallest.
    """

    name: ClassVar[str] = "te_nas"
    summary: ClassVar[str] = "TE-NAS' pruning by ntk and linear_regions: later removal is more important"
    proxies: ClassVar[str] = "te_nas"
    paper: ClassVar[str] = "TE-NAS, Chen et al., ICLR 2021"

    prune_number: int = 1
    """Candidates that a choice loses in a round: 1 on NAS-Bench-201, 3 in DARTS on CIFAR-10, 2 on ImageNet."""
    excluded: tuple[str, ...] = ("none",)
    """Names of candidates that are removed before the first round, as in TE-NAS' code."""
    thin_net: Scorable | None = None
    """The same supernet with one channel, in which linear regions are counted; None counts them in the network itself.

    A wide network gives every image a region of its own, so that the count does not change."""

    def __post_init__(self) -> None:
        if self.prune_number < 1:
            raise ConfigError(
                f"te_nas removes candidates in every round, and prune_number is {self.prune_number}: give 1 or more."
            )

    def compute_importances(self, task: ScoringTask) -> Importances:
        assert task.criterion is not None, "'proxies' names it"
        state = _PruningState(task.mixture, task.choices, self.excluded)
        drops = [
            _ScoreDrop(self._select_net(task.net, part), part, task.batches) for part in get_components(task.criterion)
        ]
        with tqdm(total=state.num_to_remove, desc=self.name, leave=False, disable=None) as bar:
            for phase in sorted({choice.phase for choice in task.choices}):
                in_phase = [choice for choice in task.choices if choice.phase == phase]
                while open_choices := [c for c in in_phase if len(state.remaining[c.name]) > c.keep]:
                    for choice, names in self._select_removals(state, open_choices, drops).items():
                        state.remove(choice, names)
                        bar.update(len(names))
        return state.compute_importances()

    def _select_net(self, net: Scorable, part: Proxy) -> Scorable:
        return self.thin_net if part.name == "linear_regions" and self.thin_net is not None else net

    def _select_removals(
        self, state: _PruningState, open_choices: Sequence[Choice], drops: Sequence[_ScoreDrop]
    ) -> dict[Choice, list[str]]:
        """Select the candidates that each choice loses in this round, the least important first."""
        removals = [(choice, name) for choice in open_choices for name in state.remaining[choice.name]]
        mixtures = [state.without(choice, name) for choice, name in removals]
        ranks = np.stack([_dense_ranks(drop.measure(state.mixture, mixtures)) for drop in drops])
        # The last key of lexsort is the primary one. Among equal sums the order is that of the first proxy, ntk, as in
        # TE-NAS' code, which sorts the sums stably in the order of ntk.
        order = np.lexsort((ranks[0], ranks.sum(axis=0)))
        removed: dict[Choice, list[str]] = {choice: [] for choice in open_choices}
        for choice, name in (removals[index] for index in order):
            if len(removed[choice]) < min(self.prune_number, len(state.remaining[choice.name]) - choice.keep):
                removed[choice].append(name)
        return removed


class _PruningState:
    """The candidates that remain, the mixture of them, and the order of the removals so far."""

    def __init__(self, mixture: Mixture, choices: Sequence[Choice], excluded: Sequence[str]) -> None:
        self.mixture = mixture
        self.choices = choices
        self.remaining = {c.name: tuple(name for name in c.selectable if name not in excluded) for c in choices}
        for choice in choices:
            if len(self.remaining[choice.name]) < choice.keep:  # too few without the excluded ones: allow all
                self.remaining[choice.name] = choice.selectable
            self.mixture = self._with_only(choice, self.remaining[choice.name])
        self._positions = {c.name: dict.fromkeys(c.selectable, 0) for c in choices}

    @property
    def num_to_remove(self) -> int:
        """Number of candidates that still have to be removed."""
        return sum(len(self.remaining[choice.name]) - choice.keep for choice in self.choices)

    def without(self, choice: Choice, name: str) -> Mixture:
        """Return the mixture with one more candidate removed."""
        return self._with_only(choice, tuple(c for c in self.remaining[choice.name] if c != name))

    def remove(self, choice: Choice, names: Sequence[str]) -> None:
        """Remove candidates of a choice, in that order."""
        for name in names:
            # Excluded candidates count as removed, so the first one after them gets a larger position than 0.
            self._positions[choice.name][name] = len(choice.selectable) - len(self.remaining[choice.name])
            self.remaining[choice.name] = tuple(c for c in self.remaining[choice.name] if c != name)
        self.mixture = self._with_only(choice, self.remaining[choice.name])

    def compute_importances(self) -> Importances:
        """Return the position of every candidate in the order of removal."""
        importances = {}
        for choice in self.choices:
            remaining = self.remaining[choice.name]
            last = len(choice.selectable) - len(remaining)
            positions = self._positions[choice.name]
            importances[choice.name] = [
                float(last if name in remaining else positions[name]) for name in choice.selectable
            ]
        return importances

    def _with_only(self, choice: Choice, names: Sequence[str]) -> Mixture:
        """Return the mixture with only these candidates of a choice."""
        # Unlike in Zero-Cost-PT the weights are renormalised: TE-NAS' code sets the alpha of a removed candidate to
        # -1000, and the softmax shares its weight among the others.
        weight = 1.0 if choice.start == "one" else 1 / len(names)
        row = tuple(weight if name in names else 0.0 for name in choice.candidates)
        return replace(self.mixture, weights={**self.mixture.weights, choice.name: row})


class _ScoreDrop:
    """Relative drop of a network's score by one proxy after a change."""

    def __init__(self, net: Scorable, proxy: Proxy, batches: Sequence[Batch]) -> None:
        self.evaluator = Evaluator(net, proxy)
        self.proxy = proxy
        self.batches = batches

    def measure(self, before: Mixture, after: Sequence[Mixture]) -> NDArray[np.float64]:
        """Compute the drop [P] of P changes, averaged over the batches; -inf where it is not finite.

        Raises:
            ProxyError: The score before the change is 0 or not finite.
        """
        mean: NDArray[np.float64] = np.mean([self._measure_on(batch, before, after) for batch in self.batches], axis=0)
        return np.where(np.isfinite(mean), mean, -math.inf)

    def _measure_on(self, batch: Batch, before: Mixture, after: Sequence[Mixture]) -> NDArray[np.float64]:
        first, *rest = self.evaluator.score_mixtures([before, *after], batch).tolist()
        if not math.isfinite(first) or first == 0:
            raise ProxyError(
                f"proxy '{self.proxy.name}' gives the supernet {first}, which allows no relative change: try another "
                "batch size, or look for images that occur twice."
            )
        sign = 1 if self.proxy.higher_is_better else -1
        drop: NDArray[np.float64] = np.round(sign * (first - np.array(rest)) / abs(first), _DIGITS)
        return drop


def _dense_ranks(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Rank values from 0 for the smallest; equal values share a rank, and there are no gaps: 7 5 7 -> 1 0 1."""
    ranks: NDArray[np.intp] = np.unique(values, return_inverse=True)[1]
    return ranks
