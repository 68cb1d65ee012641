"""Aggregates: scores of several proxies as one value for each of several candidates, which they rank by each other."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from zcpt.errors import ProxyError, describe_unknown_name
from zcpt.proxies._registry import Proxy, get_proxy, list_proxies
from zcpt.registry import Registry

Values = NDArray[np.float64]


class Aggregate(ABC):
    """A value for each of m candidates from what K proxies, its parts, say of them all; higher is better.

    The values are places among these candidates: with others they have to be computed anew. A score that is not finite
    takes the last place in its part. Where a part has no finite score at all, no candidate has a value: all are nan.

    Args:
        parts: The proxies, where the class does not name its own.

    Raises:
        ProxyError: There is none, or one comes twice.
    """

    name: str
    """On an object with parts of the caller's choice, with them: 'log_rank:naswot+synflow'."""
    summary: ClassVar[str] = ""
    """One line for ``zcpt list``; where it is empty, that of the docstring."""
    component_names: ClassVar[tuple[str, ...]] = ()
    """Names of the proxies that it is made of. Empty: of those that it is given."""
    higher_is_better: ClassVar[bool] = True
    paper: ClassVar[str] = ""

    def __init__(self, parts: Sequence[Proxy]) -> None:
        names = [part.name for part in parts]
        if not names or len(set(names)) < len(names):
            given = f"{'+'.join(names)} has one twice" if names else "there is none"
            raise ProxyError(f"aggregate '{self.name}' needs different proxies, and {given}.")
        self.components = tuple(parts)
        if not self.component_names:
            self.name = f"{self.name}:{'+'.join(names)}"

    @property
    def min_batch(self) -> int:
        """The smallest batch for which all parts say something."""
        return max(part.min_batch for part in self.components)

    @abstractmethod
    def combine(self, goods: Values) -> Values:
        """Values [m] from what each part says of each candidate [K, m]: larger is better, -inf says nothing, no nan."""

    def compute_values(self, scores: Mapping[str, Sequence[float]], *, compare_infinite: bool = False) -> list[float]:
        """How good each of m candidates is among them.

        Args:
            scores: The m scores of each part, by its name, as the proxy gives them: its direction is known.
            compare_infinite: Take infinite scores as the numbers that they are.

        Returns:
            m values; higher is better.
        """
        return self._combined(scores, 1, compare_infinite)

    def compute_importances(
        self, scores: Mapping[str, Sequence[float]], *, compare_infinite: bool = False
    ) -> list[float]:
        """How much each of m candidates is needed, from scores of the network without it; larger is to be kept.

        What is ranked are the importances that the parts see, so that a score that is not finite speaks for nobody.
        """
        values = self._combined(scores, -1, compare_infinite)
        return [-math.inf if math.isnan(value) else value for value in values]

    def _combined(self, scores: Mapping[str, Sequence[float]], sign: int, compare_infinite: bool) -> list[float]:
        for part in self.components:
            if part.name not in scores:
                raise ProxyError(f"aggregate '{self.name}' has no scores of '{part.name}': give those of every part.")
        if len({len(scores[part.name]) for part in self.components}) > 1:
            raise ProxyError(
                f"the parts of '{self.name}' have scored different numbers of candidates: score all by each."
            )
        signs = np.array([[sign if part.higher_is_better else -sign] for part in self.components])
        goods = signs * np.array([scores[part.name] for part in self.components], dtype=np.float64)
        says = ~np.isnan(goods) if compare_infinite else np.isfinite(goods)
        goods = np.where(says, goods, -math.inf)
        if not (goods > -math.inf).any(axis=1).all():
            return [math.nan] * goods.shape[1]
        values: list[float] = self.combine(goods).tolist()
        return values


Criterion = Proxy | Aggregate
"""What networks and operations are compared by."""

_AGGREGATES: Registry[type[Aggregate]] = Registry("aggregate", ProxyError, "zcpt list aggregates")
Class = TypeVar("Class", bound=type[Aggregate])


def register_aggregate(aggregate: Class) -> Class:
    """Decorate an Aggregate class, so that ``get_aggregate`` finds it under its name.

    Raises:
        ProxyError: The name is taken, or the class does not say it.
    """
    return _AGGREGATES.decorator()(aggregate)


def list_aggregates() -> list[str]:
    """Return the names of all aggregates, sorted."""
    return sorted(_AGGREGATES)


def get_aggregate_class(name: str) -> type[Aggregate]:
    """Return the class of the aggregate of that name; ProxyError with the nearest name when there is none."""
    return _AGGREGATES[name]


def get_aggregate(text: str) -> Aggregate:
    """Make the aggregate that a text names: ``vote``, or ``log_rank:naswot+synflow`` with parts of one's choice.

    Raises:
        ProxyError: An unknown name, with the nearest one; or parts are missing, or not wanted.
    """
    name, colon, listed = text.partition(":")
    kind = _AGGREGATES[name]
    if colon and kind.component_names:
        raise ProxyError(
            f"aggregate '{name}' is made of {', '.join(kind.component_names)}: "
            f"leave out ':{listed}', or write log_rank:{listed}."
        )
    names = kind.component_names or tuple(part.strip() for part in listed.split("+") if part.strip())
    if not names:
        raise ProxyError(f"aggregate '{name}' does not say of which proxies: write them like {name}:naswot+synflow.")
    for part in names:
        if part in _AGGREGATES:
            raise ProxyError(f"'{part}' in '{text}' is an aggregate itself: an aggregate is made of proxies.")
    return kind([get_proxy(part) for part in names])


def get_criterion(text: str) -> Criterion:
    """Make the proxy or the aggregate that a text names, in the words of ``--proxy``.

    Raises:
        ProxyError: An unknown name, with the nearest one, or parts of an aggregate that cannot be.
    """
    proxies = list_proxies()
    if text in proxies:
        return get_proxy(text)
    if ":" in text or text in _AGGREGATES:
        return get_aggregate(text)
    if "+" in text:
        raise ProxyError(f"'{text}' does not say how its proxies become one value: write log_rank:{text}.")
    raise ProxyError(describe_unknown_name("proxy", text, [*proxies, *_AGGREGATES], "zcpt list"))


def get_components(criterion: Criterion) -> tuple[Proxy, ...]:
    """The proxies that a criterion needs the scores of."""
    return criterion.components if isinstance(criterion, Aggregate) else (criterion,)


def ranks(values: Values) -> Values:
    """The rank of every value along the last axis: 1 for the smallest, the average of their ranks for equals."""
    if values.ndim > 1:
        return np.stack([ranks(row) for row in values])
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    placed: Values = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return placed


@register_aggregate
class LogRank(Aggregate):
    """The sum over the proxies of ln(rank / m): a candidate that is poor by one of them is set back far."""

    name = "log_rank"
    paper = "AZ-NAS, Lee and Ham, CVPR 2024"

    def combine(self, goods: Values) -> Values:
        """Between -K ln(m) and 0, which only the best by all of them has."""
        values: Values = np.log(ranks(goods) / goods.shape[1]).sum(axis=0)
        return values


@register_aggregate
class RankSum(Aggregate):
    """The sum of the ranks by the proxies."""

    name = "rank_sum"
    paper = "TE-NAS, Chen et al., ICLR 2021"

    def combine(self, goods: Values) -> Values:
        """Between K and K m."""
        values: Values = ranks(goods).sum(axis=0)
        return values


@register_aggregate
class Majority(Aggregate):
    """How many others a candidate beats, by more than half of the proxies each; half a point where neither beats."""

    name = "majority"
    paper = "Abdelfattah et al., ICLR 2021; as a ranking it is Copeland's"

    def combine(self, goods: Values) -> Values:
        """Between 0 and m - 1; their sum is m (m - 1) / 2."""
        needed, points = len(goods) / 2, np.empty(goods.shape[1])
        for index, column in enumerate(goods.T):
            wins = (column[:, None] > goods).sum(axis=0) > needed
            losses = (column[:, None] < goods).sum(axis=0) > needed
            points[index] = (goods.shape[1] - 1 + wins.sum() - losses.sum()) / 2
        return points


@register_aggregate
class Vote(Majority):
    """The majority of synflow, jacob_cov and snip."""

    name = "vote"
    component_names = ("synflow", "jacob_cov", "snip")


@register_aggregate
class TeNasAggregate(RankSum):
    """The ranks by the condition of the neural tangent kernel and by the number of linear regions, added."""

    name = "te_nas"
    component_names = ("ntk", "linear_regions")


@register_aggregate
class AzNasAggregate(LogRank):
    """The log-rank of expressivity, progressivity, trainability and complexity."""

    name = "az_nas"
    component_names = ("az_expressivity", "az_progressivity", "az_trainability", "macs")
