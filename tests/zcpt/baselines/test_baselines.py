"""Operation scores against proxies whose answer is known."""

import math

import pytest
import torch
from scipy.stats import rankdata
from torch import nn

import zcpt
from tests.conftest import tiny_network_config
from zcpt import Batch, Choice, ConfigError, Mixture, Proxy, ProxyError, Supernet
from zcpt.baselines import (
    OperationScore,
    TeNas,
    get_operation_score,
    list_operation_scores,
    operation_scores,
    register_operation_score,
)
from zcpt.baselines._registry import _SCORES
from zcpt.proxies._registry import _PROXIES

WORTH = {
    "node1": {"none": 9.0, "a": 1.0, "b": 2.0, "c": 3.0},
    "node2": {"none": 9.0, "a": 6.0, "b": 5.0, "c": 4.0},
}


def weighed(mixture, worth):
    """The worth of what a mixture has, each as much as it weighs."""
    return sum(
        weight * worth[name][candidate]
        for name, row in mixture.weights.items()
        for candidate, weight in zip(mixture.choices[name].candidates, row, strict=True)
    )


@pytest.fixture(autouse=True)
def doubles(monkeypatch):
    """'ntk' and 'linear_regions' that know the worth of candidates, and a proxy that does not see any."""

    class Ntk(Proxy):
        name, higher_is_better = "ntk", False
        seen: list = []

        def score(self, net, batch, mixture):
            Ntk.seen.append(mixture)
            return 1000 - weighed(mixture, WORTH) - batch.images.mean().item()

    class Regions(Proxy):
        name, higher_is_better = "linear_regions", True
        nets: list = []

        def score(self, net, batch, mixture):
            Regions.nets.append(net)
            return 100 + weighed(mixture, WORTH)

    class Blind(Proxy):
        name, higher_is_better, depends_on_mixture = "blind", True, False
        independence_reason = "it looks away"

        def score(self, net, batch, mixture):
            return 0.0

    known = {proxy.name: proxy for proxy in (Ntk, Regions, Blind)}
    monkeypatch.setattr(_PROXIES, "_parts", {**_PROXIES._parts, **known})
    return known


@pytest.fixture
def net():
    """Two edges in a row, of four candidates that do nothing."""
    names = ("none", "a", "b", "c")
    net = Supernet([Choice("node1", names), Choice("node2", names)])
    source = Supernet.IMAGES
    for choice in ("node1", "node2"):
        source = net.mixed(f"{choice}/op", choice, {name: nn.Identity() for name in names}, source)
    return net


@pytest.fixture
def picture():
    return Batch(torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.long))


def test_zc_pt_is_what_is_lost_without_the_candidate(net, picture):
    found = operation_scores("zc_pt", net, picture, "linear_regions")
    for name, worth in WORTH.items():
        whole = 100 + sum(map(sum, (row.values() for row in WORTH.values()))) / 4
        assert found[name] == pytest.approx([value / 4 - whole for value in worth.values()])
    # Where low is good, a kernel that gets worse without the candidate says the same.
    assert [rankdata(row).tolist() for row in operation_scores("zc_pt", net, picture, "ntk").values()] == [
        rankdata(row).tolist() for row in found.values()
    ]


def test_disc_zc_is_what_the_candidate_is_worth_alone(net, picture):
    found = operation_scores("disc_zc", net, picture, "linear_regions")
    others = sum(WORTH["node2"].values()) / 4
    assert found["node1"] == pytest.approx([100 + value + others for value in WORTH["node1"].values()])
    turned = operation_scores("disc_zc", net, picture, "ntk")["node1"]
    assert turned == pytest.approx([value + others - 1000 for value in WORTH["node1"].values()])


@pytest.mark.parametrize("method", ["zc_pt", "disc_zc"])
def test_an_aggregate_ranks_the_candidates_of_each_choice(method, net, picture):
    found = operation_scores(method, net, picture, "rank_sum:ntk+linear_regions")
    assert found == {"node1": [8, 2, 4, 6], "node2": [8, 6, 4, 2]}


def test_zc_pt_is_the_first_decision_of_a_search(space, batch):
    net, naswot = space.build_supernet(tiny_network_config(space)), zcpt.get_proxy("naswot")
    choice = space.choices[0]
    found = operation_scores("zc_pt", net, batch, naswot, choices=[choice])
    removed = [net.start().without(choice.name, candidate) for candidate in choice.selectable]
    assert found == {choice.name: [-score for score in zcpt.score_mixtures(net, naswot, removed, batch).tolist()]}


def test_scores_are_averaged_over_batches_and_what_is_not_finite_leaves_none(net, picture, doubles, monkeypatch):
    other = Batch(picture.images + 5, picture.labels)
    one, two = (operation_scores("zc_pt", net, each, "ntk")["node1"] for each in (picture, other))
    both = operation_scores("zc_pt", net, [picture, other], "ntk")["node1"]
    assert both == pytest.approx([(a + b) / 2 for a, b in zip(one, two, strict=True)])

    def score(self, net, batch, mixture):
        return math.inf if batch.images.mean() > 1 and not mixture.weights["node1"][2] else weighed(mixture, WORTH)

    monkeypatch.setattr(doubles["linear_regions"], "score", score)
    found = operation_scores("zc_pt", net, [picture, other], "linear_regions")["node1"]
    assert [value == -math.inf for value in found] == [False, False, True, False]


def test_decisions_of_other_choices_are_kept(net, picture):
    mixture = net.start().select("node2", ("a",))
    found = operation_scores("zc_pt", net, picture, "linear_regions", mixture=mixture, choices=[net.choices["node1"]])
    whole = 100 + sum(WORTH["node1"].values()) / 4 + 6
    assert found == {"node1": pytest.approx([value / 4 - whole for value in WORTH["node1"].values()])}


def test_te_nas_loses_the_least_worth_first_and_none_before_all(net, picture, doubles):
    assert operation_scores("te_nas", net, picture) == {"node1": [0, 1, 2, 3], "node2": [0, 3, 2, 1]}
    rows = {tuple(mixture.weights["node1"]) for mixture in doubles["ntk"].seen}
    third, half = 1 / 3, 1 / 2
    # Shares of what is left are shared anew.
    pairs = {(0, 0, half, half), (0, half, 0, half), (0, half, half, 0)}
    assert rows == {(0, third, third, third), *pairs, (0, 0, 0, 1), (0, 0, 1, 0)}
    assert len(doubles["ntk"].seen) == (1 + 2 * 3) + (1 + 2 * 2)


def test_te_nas_may_lose_several_in_a_round_and_count_regions_in_a_thin_network(net, picture, doubles):
    thin = Supernet(list(net.choices.values()))
    found = operation_scores(TeNas(prune=3, thin=thin), net, picture)
    assert found == {"node1": [0, 1, 2, 3], "node2": [0, 3, 2, 1]}
    assert len(doubles["ntk"].seen) == 1 + 2 * 3
    assert all(seen is thin for seen in doubles["linear_regions"].nets)
    with pytest.raises(ConfigError, match="prune is 0"):
        TeNas(prune=0)


def test_te_nas_ranks_relative_changes_of_all_choices_in_thousandths(net, picture, doubles, monkeypatch):
    """By regions 'a' of node1 is missed least; by the kernel all are alike to a thousandth."""
    changes = {"a": 1e-4, "b": 2e-4, "c": 3e-4}

    def kernel(self, net, batch, mixture):
        return 50 * (1 + sum(changes[name] for name in "abc" if not mixture.weights["node1"]["_abc".index(name)]))

    monkeypatch.setattr(doubles["ntk"], "score", kernel)
    assert operation_scores("te_nas", net, picture)["node1"] == [0, 1, 2, 3]
    monkeypatch.setattr(doubles["linear_regions"], "score", lambda self, net, batch, mixture: 7.0)
    changes.update(a=0.9, b=0.5, c=0.2)
    assert operation_scores("te_nas", net, picture)["node1"] == [0, 3, 2, 1]


def test_te_nas_keeps_as_many_inputs_as_a_node_has_after_all_operations(picture, doubles, monkeypatch):
    monkeypatch.setitem(WORTH, "inputs", {"0": 1.0, "1": 5.0, "2": 3.0})
    monkeypatch.setitem(WORTH, "op", {"a": 2.0, "b": 1.0, "none": 0.0})
    choices = [
        Choice("op", ("a", "b", "none"), not_selectable=("none",)),
        Choice("inputs", ("0", "1", "2"), keep=2, start="one", phase=1),
    ]
    net = Supernet(choices)
    assert operation_scores("te_nas", net, picture) == {"op": [1, 0], "inputs": [0, 1, 1]}
    assert [m.weights["op"] for m in doubles["ntk"].seen[-4:]] == [(1, 0, 0)] * 4
    assert doubles["ntk"].seen[-1].weights["inputs"] == (1, 1, 0)


def test_te_nas_refuses_a_network_without_a_finite_score(net, picture, doubles, monkeypatch):
    monkeypatch.setattr(doubles["ntk"], "score", lambda self, net, batch, mixture: math.inf)
    with pytest.raises(ProxyError, match="'ntk' gives the supernet inf, to which no change can be compared"):
        operation_scores("te_nas", net, picture)


def test_random_numbers_depend_on_the_seed_and_the_choice_alone(net, picture):
    torch.manual_seed(0)
    one = operation_scores("random", net, picture)
    torch.manual_seed(1)
    assert operation_scores("random", net, picture, choices=[net.choices["node2"]]) == {"node2": one["node2"]}
    assert one["node1"] != one["node2"]
    assert operation_scores("random", net, picture, seed=1) != one


@pytest.mark.parametrize(
    ("method", "proxy", "error", "complaint"),
    [
        ("zc-pt", "ntk", ConfigError, "unknown operation score 'zc-pt': did you mean 'zc_pt'"),
        ("zc_pt", None, ConfigError, "'zc_pt' needs a proxy"),
        ("random", "ntk", ConfigError, "'random' needs no proxy: leave the proxy out"),
        ("te_nas", "naswot", ConfigError, "'te_nas' is made with 'te_nas': leave the proxy out"),
        ("disc_zc", "naswat", ProxyError, "did you mean 'naswot'"),
        ("zc_pt", "log_rank:ntk+blind", ProxyError, "'blind' cannot score operations: it looks away. Give another"),
    ],
)
def test_what_cannot_be_scored_is_refused(method, proxy, error, complaint, net, picture):
    with pytest.raises(error, match=complaint):
        operation_scores(method, net, picture, proxy)


def test_a_batch_and_choices_have_to_be_known(net, picture):
    with pytest.raises(ConfigError, match="there is no batch"):
        operation_scores("zc_pt", net, [], "ntk")
    with pytest.raises(ConfigError, match=r"Identity does not say its choices: pass mixture=Mixture.start"):
        operation_scores("zc_pt", nn.Identity(), picture, "ntk")
    start = Mixture.start(tuple(net.choices.values()))
    assert len(operation_scores("zc_pt", nn.Identity(), picture, "ntk", mixture=start)) == 2


def test_each_has_a_line_and_one_of_ones_own_is_found(monkeypatch, net, picture):
    assert set(list_operation_scores()) >= {"zc_pt", "disc_zc", "te_nas", "random"}
    assert all(kind.summary or kind.__doc__ for kind in list_operation_scores().values())
    monkeypatch.setattr(_SCORES, "_parts", dict(_SCORES._parts))

    @register_operation_score
    class Alike(OperationScore):
        """No candidate is better than another."""

        name, proxies = "alike", "none"

        def importances(self, net, mixture, choices, batches, criterion, seed):
            return {choice.name: [0.0] * len(choice.selectable) for choice in choices}

    assert operation_scores("alike", net, picture)["node1"] == [0.0] * 4
    assert isinstance(get_operation_score("alike"), Alike)


@pytest.mark.parametrize("method", ["zc_pt", "disc_zc", "te_nas", "random"])
def test_what_is_decided_already_is_not_scored_again(method, net, batch):
    decided = net.start().select("node1", ("b",))
    proxy = "linear_regions" if method in ("zc_pt", "disc_zc") else None
    assert list(operation_scores(method, net, batch, proxy, mixture=decided)) == ["node2"]
    first = net.start().choices["node1"]
    with pytest.raises(ConfigError, match="'node1' is decided: score some of node2"):
        operation_scores(method, net, batch, proxy, mixture=decided, choices=[first])
    with pytest.raises(ConfigError, match="'node2' is no Choice: score some of node2"):
        operation_scores(method, net, batch, proxy, mixture=decided, choices=["node2"])


def test_a_pair_of_tensors_is_a_batch(net, batch):
    expected = operation_scores("zc_pt", net, batch, "linear_regions")
    assert operation_scores("zc_pt", net, tuple(batch)[:2], "linear_regions") == expected
    assert operation_scores("zc_pt", net, [tuple(batch)[:2]], "linear_regions") == expected
    with pytest.raises(ConfigError, match="the batch must be a pair of tensors"):
        operation_scores("zc_pt", net, batch.images, "linear_regions")
