"""Aggregates, which combine the scores of candidates by several proxies into one value for each candidate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from zcpt.errors import (
    ProxyError,
    ZcptError,
    describe_error,
    describe_unknown_name,
    refuse_old_names,
)
from zcpt.items import describe_value
from zcpt.proxies._registry import Proxy, get_proxy, list_proxies
from zcpt.registry import Registry, check_part_class, is_built_in

Values = NDArray[np.float64]


_RENAMED = {"own": "component_names", "values": "compute_values", "importances": "compute_importances"}
"""Attribute of an aggregate in version 0.1 -> its name now."""


class Aggregate(ABC):
    """A criterion that combines several proxies, its components, into one value for each of m candidates.

    Higher is better. Values compare these m candidates only: with other candidates they have to be computed anew. A
    score that is not finite ranks last within its component. If a component has no finite score at all, no candidate
    has a value: all are nan.

    Args:
        components: The proxies, where the class does not name its own.

    Raises:
        ProxyError: There is no proxy, or one is given twice.
    """

    name: str
    """Name; on an object with components of the caller's choice, followed by them: 'log_rank:naswot+synflow'."""
    summary: ClassVar[str] = ""
    """One line for ``zcpt list``; if empty, the first line of the docstring."""
    component_names: ClassVar[tuple[str, ...]] = ()
    """Names of the proxies that the aggregate is made of; if empty, the caller chooses them."""
    higher_is_better: ClassVar[bool] = True
    paper: ClassVar[str] = ""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_old_names(cls, _RENAMED, ProxyError)

    def __init__(self, components: Sequence[Proxy]) -> None:
        names = [component.name for component in components]
        if not names or len(set(names)) < len(names):
            problem = f"{'+'.join(names)} has one twice" if names else "there is none"
            raise ProxyError(f"aggregate '{self.name}' needs different proxies, and {problem}.")
        self.components = tuple(components)
        if not self.component_names:
            self.name = f"{self.name}:{'+'.join(names)}"

    @property
    def min_batch(self) -> int:
        """Smallest batch for which the scores of all components are meaningful."""
        return max(component.min_batch for component in self.components)

    @abstractmethod
    def combine(self, scores: Values) -> Values:
        """Return values [m] from the scores [K, m] of m candidates by K components.

        Args:
            scores: Higher is better in every row; -inf marks a missing score; never NaN.
        """

    def compute_values(self, scores: Mapping[str, Sequence[float]], *, compare_infinite: bool = False) -> list[float]:
        """Return the value of each of m candidates, in comparison with the others.

        Args:
            scores: The m scores of each component, by its name, as the proxy gives them; directions are taken from the
                proxies.
            compare_infinite: Whether infinite scores are compared as numbers; if not, they count as missing.

        Returns:
            m values; higher is better.
        """
        return self._combine_oriented(scores, 1, compare_infinite)

    def compute_importances(
        self, scores: Mapping[str, Sequence[float]], *, compare_infinite: bool = False
    ) -> list[float]:
        """Return the importance of each of m candidates from scores of the supernet without it; larger = keep.

        The importances by each component are ranked, not the scores: a missing score has to make its candidate the
        least important one, and as a score it would make it the most important one.

        Args:
            scores: As in ``compute_values``.
            compare_infinite: As in ``compute_values``.

        Returns:
            m importances; -inf where there is no value.
        """
        values = self._combine_oriented(scores, -1, compare_infinite)
        return [-math.inf if math.isnan(value) else value for value in values]

    def _combine_oriented(
        self, scores: Mapping[str, Sequence[float]], sign: int, compare_infinite: bool
    ) -> list[float]:
        for component in self.components:
            if component.name not in scores:
                raise ProxyError(
                    f"aggregate '{self.name}' has no scores of '{component.name}': give those of every component."
                )
        if len({len(scores[component.name]) for component in self.components}) > 1:
            raise ProxyError(
                f"the components of '{self.name}' have scored different numbers of candidates: score all by each."
            )
        signs = np.array([[sign if component.higher_is_better else -sign] for component in self.components])
        oriented = signs * np.array([scores[component.name] for component in self.components], dtype=np.float64)
        is_present = ~np.isnan(oriented) if compare_infinite else np.isfinite(oriented)
        # A missing score is the lowest one whatever the direction of the proxy, and ties with other missing ones.
        oriented = np.where(is_present, oriented, -math.inf)
        if not (oriented > -math.inf).any(axis=1).all():
            return [math.nan] * oriented.shape[1]
        return self._combine_checked(oriented)

    def _combine_checked(self, oriented: Values) -> list[float]:
        """Return the values of ``combine``; ProxyError where one of the user fails, or gives other than m numbers."""
        values = None
        try:
            values = self.combine(oriented)
            array = np.asarray(values)
        except Exception as error:
            if is_built_in(self) or isinstance(error, ZcptError):
                raise
            reason = describe_error(error, type(self).__module__)
            raise ProxyError(
                f"aggregate '{self.name}' failed: {reason}. Mend {type(self).__name__}.combine."
            ) from error
        if array.shape != oriented.shape[1:] or array.dtype.kind not in "fiu":
            raise ProxyError(
                f"aggregate '{self.name}' returns {describe_value(values)} instead of {oriented.shape[1]} values: let "
                f"{type(self).__name__}.combine return one number for each candidate."
            )
        return [float(value) for value in array]


Criterion = Proxy | Aggregate
"""A proxy, or an aggregate of proxies, by which networks and operations are compared."""

_AGGREGATES: Registry[type[Aggregate]] = Registry("aggregate", ProxyError, "zcpt list aggregates")
Class = TypeVar("Class", bound=type[Aggregate])


def register_aggregate(aggregate: Class) -> Class:
    """Decorate an Aggregate class, so that ``get_aggregate`` finds it under its name.

    Raises:
        ProxyError: The name is taken, or the class has none.
    """
    check_part_class(aggregate, Aggregate, "an aggregate", ProxyError)
    return _AGGREGATES.decorator()(aggregate)


def list_aggregates() -> list[str]:
    """Return the names of all aggregates, sorted."""
    return sorted(_AGGREGATES)


def get_aggregate_class(name: str) -> type[Aggregate]:
    """Return the class of the aggregate of that name; ProxyError with the nearest name if there is none."""
    return _AGGREGATES[name]


def get_aggregate(text: str) -> Aggregate:
    """Return the aggregate for a text: ``vote``, or ``log_rank:naswot+synflow`` with the components after the colon.

    Raises:
        ProxyError: The name is unknown, with the nearest one; or components are missing, or not allowed.
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
        raise ProxyError(f"aggregate '{name}' has no proxies of its own: list some, as in {name}:naswot+synflow.")
    for component in names:
        if component in _AGGREGATES:
            raise ProxyError(f"'{component}' in '{text}' is an aggregate itself: an aggregate is made of proxies.")
    return kind([get_proxy(component) for component in names])


def get_criterion(text: str) -> Criterion:
    """Return the proxy or the aggregate for a text, in the syntax of ``--proxy``.

    Raises:
        ProxyError: The name is unknown, with the nearest one; or the components of an aggregate are not possible.
    """
    proxies = list_proxies()
    if text in proxies:
        return get_proxy(text)
    if ":" in text or text in _AGGREGATES:
        return get_aggregate(text)
    if "+" in text:
        raise ProxyError(f"'{text}' names proxies but not how to combine them: write log_rank:{text}.")
    raise ProxyError(describe_unknown_name("proxy", text, [*proxies, *_AGGREGATES], "zcpt list"))


def get_components(criterion: Criterion) -> tuple[Proxy, ...]:
    """Return the proxies whose scores a criterion needs: its components, or the proxy itself."""
    return criterion.components if isinstance(criterion, Aggregate) else (criterion,)


def _rank(scores: Values) -> Values:
    """Return the ranks [K, m] of scores within each row: 1 for the lowest, the mean of their ranks for equal ones."""
    from scipy.stats import rankdata  # here, because importing scipy.stats takes longer than importing zcpt

    ranks: Values = rankdata(scores, axis=-1)
    return ranks


@register_aggregate
class LogRank(Aggregate):
    """The sum over the proxies of ln(rank / m): one low rank costs much."""

    name = "log_rank"
    paper = "AZ-NAS, Lee and Ham, CVPR 2024"

    def combine(self, scores: Values) -> Values:
        """Return values between -K ln(m) and 0; 0 only for a candidate that is the best by every proxy."""
        values: Values = np.log(_rank(scores) / scores.shape[1]).sum(axis=0)
        return values


@register_aggregate
class RankSum(Aggregate):
    """The sum of the ranks by the proxies."""

    name = "rank_sum"
    paper = "TE-NAS, Chen et al., ICLR 2021"

    def combine(self, scores: Values) -> Values:
        """Return values between K and K m."""
        values: Values = _rank(scores).sum(axis=0)
        return values


@register_aggregate
class Majority(Aggregate):
    """The number of candidates beaten by more than half of the proxies; half a point where neither beats the other."""

    name = "majority"
    paper = "Abdelfattah et al., ICLR 2021; as a ranking it is Copeland's"

    def combine(self, scores: Values) -> Values:
        """Return values between 0 and m - 1, whose sum is m (m - 1) / 2."""
        half = len(scores) / 2
        points = np.empty(scores.shape[1])
        for index, column in enumerate(scores.T):
            wins = (column[:, None] > scores).sum(axis=0) > half
            losses = (column[:, None] < scores).sum(axis=0) > half
            points[index] = (scores.shape[1] - 1 + wins.sum() - losses.sum()) / 2
        return points


@register_aggregate
class Vote(Majority):
    """The majority of synflow, jacob_cov and snip."""

    name = "vote"
    component_names = ("synflow", "jacob_cov", "snip")


@register_aggregate
class TeNasAggregate(RankSum):
    """The ranks by the condition number of the neural tangent kernel and by the number of linear regions, added."""

    name = "te_nas"
    component_names = ("ntk", "linear_regions")


@register_aggregate
class AzNasAggregate(LogRank):
    """The log-rank of expressivity, progressivity, trainability and complexity."""

    name = "az_nas"
    component_names = ("az_expressivity", "az_progressivity", "az_trainability", "macs")
