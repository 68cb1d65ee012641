"""Zen-score against the authors' code and against torch's own BatchNorms."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

import zcpt
from tests.zcpt.proxies import appendix
from tests.zcpt.proxies.test_field import make_batch
from zcpt import ProxyError
from zcpt.proxies import Zen, draw_weights
from zcpt.proxies.zen import initial_statistics


def test_value_of_the_authors() -> None:
    net, batch, other = appendix.network().eval(), appendix.batch(), appendix.batch(1)
    with torch.no_grad():
        term = Zen().compute_term(net, draw_weights(net, "given", 0), batch.images, batch.images + 0.01 * other.images)
    assert term == pytest.approx(-0.574495, rel=1e-4)


def test_running_variances_are_moving_averages_over_all_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same draws are loaded into a copy, which runs in training mode."""
    net = appendix.network().eval()
    repeats: list[tuple[dict[str, Tensor], Tensor, Tensor]] = []
    compute_term = Zen.compute_term

    def record_term(
        proxy: Zen, net: nn.Module, tensors: dict[str, Tensor], x: Tensor, moved: Tensor, mixture: zcpt.Mixture | None
    ) -> float:
        repeats.append(({name: tensor.clone() for name, tensor in tensors.items()}, x, moved))
        return compute_term(proxy, net, tensors, x, moved, mixture)

    monkeypatch.setattr(Zen, "compute_term", record_term)
    score = zcpt.score_mixtures(net, Zen(repeats=3), [None], make_batch()).item()

    own = copy.deepcopy(net).train()
    expected = []
    for tensors, x, moved in repeats:
        own.load_state_dict({name: t for name, t in tensors.items() if "running" not in name}, strict=False)
        with torch.no_grad():
            change = (own[:6](moved) - own[:6](x)).abs().sum((1, 2, 3)).mean()
        scale = sum(math.log(math.sqrt(own.get_buffer(f"{i}.running_var").mean())) for i in (1, 4))
        expected.append(math.log(change) + scale)
    assert score == pytest.approx(sum(expected) / 3, rel=1e-5)
    weights = [tensors["0.weight"] for tensors, _, _ in repeats]
    assert not torch.equal(weights[0], weights[1])


def test_statistics_of_a_trained_network_do_not_matter() -> None:
    net, trained = appendix.network(), appendix.network()
    trained.train()(appendix.batch().images)
    scores = [zcpt.score(each, make_batch(), Zen(repeats=1))["zen"] for each in (net, trained)]
    assert scores[0] == scores[1]
    assert torch.equal(initial_statistics(trained)["1.running_var"], torch.ones(4))


def test_batch_norms_without_running_statistics_are_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten())
    with pytest.raises(ProxyError, match="BatchNorm '1' of Sequential keeps none"):
        zcpt.score(net, make_batch(), "zen")


def test_no_repeats_are_refused() -> None:
    with pytest.raises(ProxyError, match="at least 1 repeat"):
        Zen(repeats=0)


def test_a_constant_network_scores_minus_infinity() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (0 * x).mean((2, 3))

    assert zcpt.score(Constant(), make_batch(), "zen")["zen"] == -math.inf
