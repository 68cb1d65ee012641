"""TE-NAS' pruning of a supernet by its neural tangent kernel and its linear regions (Chen et al., ICLR 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from zcpt.architecture import Choice
from zcpt.baselines._registry import Importances, OperationScore, register_operation_score
from zcpt.batches import Batch
from zcpt.errors import ConfigError, ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies import Criterion, Proxy, get_components
from zcpt.scoring import Evaluator

_DIGITS = 3
"""Relative changes are rounded, so that equals share a rank: one thousandth does not decide."""


@register_operation_score
@dataclass(frozen=True)
class TeNas(OperationScore):
    """TE-NAS' pruning: in rounds, each choice loses what is missed least; what is lost later is more important.

    A round removes every open candidate in turn and measures, relative to the supernet of the round, how much the
    condition number falls and how many regions go. Both are rounded, and ranked over the candidates of all choices,
    equals alike and without gaps; the ranks are added, and each choice loses those with the smallest sums. The
    weights of what is left are shared anew. Phases come one after the other: in DARTS first operations, then inputs.

    The importance is the place in the order of removal, from 0; candidates that were left out from the start have 0,
    and all that are kept have the last place. A change that is not finite counts as the least: nothing speaks for it.
    """

    name: ClassVar[str] = "te_nas"
    summary: ClassVar[str] = "TE-NAS' pruning by ntk and linear_regions: what is lost later is more important"
    proxies: ClassVar[str] = "te_nas"
    paper: ClassVar[str] = "TE-NAS, Chen et al., ICLR 2021"

    prune: int = 1
    """How many candidates a choice loses in a round: 1 on NAS-Bench-201, 3 in DARTS on CIFAR-10, 2 on ImageNet."""
    without: tuple[str, ...] = ("none",)
    """Names of candidates that are left out from the start."""
    thin: nn.Module | None = None
    """The same supernet with as few channels as it can have, to count regions in; None counts them in the network."""

    def __post_init__(self) -> None:
        if self.prune < 1:
            raise ConfigError(
                f"te_nas has to lose candidates in every round, and prune is {self.prune}: give 1 or more."
            )

    def importances(
        self,
        net: nn.Module,
        mixture: Mixture,
        choices: Sequence[Choice],
        batches: Sequence[Batch],
        criterion: Criterion | None,
        seed: int,
    ) -> Importances:
        assert criterion is not None, "it is made with 'te_nas'"
        pruned = _Pruned(mixture, choices, self.without)
        losses = [_Loss(self._network(net, part), part, batches) for part in get_components(criterion)]
        with tqdm(total=pruned.to_lose, desc=self.name, leave=False, disable=None) as bar:
            for phase in sorted({choice.phase for choice in choices}):
                while still := [c for c in choices if c.phase == phase and len(pruned.left[c.name]) > c.keep]:
                    for choice, names in self._missed_least(pruned, still, losses).items():
                        pruned.lose(choice, names)
                        bar.update(len(names))
        return pruned.importances()

    def _network(self, net: nn.Module, part: Proxy) -> nn.Module:
        return self.thin if part.name == "linear_regions" and self.thin is not None else net

    def _missed_least(
        self, pruned: _Pruned, still: Sequence[Choice], losses: Sequence[_Loss]
    ) -> dict[Choice, list[str]]:
        """What each choice loses in this round, the least missed first."""
        removals = [(choice, name) for choice in still for name in pruned.left[choice.name]]
        mixtures = [pruned.without(choice, name) for choice, name in removals]
        ranks = np.stack([_places(loss.of(pruned.mixture, mixtures)) for loss in losses])
        order = np.lexsort((ranks[0], ranks.sum(axis=0)))  # of equal sums the one that the first part misses less
        lost: dict[Choice, list[str]] = {choice: [] for choice in still}
        for choice, name in (removals[index] for index in order):
            if len(lost[choice]) < min(self.prune, len(pruned.left[choice.name]) - choice.keep):
                lost[choice].append(name)
        return lost


class _Pruned:
    """A supernet in the course of its pruning."""

    def __init__(self, mixture: Mixture, choices: Sequence[Choice], without: Sequence[str]) -> None:
        self.mixture, self.choices = mixture, choices
        self.left = {c.name: tuple(name for name in c.selectable if name not in without) for c in choices}
        for choice in choices:
            if len(self.left[choice.name]) < choice.keep:
                self.left[choice.name] = choice.selectable
            self.mixture = self._only(choice, self.left[choice.name])
        self._places = {c.name: dict.fromkeys(c.selectable, 0) for c in choices}

    @property
    def to_lose(self) -> int:
        """How many candidates have to go."""
        return sum(len(self.left[choice.name]) - choice.keep for choice in self.choices)

    def without(self, choice: Choice, name: str) -> Mixture:
        """The mixture after one more loss."""
        return self._only(choice, tuple(other for other in self.left[choice.name] if other != name))

    def lose(self, choice: Choice, names: Sequence[str]) -> None:
        """Remove candidates of a choice, the first one first."""
        for name in names:
            self._places[choice.name][name] = len(choice.selectable) - len(self.left[choice.name])
            self.left[choice.name] = tuple(other for other in self.left[choice.name] if other != name)
        self.mixture = self._only(choice, self.left[choice.name])

    def importances(self) -> Importances:
        """The place of every candidate in the order of removal."""
        last = {c.name: len(c.selectable) - len(self.left[c.name]) for c in self.choices}
        return {
            c.name: [
                float(last[c.name] if name in self.left[c.name] else self._places[c.name][name])
                for name in c.selectable
            ]
            for c in self.choices
        }

    def _only(self, choice: Choice, names: Sequence[str]) -> Mixture:
        """The mixture with these candidates of a choice alone; shares are shared anew, as by a softmax."""
        each = 1.0 if choice.start == "one" else 1 / len(names)
        row = tuple(each if name in names else 0.0 for name in choice.candidates)
        return replace(self.mixture, weights={**self.mixture.weights, choice.name: row})


class _Loss:
    """How much worse a network is by one proxy after a change, relative to what it was."""

    def __init__(self, net: nn.Module, proxy: Proxy, batches: Sequence[Batch]) -> None:
        self.evaluator, self.proxy, self.batches = Evaluator(net, proxy), proxy, batches

    def of(self, before: Mixture, after: Sequence[Mixture]) -> NDArray[np.float64]:
        """The loss of every change, averaged over the batches; -inf where it is not finite.

        Raises:
            ProxyError: The network has no finite score before.
        """
        each = [self._on(batch, before, after) for batch in self.batches]
        mean: NDArray[np.float64] = np.mean(each, axis=0)
        return np.where(np.isfinite(mean), mean, -math.inf)

    def _on(self, batch: Batch, before: Mixture, after: Sequence[Mixture]) -> NDArray[np.float64]:
        first, *rest = self.evaluator.scores([before, *after], batch).tolist()
        if not math.isfinite(first) or first == 0:
            raise ProxyError(
                f"proxy '{self.proxy.name}' gives the supernet {first}, to which no change can be compared: "
                "try another batch size, or look for images that occur twice."
            )
        sign = 1 if self.proxy.higher_is_better else -1
        loss: NDArray[np.float64] = np.round(sign * (first - np.array(rest)) / abs(first), _DIGITS)
        return loss


def _places(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Ranks from 0 for the smallest, the same for equals, without gaps."""
    places: NDArray[np.intp] = np.unique(values, return_inverse=True)[1]
    return places
