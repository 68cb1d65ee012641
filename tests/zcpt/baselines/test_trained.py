"""Scores of trained supernets, on networks whose accuracies are worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import zcpt
from tests.conftest import tiny_network_config
from zcpt import Batch, Choice, ConfigError, Mixture, Supernet
from zcpt.baselines import (
    DiscretisationAccuracyScore,
    get_operation_score,
    list_operation_scores,
    measure_accuracies,
    score_operations,
)
from zcpt.proxies import Accuracy
from zcpt.supernet import Scorable


class Swap(nn.Module):
    """Exchanges the two channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flip(1)


class Bias(nn.Module):
    """Returns (1/2, 0) for every image."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tensor([0.5, 0.0]).view(1, 2, 1, 1).expand_as(x)


EDGE = Choice("edge", ("keep", "swap", "bias"))
# Images (m, 0) of class 0 and (0, m) of class 1, with m = 1 and 0.3.
IMAGES = torch.tensor([[1.0, 0.0], [0.3, 0.0], [0.0, 1.0], [0.0, 0.3]]).view(4, 2, 1, 1)
BATCH = Batch(IMAGES, torch.tensor([0, 0, 1, 1]))


@pytest.fixture
def net() -> Supernet:
    net = Supernet([EDGE])
    source = net.mixed("op", "edge", {"keep": nn.Identity(), "swap": Swap(), "bias": Bias()}, Supernet.IMAGES)
    net.fixed("logits", nn.Flatten(), source)
    return net.eval()


@pytest.fixture
def mixture(net: Supernet) -> Mixture:
    """Return trained shares: logits are 0.5 x + 0.3 swap(x) + 0.2 (1/2, 0)."""
    return replace(net.initial_mixture(), weights={"edge": (0.5, 0.3, 0.2)})


def test_darts_pt_is_minus_the_accuracy_without_the_candidate(net: Supernet, mixture: Mixture) -> None:
    # With all three, (0, 0.3) gives (0.19, 0.15): wrong. Without 'keep', (0.3, 0) gives (0.1, 0.09), the only right
    # one. Without 'swap', (0, 0.3) gives (0.1, 0.15), and without 'bias' (0.09, 0.15): all are right.
    assert measure_accuracies(net, [mixture], [BATCH]) == [75]
    importances = score_operations("darts_pt", net, BATCH, mixture=mixture)
    assert importances == {"edge": [-25, -100, -100]}


def test_disc_acc_is_the_accuracy_of_the_candidate_alone(net: Supernet, mixture: Mixture) -> None:
    assert score_operations("disc_acc", net, BATCH, mixture=mixture) == {"edge": [100, 0, 50]}


def test_disc_acc_measures_the_supernet_that_was_trained_further(net: Supernet, mixture: Mixture) -> None:
    decided = []

    def tune(mixture: Mixture) -> tuple[Scorable, Mixture]:
        decided.append(mixture.weights["edge"])
        return net, mixture.select("edge", ("bias",))

    score = DiscretisationAccuracyScore(tune)
    assert score_operations(score, net, BATCH, mixture=mixture) == {"edge": [50, 50, 50]}
    assert decided == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]


def test_darts_is_the_share(net: Supernet, mixture: Mixture) -> None:
    assert score_operations("darts", net, BATCH, mixture=mixture) == {"edge": [0.5, 0.3, 0.2]}
    with pytest.raises(ConfigError, match="'darts' compares trained shares, and all candidates have equal ones"):
        score_operations("darts", net, BATCH)


def test_darts_rates_an_input_by_the_largest_share_of_an_operation_on_it() -> None:
    space = zcpt.get_space("darts-s3")  # some edges have 'none', which is never kept
    net = space.build_supernet(tiny_network_config(space))
    generator = torch.Generator().manual_seed(0)
    start = net.initial_mixture()
    shares = {
        name: tuple(torch.rand(len(row), generator=generator).tolist()) if net.choices[name].keep == 1 else row
        for name, row in start.weights.items()
    }
    importances = score_operations("darts", net, BATCH, mixture=replace(start, weights=shares))
    for edge in range(3):
        choice = net.choices[f"normal/node3/edge{edge}"]
        row = [share for name, share in zip(choice.candidates, shares[choice.name], strict=True) if name != "none"]
        assert importances[choice.name] == row
        assert importances["normal/node3/inputs"][edge] == max(row)


def test_accuracies_are_over_all_images_whatever_their_batches(net: Supernet, mixture: Mixture) -> None:
    parts = [Batch(BATCH.images[:1].repeat(2, 1, 1, 1), BATCH.labels[:1].repeat(2)), Batch(*BATCH[:2])]
    assert measure_accuracies(net, [mixture], parts) == [100 * 5 / 6]


def test_batch_norms_use_the_batch_and_keep_their_statistics() -> None:
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(2)).eval()
    # The first channel is always larger; after normalisation by the batch, that of the class is.
    batch = Batch(torch.tensor([[10.0, 1.0], [9.0, 2.0]]).view(2, 2, 1, 1), torch.tensor([0, 1]))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert zcpt.score(net, batch, Accuracy()) == {"accuracy": 100}
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not net.training


@pytest.mark.parametrize("name", ["zc_pt", "disc_zc"])
def test_scores_by_proxies_are_the_same_on_a_trained_supernet(name: str) -> None:
    space = zcpt.get_space("nasbench201")
    net = space.build_supernet(tiny_network_config(space))
    torch.manual_seed(0)
    batch = Batch(torch.randn(4, 3, 8, 8), torch.arange(4))
    scores = [score_operations(method, net, batch, "synflow") for method in (name, f"{name}_post")]
    assert scores[0] == scores[1]


def test_scores_say_whether_they_need_a_trained_supernet() -> None:
    needing = {name for name in list_operation_scores() if get_operation_score(name).needs_training}
    assert needing == {"darts", "darts_pt", "disc_acc", "zc_pt_post", "disc_zc_post"}
