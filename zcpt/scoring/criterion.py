"""Scores of one network by every part of a criterion, and what they come to among candidates."""

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
"""The scores of the same candidates by several proxies, by the proxy's name."""


class CriterionEvaluator:
    """An evaluator for each part of a criterion, on one network.

    Args:
        net: A supernet, or a discrete network.
        criterion: A proxy, or an aggregate of several.
        settings: Those of ``Evaluator``.
    """

    def __init__(self, net: Scorable, criterion: Criterion, **settings: Any) -> None:
        self._each = {part.name: Evaluator(net, part, **settings) for part in get_components(criterion)}

    def score_components(self, mixtures: Sequence[Mixture | None], batch: Batch) -> dict[str, list[float]]:
        """Score P mixtures by each part on the same batch; errors as in ``Evaluator.score_mixtures``."""
        return {name: evaluator.score_mixtures(mixtures, batch).tolist() for name, evaluator in self._each.items()}

    def estimate_memory(self, mixtures: Sequence[Mixture | None], batch: Batch) -> int | None:
        """Estimate the bytes that ``score_components`` takes at once; None if the fast engine scores no part."""
        each = [evaluator.estimate_memory(mixtures, batch) for evaluator in self._each.values()]
        return max((needed for needed in each if needed is not None), default=None)


def check_scores_operations(criterion: Criterion, remedy: str) -> None:
    """ProxyError, which ends in what to do, where a part of a criterion cannot score the operations of a supernet."""
    for part in get_components(criterion):
        if not part.depends_on_mixture:
            why = part.independence_reason or "its value does not depend on the mixture of a supernet"
            raise ProxyError(f"proxy '{part.name}' cannot score operations: {why.rstrip('.')}. {remedy}")


def aggregate_scores(criterion: Criterion, table: ComponentScores, *, compare_infinite: bool = False) -> list[float]:
    """What a criterion says of each of several networks: a proxy's own scores, or an aggregate's values."""
    if isinstance(criterion, Aggregate):
        return criterion.compute_values(table, compare_infinite=compare_infinite)
    return list(table[criterion.name])


def compute_importances(
    criterion: Criterion, table: ComponentScores, *, compare_infinite: bool = False
) -> tuple[list[float], list[float]]:
    """What a criterion says of the candidates of a choice, from scores of the network without each of them.

    Returns:
        The scores and, larger is to be kept, the importances. An aggregate ranks the importances that its parts see;
        its scores are minus that.
    """
    if isinstance(criterion, Aggregate):
        found = criterion.compute_importances(table, compare_infinite=compare_infinite)
        return [0.0 - value if math.isfinite(value) else math.nan for value in found], found
    scores = list(table[criterion.name])
    return scores, convert_to_importances(scores, criterion.higher_is_better, compare_infinite=compare_infinite)


def get_component_scores(criterion: Criterion, table: ComponentScores) -> dict[str, tuple[float, ...]]:
    """What a journal keeps beside the scores: of an aggregate those of its parts, of a proxy nothing."""
    return {name: tuple(row) for name, row in table.items()} if isinstance(criterion, Aggregate) else {}
