"""Zen-score against the authors' code and against torch's own BatchNorms."""

import copy
import math

import pytest
import torch
from torch import nn

import zcpt
from tests.zcpt.proxies import appendix
from tests.zcpt.proxies.test_field import pictures
from zcpt import ProxyError
from zcpt.proxies import Zen, draw_weights
from zcpt.proxies.zen import initial_statistics


def test_the_authors_value():
    net, batch, other = appendix.network().eval(), appendix.batch(), appendix.batch(1)
    with torch.no_grad():
        term = Zen().compute_term(net, draw_weights(net, "given", 0), batch.images, batch.images + 0.01 * other.images)
    assert term == pytest.approx(-0.574495, rel=1e-4)


def test_running_variances_are_moving_averages_that_go_on_through_the_repeats(monkeypatch):
    """The same draws, put into a copy that is run as torch does it."""
    net, shown = appendix.network().eval(), []
    term = Zen.compute_term
    monkeypatch.setattr(
        Zen,
        "compute_term",
        lambda self, n, t, *x: shown.append(({k: v.clone() for k, v in t.items()}, x)) or term(self, n, t, *x),
    )
    found = zcpt.score_mixtures(net, Zen(repeats=3), [None], pictures()).item()

    own = copy.deepcopy(net).train()
    expected = []
    for tensors, (x, moved, _) in shown:
        own.load_state_dict({name: t for name, t in tensors.items() if "running" not in name}, strict=False)
        with torch.no_grad():
            change = (own[:6](moved) - own[:6](x)).abs().sum((1, 2, 3)).mean()
        scale = sum(math.log(math.sqrt(own[i].running_var.mean())) for i in (1, 4))
        expected.append(math.log(change) + scale)
    assert found == pytest.approx(sum(expected) / 3, rel=1e-5)
    weights = [tensors["0.weight"] for tensors, _ in shown]
    assert not torch.equal(weights[0], weights[1])


def test_statistics_of_a_trained_network_do_not_matter():
    net, trained = appendix.network(), appendix.network()
    trained.train()(appendix.batch().images)
    scores = [zcpt.score(each, pictures(), Zen(repeats=1))["zen"] for each in (net, trained)]
    assert scores[0] == scores[1]
    assert torch.equal(initial_statistics(trained)["1.running_var"], torch.ones(4))


def test_batch_norms_without_running_statistics_are_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten())
    with pytest.raises(ProxyError, match="BatchNorm '1' of Sequential keeps none"):
        zcpt.score(net, pictures(), "zen")


def test_repeats_that_are_none_are_refused():
    with pytest.raises(ProxyError, match="at least 1 repeat"):
        Zen(repeats=0)


def test_a_network_that_does_not_react_scores_minus_infinity():
    class Constant(nn.Module):
        def forward(self, x):
            return (0 * x).mean((2, 3))

    assert zcpt.score(Constant(), pictures(), "zen")["zen"] == -math.inf
