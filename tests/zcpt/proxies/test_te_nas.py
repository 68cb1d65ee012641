"""The neural tangent kernel and linear regions against the authors' code and against counting by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import zcpt
from tests.zcpt.proxies import appendix
from tests.zcpt.proxies.test_field import make_batch
from zcpt import Batch, ProxyError
from zcpt.proxies import LinearRegions, Ntk, draw_weights
from zcpt.proxies.te_nas import condition_number


def test_values_of_the_authors() -> None:
    net, batch = appendix.network().eval(), appendix.batch()
    score = zcpt.score_mixtures(net, Ntk(repeats=1, weights="given"), [None], batch).item()
    assert score == pytest.approx(413.724, rel=1e-3)  # theirs is of float32
    with torch.no_grad():
        assert LinearRegions().count_regions(net, draw_weights(net, "given", 0), batch.images) == 8


def test_the_kernel_of_a_linear_network_is_that_of_its_inputs() -> None:
    net, batch = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), make_batch(6)
    inputs = batch.images.flatten(1).double()
    with torch.no_grad():
        kernel = Ntk().compute_kernel(net, draw_weights(net, "given", 0, torch.float64), batch.images.double())
    assert torch.allclose(kernel, 5 * inputs @ inputs.T)
    assert condition_number(kernel) == pytest.approx(float(torch.linalg.cond(5 * inputs @ inputs.T)))


def test_equal_images_make_the_kernel_singular_and_zero_makes_it_nan() -> None:
    batch = make_batch(6)
    twins = Batch(torch.cat([batch.images, batch.images[:1]]), torch.arange(7))
    assert zcpt.score(appendix.network(), twins, Ntk(repeats=1))["ntk"] == math.inf
    assert math.isnan(condition_number(torch.zeros(3, 3, dtype=torch.float64)))
    assert math.isnan(condition_number(torch.full((3, 3), math.nan, dtype=torch.float64)))


def test_the_mean_is_taken_over_draws_with_variance_2_by_fan_out() -> None:
    net = nn.Sequential(nn.Conv2d(3, 400, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(400, 5))
    assert float(draw_weights(net, "kaiming fan-out", 0)["0.weight"].detach().var()) == pytest.approx(
        2 / 3600, rel=0.05
    )
    net, batch = appendix.network(), make_batch(4)
    one, three = (zcpt.score(net, batch, Ntk(repeats=n))["ntk"] for n in (1, 3))
    assert one != three


def test_regions_counted_by_hand() -> None:
    """One ReLU unit for each pixel of 1x1x2 images: the patterns are (+ +), (+ -) and (- -)."""
    net = nn.Sequential(nn.ReLU(), nn.Flatten())
    images = torch.tensor([[1.0, 2.0], [3.0, 1.0], [2.0, -1.0], [-1.0, -2.0], [0.0, -1.0]])[:, None, None, :]
    with torch.no_grad():
        assert LinearRegions().count_regions(net, {}, images) == 3


def test_regions_differ_between_candidates_of_a_thin_supernet() -> None:
    net = zcpt.get_space("nasbench201").supernet(channels=1, layers=1)
    removed = [net.initial_mixture().without("node1/edge0", name) for name in net.choices["node1/edge0"].candidates]
    scores = zcpt.score_mixtures(net, LinearRegions(draws=1), removed, make_batch(2)).tolist()
    assert min(scores) < 1000
    assert len(set(scores)) > 2


def test_a_network_that_cannot_be_run_on_tiny_images_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ProxyError, match="on images of 3x3x3, and Sequential cannot be run on them"):
        zcpt.score(net, make_batch(), "linear_regions")


def test_a_network_without_weights_is_refused() -> None:
    with pytest.raises(ProxyError, match="parameters named 'weight'"):
        zcpt.score(nn.Flatten(), make_batch(), "ntk")


def test_an_unknown_weight_initialisation_is_refused() -> None:
    with pytest.raises(ProxyError, match="did you mean 'kaiming'"):
        zcpt.score(appendix.network(), make_batch(), Ntk(weights="kaming"))  # type: ignore[arg-type]
