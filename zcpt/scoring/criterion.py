"""Scores of a network by every component of a criterion, and the importances of candidates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from zcpt.batches import Batch
from zcpt.errors import ProxyError
from zcpt.mixture import Mixture
from zcpt.proxies import Aggregate, Criterion, get_components
from zcpt.scoring.evaluator import Evaluator
from zcpt.scoring.importance import convert_to_importances
from zcpt.supernet import Scorable

ComponentScores = Mapping[str, Sequence[float]]
"""Scores of the same candidates or networks by each component of a criterion, by the proxy's name."""


class CriterionEvaluator:
    """Evaluators of one network, one for each component of a criterion.

    Args:
        net: A supernet, or a discrete network.
        criterion: A proxy, or an aggregate of several.
        settings: Keyword arguments of ``Evaluator``.
    """

    def __init__(self, net: Scorable, criterion: Criterion, **settings: Any) -> None:
        self._evaluators = {part.name: Evaluator(net, part, **settings) for part in get_components(criterion)}

    def score_components(self, mixtures: Sequence[Mixture | None], batch: Batch) -> dict[str, list[float]]:
        """Score P mixtures by each component on the same batch; errors as in ``Evaluator.score_mixtures``."""
        return {
            name: evaluator.score_mixtures(mixtures, batch).tolist() for name, evaluator in self._evaluators.items()
        }

    def estimate_memory(self, mixtures: Sequence[Mixture | None], batch: Batch) -> int | None:
        """Estimate the bytes that ``score_components`` takes at once; None if the fast engine scores no component."""
        estimates = [evaluator.estimate_memory(mixtures, batch) for evaluator in self._evaluators.values()]
        return max((needed for needed in estimates if needed is not None), default=None)


def check_scores_operations(criterion: Criterion, remedy: str) -> None:
    """Check that every component of a criterion can score the operations of a supernet.

    Raises:
        ProxyError: One does not depend on the mixture; the message ends in ``remedy``.
    """
    for part in get_components(criterion):
        if not part.depends_on_mixture:
            why = part.independence_reason or "its value does not depend on the mixture of a supernet"
            raise ProxyError(f"proxy '{part.name}' cannot score operations: {why.rstrip('.')}. {remedy}")


def aggregate_scores(
    criterion: Criterion, components: ComponentScores, *, compare_infinite: bool = False
) -> list[float]:
    """Return one score for each network: a proxy's own scores, or the values of an aggregate."""
    if isinstance(criterion, Aggregate):
        return criterion.compute_values(components, compare_infinite=compare_infinite)
    return list(components[criterion.name])


def compute_importances(
    criterion: Criterion, components: ComponentScores, *, compare_infinite: bool = False
) -> tuple[list[float], list[float]]:
    """Compute the importances of a choice's candidates from scores of the supernet without each of them.

    Args:
        criterion: The criterion.
        components: Scores by each of its components, one for each candidate.
        compare_infinite: Compare infinite scores as numbers, as the published code does, instead of ranking them last.

    Returns:
        Scores and importances (larger = keep), one each for every candidate. An aggregate has no scores of its own:
        they are minus its importances, nan where those are infinite.
    """
    if isinstance(criterion, Aggregate):
        importances = criterion.compute_importances(components, compare_infinite=compare_infinite)
        # 0.0 - x instead of -x: an importance of 0 has the score 0, not -0.
        return [0.0 - value if math.isfinite(value) else math.nan for value in importances], importances
    scores = list(components[criterion.name])
    return scores, convert_to_importances(scores, criterion.higher_is_better, compare_infinite=compare_infinite)


def get_component_scores(criterion: Criterion, components: ComponentScores) -> dict[str, tuple[float, ...]]:
    """Return the scores that a journal has beside the aggregated ones: those of an aggregate's components, or none."""
    return {name: tuple(row) for name, row in components.items()} if isinstance(criterion, Aggregate) else {}
