"""Aggregates against ranks computed by hand, and the syntax of criteria."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import combinations

import numpy as np
import pytest
from scipy import stats
from torch import nn

import zcpt
from zcpt import Proxy, ProxyError
from zcpt.proxies import get_components, get_criterion
from zcpt.proxies._registry import _PROXIES
from zcpt.proxies.aggregate import _AGGREGATES, Values

REGISTERED = frozenset(_PROXIES._parts)
UP, DOWN, THIRD = "up", "down", "third"


def make_proxy(title: str, better: bool = True, least: int = 1) -> type[Proxy]:
    """Return a proxy that has only a name, a direction and a smallest batch."""

    class Named(Proxy):
        name, higher_is_better, min_batch = title, better, least

        def score(self, net: nn.Module, batch: zcpt.Batch, mixture: zcpt.Mixture | None) -> float:
            return 0.0

    return Named


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    doubles = [make_proxy(UP), make_proxy(DOWN, better=False, least=5), make_proxy(THIRD)]
    kinds = _AGGREGATES._parts.values()
    doubles += [make_proxy(part, better=part != "ntk") for kind in kinds for part in kind.component_names]
    monkeypatch.setattr(_PROXIES, "_parts", {**_PROXIES._parts, **{double.name: double for double in doubles}})


def draw_scores(parts: Iterable[str], count: int, seed: int, levels: int = 1000) -> dict[str, list[float]]:
    generator = np.random.default_rng(seed)
    return {part: generator.integers(0, levels, count).astype(float).tolist() for part in parts}


def test_log_rank_by_hand() -> None:
    aggregate = zcpt.get_aggregate("log_rank:up+down")
    # up ranks 1, 3, 2; down, where low is good, ranks 3, 1.5, 1.5.
    values = aggregate.compute_values({UP: [1.0, 30.0, 2.0], DOWN: [-8.0, 4.0, 4.0]})
    expected = [math.log(1 / 3), math.log(1.5 / 3), math.log(2 / 3) + math.log(1.5 / 3)]
    assert values == pytest.approx([expected[0] + math.log(3 / 3), math.log(3 / 3) + expected[1], expected[2]])


def test_rank_sum_by_hand() -> None:
    assert zcpt.get_aggregate("rank_sum:up+down").compute_values({UP: [1, 30, 2], DOWN: [-8, 4, 4]}) == [4.0, 4.5, 3.5]


def test_the_components_of_all_aggregates_are_registered() -> None:
    for kind in _AGGREGATES._parts.values():
        assert set(kind.component_names) <= REGISTERED, kind.name


def test_te_nas_is_the_rank_sum_of_a_low_condition_and_many_regions() -> None:
    scores = {"ntk": [10.0, 500.0, 20.0], "linear_regions": [90.0, 80.0, 100.0]}
    assert zcpt.get_aggregate("te_nas").compute_values(scores) == [5.0, 2.0, 5.0]


@pytest.mark.parametrize("levels", [4, 1000])
def test_a_majority_orders_pairs_as_two_of_three_do(levels: int) -> None:
    scores = draw_scores(("synflow", "jacob_cov", "snip"), 40, seed=1, levels=levels)
    points = zcpt.get_aggregate("vote").compute_values(scores)
    expected = [0.0] * 40
    for i, j in combinations(range(40), 2):
        signs = [np.sign(row[i] - row[j]) for row in scores.values()]
        winner = 1 if signs.count(1) >= 2 else 0 if signs.count(-1) >= 2 else 0.5
        expected[i] += winner
        expected[j] += 1 - winner
    assert points == expected


def test_two_proxies_that_agree_outvote_the_third() -> None:
    scores = {UP: [1, 2, 3, 4], DOWN: [-1, -2, -3, -4], THIRD: [4, 3, 2, 1]}
    assert zcpt.get_aggregate("majority:up+down+third").compute_values(scores) == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["log_rank", "rank_sum", "majority"])
def test_invariants_of_every_rule(name: str) -> None:
    aggregate, parts = zcpt.get_aggregate(f"{name}:{UP}+{DOWN}+{THIRD}"), (UP, DOWN, THIRD)
    scores = draw_scores(parts, 30, seed=2)
    values = np.array(aggregate.compute_values(scores))
    # Only the order of the scores and the direction of the proxies count.
    rescaled = {UP: [math.exp(s / 99) for s in scores[UP]], DOWN: [s**3 for s in scores[DOWN]], THIRD: scores[THIRD]}
    assert np.array_equal(aggregate.compute_values(rescaled), values)
    # The order of candidates and of components does not count.
    shuffle = np.random.default_rng(3).permutation(30)
    moved = {part: [scores[part][index] for index in shuffle] for part in reversed(parts)}
    assert np.allclose(aggregate.compute_values(moved), values[shuffle])
    # A candidate that is better by all proxies is better.
    oriented = np.array([scores[UP], [-s for s in scores[DOWN]], scores[THIRD]])
    for i, j in combinations(range(30), 2):
        if (oriented[:, i] > oriented[:, j]).all():
            assert values[i] > values[j]
    # The most important candidate is the one without which the network is worst.
    without = np.array(aggregate.compute_importances(scores))
    if name != "log_rank":
        assert np.array_equal(without.argsort(kind="stable"), (-values).argsort(kind="stable"))


def test_importances_rank_the_importances_by_each_component() -> None:
    aggregate = zcpt.get_aggregate("log_rank:up+down")
    # Without the first candidate 'up' falls most and 'down', which should be low, rises most.
    importances = aggregate.compute_importances({UP: [1, 2, 3], DOWN: [9, 8, 7]})
    assert importances == pytest.approx([0, 2 * math.log(2 / 3), 2 * math.log(1 / 3)])


def test_scores_that_are_not_finite_rank_last() -> None:
    aggregate = zcpt.get_aggregate("rank_sum:up+down")
    scores = {UP: [math.inf, 5.0, 7.0, math.nan], DOWN: [1.0, -math.inf, 3.0, 2.0]}
    # up: equal last are the first and the fourth (1.5), then 3, 4; down: the second is last (1), then 4, 2, 3.
    assert aggregate.compute_values(scores) == [1.5 + 4, 3 + 1, 4 + 2, 1.5 + 3]
    # As candidates: up: 1.5, 4, 3, 1.5, for without the second it is lowest; down: 2, 1, 4, 3.
    assert aggregate.compute_importances(scores) == [1.5 + 2, 4 + 1, 3 + 4, 1.5 + 3]
    # Compared as numbers the infinite up is best, and the infinite down too, as it should be low.
    assert aggregate.compute_values(scores, compare_infinite=True) == [4 + 3, 2 + 4, 3 + 1, 1 + 2]


def test_no_candidate_has_a_value_if_a_component_has_no_finite_score() -> None:
    aggregate, scores = zcpt.get_aggregate("log_rank:up+third"), {UP: [1.0, 2.0], THIRD: [math.nan, math.inf]}
    assert all(map(math.isnan, aggregate.compute_values(scores)))
    assert aggregate.compute_importances(scores) == [-math.inf] * 2


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("log_rnk:up+down", "unknown aggregate 'log_rnk': did you mean 'log_rank'"),
        ("log_rank:up+dwn", "unknown proxy 'dwn': did you mean 'down'"),
        ("log_rank", "has no proxies of its own: list some, as in log_rank:naswot"),
        ("log_rank:", "has no proxies of its own"),
        ("log_rank:up+up", r"'log_rank' needs different proxies, and up\+up has one twice"),
        ("te_nas:up+down", r"made of ntk, linear_regions: leave out ':up\+down', or write log_rank:up\+down"),
        ("log_rank:vote+up", "'vote' in .* is an aggregate itself"),
        ("up+down", r"not how to combine them: write log_rank:up\+down"),
        ("vot", "unknown proxy 'vot': did you mean 'vote'"),
        ("nazwot", "unknown proxy 'nazwot': did you mean 'naswot'"),
    ],
)
def test_invalid_criteria_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(ProxyError, match=complaint):
        get_criterion(text)


def test_criteria_are_parsed() -> None:
    assert get_criterion("naswot").name == "naswot"
    criterion = get_criterion("log_rank: up + down")
    assert (criterion.name, criterion.min_batch) == ("log_rank:up+down", 5)
    assert [part.name for part in get_components(criterion)] == [UP, DOWN]
    assert get_criterion("vote").name == "vote"
    assert [part.name for part in get_components(get_criterion(UP))] == [UP]


def test_missing_scores_are_refused() -> None:
    with pytest.raises(ProxyError, match="has no scores of 'down'"):
        zcpt.get_aggregate("log_rank:up+down").compute_values({UP: [1.0]})
    with pytest.raises(ProxyError, match="different numbers of candidates"):
        zcpt.get_aggregate("log_rank:up+down").compute_values({UP: [1.0], DOWN: [1.0, 2.0]})


def test_an_aggregate_cannot_score_a_single_network(batch: zcpt.Batch) -> None:
    with pytest.raises(ProxyError, match="'vote' ranks several networks .* score each by synflow, jacob_cov, snip"):
        zcpt.score(nn.Flatten(), batch, "vote")
    with pytest.raises(ProxyError, match="'vote' ranks several networks"):
        zcpt.score(nn.Flatten(), batch, zcpt.get_aggregate("vote"))  # type: ignore[arg-type]


def test_a_custom_aggregate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_AGGREGATES, "_parts", dict(_AGGREGATES._parts))

    @zcpt.register_aggregate
    class Worst(zcpt.Aggregate):
        """The worst rank."""

        name = "worst"

        def combine(self, scores: Values) -> Values:
            values: Values = stats.rankdata(scores, axis=1).min(axis=0)
            return values

    assert zcpt.get_aggregate("worst:up+third").compute_values({UP: [1, 2, 3], THIRD: [3, 2, 1]}) == [1, 2, 1]
    assert "worst" in zcpt.list_aggregates()
    with pytest.raises(ProxyError, match="has no name"):
        zcpt.register_aggregate(type("Nameless", (zcpt.Aggregate,), {"combine": Worst.combine}))


def test_no_aggregate_has_the_name_of_a_proxy() -> None:
    assert not set(zcpt.list_aggregates()) & set(zcpt.list_proxies())
