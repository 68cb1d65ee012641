"""Operation scores against proxies whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch
from scipy.stats import rankdata
from torch import nn

import zcpt
from tests.conftest import MORE, tiny_network_config
from zcpt import Batch, Choice, ConfigError, Mixture, Proxy, ProxyError, Supernet
from zcpt.baselines import (
    OperationScore,
    ScoringTask,
    TeNasPruning,
    get_operation_score,
    list_operation_scores,
    register_operation_score,
    score_operations,
)
from zcpt.baselines._registry import _SCORES
from zcpt.proxies._registry import _PROXIES
from zcpt.space import SearchSpace

WORTH = {
    "node1": {"none": 9.0, "a": 1.0, "b": 2.0, "c": 3.0},
    "node2": {"none": 9.0, "a": 6.0, "b": 5.0, "c": 4.0},
}


def weighted_worth(mixture: Mixture | None, worth: Mapping[str, Mapping[str, float]]) -> float:
    """Return the sum of the worth of all candidates, each times its weight."""
    assert mixture is not None
    return sum(
        weight * worth[name][candidate]
        for name, row in mixture.weights.items()
        for candidate, weight in zip(mixture.choices[name].candidates, row, strict=True)
    )


@pytest.fixture(autouse=True)
def doubles(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace 'ntk' and 'linear_regions' by sums of WORTH, and add a proxy that does not depend on the mixture."""

    class Ntk(Proxy):
        name, higher_is_better = "ntk", False
        seen: ClassVar[list[Mixture | None]] = []

        def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
            Ntk.seen.append(mixture)
            return 1000 - weighted_worth(mixture, WORTH) - batch.images.mean().item()

    class Regions(Proxy):
        name, higher_is_better = "linear_regions", True
        nets: ClassVar[list[nn.Module]] = []

        def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
            Regions.nets.append(net)
            return 100 + weighted_worth(mixture, WORTH)

    class Blind(Proxy):
        name, higher_is_better, depends_on_mixture = "blind", True, False
        independence_reason = "it reads no weights"

        def score(self, net: nn.Module, batch: Batch, mixture: Mixture | None) -> float:
            return 0.0

    replaced = {proxy.name: proxy for proxy in (Ntk, Regions, Blind)}
    monkeypatch.setattr(_PROXIES, "_parts", {**_PROXIES._parts, **replaced})
    return replaced


@pytest.fixture
def net() -> Supernet:
    """Make a supernet of two consecutive edges, whose four candidates are identities."""
    names = ("none", "a", "b", "c")
    net = Supernet([Choice("node1", names), Choice("node2", names)])
    source = Supernet.IMAGES
    for choice in ("node1", "node2"):
        source = net.mixed(f"{choice}/op", choice, {name: nn.Identity() for name in names}, source)
    return net


@pytest.fixture
def picture() -> Batch:
    return Batch(torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.long))


def test_zc_pt_is_the_loss_of_score_without_the_candidate(net: Supernet, picture: Batch) -> None:
    importances = score_operations("zc_pt", net, picture, "linear_regions")
    for name, worth in WORTH.items():
        whole = 100 + sum(map(sum, (row.values() for row in WORTH.values()))) / 4
        assert importances[name] == pytest.approx([value / 4 - whole for value in worth.values()])
    # 'ntk' is better where it is lower, and the same candidates are the most important.
    assert [rankdata(row).tolist() for row in score_operations("zc_pt", net, picture, "ntk").values()] == [
        rankdata(row).tolist() for row in importances.values()
    ]


def test_disc_zc_is_the_score_of_the_candidate_alone(net: Supernet, picture: Batch) -> None:
    importances = score_operations("disc_zc", net, picture, "linear_regions")
    others = sum(WORTH["node2"].values()) / 4
    assert importances["node1"] == pytest.approx([100 + value + others for value in WORTH["node1"].values()])
    turned = score_operations("disc_zc", net, picture, "ntk")["node1"]
    assert turned == pytest.approx([value + others - 1000 for value in WORTH["node1"].values()])


@pytest.mark.parametrize("method", ["zc_pt", "disc_zc"])
def test_an_aggregate_ranks_the_candidates_of_each_choice(method: str, net: Supernet, picture: Batch) -> None:
    importances = score_operations(method, net, picture, "rank_sum:ntk+linear_regions")
    assert importances == {"node1": [8, 2, 4, 6], "node2": [8, 6, 4, 2]}


@pytest.mark.few_spaces(*MORE)
def test_zc_pt_is_the_first_decision_of_a_search(space: SearchSpace, batch: Batch) -> None:
    net, naswot = space.build_supernet(tiny_network_config(space)), zcpt.get_proxy("naswot")
    choice = space.choices[0]
    importances = score_operations("zc_pt", net, batch, naswot, choices=[choice])
    removed = [net.initial_mixture().without(choice.name, candidate) for candidate in choice.selectable]
    assert importances == {choice.name: [-score for score in zcpt.score_mixtures(net, naswot, removed, batch).tolist()]}


def test_scores_are_averaged_over_batches_and_one_that_is_not_finite_makes_the_mean_so(
    net: Supernet, picture: Batch, doubles: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Batch(picture.images + 5, picture.labels)
    one, two = (score_operations("zc_pt", net, data, "ntk")["node1"] for data in (picture, other))
    both = score_operations("zc_pt", net, [picture, other], "ntk")["node1"]
    assert both == pytest.approx([(a + b) / 2 for a, b in zip(one, two, strict=True)])

    def score(self: Proxy, net: nn.Module, batch: Batch, mixture: Mixture) -> float:
        return (
            math.inf if batch.images.mean() > 1 and not mixture.weights["node1"][2] else weighted_worth(mixture, WORTH)
        )

    monkeypatch.setattr(doubles["linear_regions"], "score", score)
    importances = score_operations("zc_pt", net, [picture, other], "linear_regions")["node1"]
    assert [value == -math.inf for value in importances] == [False, False, True, False]


def test_decisions_of_other_choices_are_kept(net: Supernet, picture: Batch) -> None:
    mixture = net.initial_mixture().select("node2", ("a",))
    importances = score_operations(
        "zc_pt", net, picture, "linear_regions", mixture=mixture, choices=[net.choices["node1"]]
    )
    whole = 100 + sum(WORTH["node1"].values()) / 4 + 6
    assert importances == {"node1": pytest.approx([value / 4 - whole for value in WORTH["node1"].values()])}


def test_te_nas_removes_the_least_important_first_and_none_before_all_others(
    net: Supernet, picture: Batch, doubles: dict[str, Any]
) -> None:
    assert score_operations("te_nas", net, picture) == {"node1": [0, 1, 2, 3], "node2": [0, 3, 2, 1]}
    rows = {tuple(mixture.weights["node1"]) for mixture in doubles["ntk"].seen}
    third, half = 1 / 3, 1 / 2
    # The remaining candidates have equal shares.
    pairs = {(0, 0, half, half), (0, half, 0, half), (0, half, half, 0)}
    assert rows == {(0, third, third, third), *pairs, (0, 0, 0, 1), (0, 0, 1, 0)}
    assert len(doubles["ntk"].seen) == (1 + 2 * 3) + (1 + 2 * 2)


def test_te_nas_can_remove_several_in_a_round_and_count_regions_in_a_thin_network(
    net: Supernet, picture: Batch, doubles: dict[str, Any]
) -> None:
    thin = Supernet(list(net.choices.values()))
    importances = score_operations(TeNasPruning(prune_number=3, thin_net=thin), net, picture)
    assert importances == {"node1": [0, 1, 2, 3], "node2": [0, 3, 2, 1]}
    assert len(doubles["ntk"].seen) == 1 + 2 * 3
    assert all(seen is thin for seen in doubles["linear_regions"].nets)
    with pytest.raises(ConfigError, match="prune_number is 0"):
        TeNasPruning(prune_number=0)


def test_te_nas_ranks_relative_changes_of_all_choices_in_thousandths(
    net: Supernet, picture: Batch, doubles: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By regions 'a' of node1 is the least important; by the kernel all are equal to a thousandth."""
    changes = {"a": 1e-4, "b": 2e-4, "c": 3e-4}

    def kernel(self: Proxy, net: nn.Module, batch: Batch, mixture: Mixture) -> float:
        return 50 * (1 + sum(changes[name] for name in "abc" if not mixture.weights["node1"]["_abc".index(name)]))

    monkeypatch.setattr(doubles["ntk"], "score", kernel)
    assert score_operations("te_nas", net, picture)["node1"] == [0, 1, 2, 3]
    monkeypatch.setattr(doubles["linear_regions"], "score", lambda self, net, batch, mixture: 7.0)
    changes.update(a=0.9, b=0.5, c=0.2)
    assert score_operations("te_nas", net, picture)["node1"] == [0, 3, 2, 1]


def test_te_nas_prunes_inputs_after_operations_and_keeps_two(
    picture: Batch, doubles: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WORTH, "inputs", {"0": 1.0, "1": 5.0, "2": 3.0})
    monkeypatch.setitem(WORTH, "op", {"a": 2.0, "b": 1.0, "none": 0.0})
    choices = [
        Choice("op", ("a", "b", "none"), not_selectable=("none",)),
        Choice("inputs", ("0", "1", "2"), keep=2, start="one", phase=1),
    ]
    net = Supernet(choices)
    assert score_operations("te_nas", net, picture) == {"op": [1, 0], "inputs": [0, 1, 1]}
    assert [m.weights["op"] for m in doubles["ntk"].seen[-4:]] == [(1, 0, 0)] * 4
    assert doubles["ntk"].seen[-1].weights["inputs"] == (1, 1, 0)


def test_te_nas_refuses_a_supernet_without_a_finite_score(
    net: Supernet, picture: Batch, doubles: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doubles["ntk"], "score", lambda self, net, batch, mixture: math.inf)
    with pytest.raises(ProxyError, match="'ntk' gives the supernet inf, which allows no relative change"):
        score_operations("te_nas", net, picture)


def test_random_scores_depend_only_on_seed_and_choice(net: Supernet, picture: Batch) -> None:
    torch.manual_seed(0)
    one = score_operations("random", net, picture)
    torch.manual_seed(1)
    assert score_operations("random", net, picture, choices=[net.choices["node2"]]) == {"node2": one["node2"]}
    assert one["node1"] != one["node2"]
    assert score_operations("random", net, picture, seed=1) != one


@pytest.mark.parametrize(
    ("method", "proxy", "error", "complaint"),
    [
        ("zc-pt", "ntk", ConfigError, "unknown operation score 'zc-pt': did you mean 'zc_pt'"),
        ("zc_pt", None, ConfigError, "'zc_pt' needs a proxy"),
        ("random", "ntk", ConfigError, "'random' needs no proxy: leave the proxy out"),
        ("te_nas", "naswot", ConfigError, "'te_nas' always uses 'te_nas': leave the proxy out"),
        ("disc_zc", "naswat", ProxyError, "did you mean 'naswot'"),
        (
            "zc_pt",
            "log_rank:ntk+blind",
            ProxyError,
            "'blind' cannot score operations: it reads no weights. Give another",
        ),
    ],
)
def test_unusable_methods_and_proxies_are_refused(
    method: str, proxy: str | None, error: type[zcpt.ZcptError], complaint: str, net: Supernet, picture: Batch
) -> None:
    with pytest.raises(error, match=complaint):
        score_operations(method, net, picture, proxy)


def test_a_batch_and_a_list_of_choices_are_required(net: Supernet, picture: Batch) -> None:
    with pytest.raises(ConfigError, match="there is no batch"):
        score_operations("zc_pt", net, [], "ntk")
    with pytest.raises(ConfigError, match=r"Identity has no list of choices: pass mixture=Mixture.initial"):
        score_operations("zc_pt", nn.Identity(), picture, "ntk")
    start = Mixture.initial(tuple(net.choices.values()))
    assert len(score_operations("zc_pt", nn.Identity(), picture, "ntk", mixture=start)) == 2


def test_every_score_is_described_and_a_registered_one_is_found(
    monkeypatch: pytest.MonkeyPatch, net: Supernet, picture: Batch
) -> None:
    assert set(list_operation_scores()) >= {"zc_pt", "disc_zc", "te_nas", "random"}
    assert all(
        get_operation_score(name).summary or get_operation_score(name).__doc__ for name in list_operation_scores()
    )
    monkeypatch.setattr(_SCORES, "_parts", dict(_SCORES._parts))

    @register_operation_score
    class Alike(OperationScore):
        """No candidate is better than another."""

        name = "alike"
        proxies = "none"

        def compute_importances(self, task: ScoringTask) -> dict[str, list[float]]:
            return {choice.name: [0.0] * len(choice.selectable) for choice in task.choices}

    assert score_operations("alike", net, picture)["node1"] == [0.0] * 4
    assert isinstance(get_operation_score("alike"), Alike)


@pytest.mark.parametrize("method", ["zc_pt", "disc_zc", "te_nas", "random"])
def test_decided_choices_are_not_scored(method: str, net: Supernet, batch: Batch) -> None:
    decided = net.initial_mixture().select("node1", ("b",))
    proxy = "linear_regions" if method in ("zc_pt", "disc_zc") else None
    assert list(score_operations(method, net, batch, proxy, mixture=decided)) == ["node2"]
    first = net.initial_mixture().choices["node1"]
    with pytest.raises(ConfigError, match="'node1' is decided: choices must be among node2"):
        score_operations(method, net, batch, proxy, mixture=decided, choices=[first])
    with pytest.raises(ConfigError, match="'node2' is not a Choice: choices must be among node2"):
        score_operations(method, net, batch, proxy, mixture=decided, choices=["node2"])  # type: ignore[list-item]  # the mistake


def test_a_pair_of_tensors_is_a_batch(net: Supernet, batch: Batch) -> None:
    expected = score_operations("zc_pt", net, batch, "linear_regions")
    pair = batch.images, batch.labels
    assert score_operations("zc_pt", net, pair, "linear_regions") == expected
    assert score_operations("zc_pt", net, [pair], "linear_regions") == expected
    with pytest.raises(ConfigError, match="the batch must be a pair of tensors"):
        score_operations("zc_pt", net, batch.images, "linear_regions")  # type: ignore[arg-type]  # the mistake


def test_the_old_name_still_works_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match="is now zcpt.baselines.score_operations"):
        assert zcpt.baselines.operation_scores is score_operations
