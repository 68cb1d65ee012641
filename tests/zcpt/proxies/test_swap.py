"""SWAP against the authors' value, numpy and a count by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import zcpt
from tests.zcpt.proxies import appendix
from tests.zcpt.proxies.test_field import make_batch
from zcpt import Batch, ProxyError
from zcpt.proxies import RegularisedSwap, Swap
from zcpt.proxies.swap import count_live_parameters

GIVEN = Swap(images=200, repeats=1, weights="given")


def test_value_of_the_authors() -> None:
    assert zcpt.score_mixtures(appendix.network(), GIVEN, [None], appendix.batch()).item() == 17


@pytest.mark.parametrize("count", [5, 62, 63, 130])
def test_patterns_against_numpy(count: int) -> None:
    images = torch.randn(count, 2, 2, 3, generator=torch.Generator().manual_seed(0)).round()
    images[:, 0, 0, 0] = images[:, 1, 1, 1]  # two units with one pattern
    net = nn.Sequential(nn.ReLU(), nn.Flatten())
    expected = len(np.unique(images.numpy().reshape(count, -1).T > 0, axis=0))
    assert zcpt.score_mixtures(net, GIVEN, [None], Batch(images, torch.zeros(count))).item() == expected
    assert expected <= 11


def test_the_first_images_are_used_and_draws_differ() -> None:
    net, batch = appendix.network(), make_batch(20)
    sixteen = Batch(batch.images[:16], batch.labels[:16], batch.seed)
    swap = Swap(repeats=2)
    assert zcpt.score(net, batch, swap) == zcpt.score(net, sixteen, swap)
    assert zcpt.score(net, batch, swap) != zcpt.score(net, batch, Swap(repeats=1))


def test_the_factor_is_one_at_mu_and_smaller_elsewhere() -> None:
    swap = RegularisedSwap(mu=3000, sigma=10000)
    assert swap.compute_factor(3000) == 1
    assert swap.compute_factor(3100) == swap.compute_factor(2900) == pytest.approx(1 / math.e)
    with pytest.raises(ProxyError, match="targets about 3000 thousand parameters, and the network has 25000"):
        swap.compute_factor(25000)


def test_parameters_are_counted_in_thousands() -> None:
    net, batch = appendix.network(), make_batch()
    plain, regularised = Swap(repeats=1), RegularisedSwap(mu=0.385, sigma=1e-4, repeats=1)
    assert zcpt.score(net, batch, regularised)["swap_reg"] == zcpt.score(net, batch, plain)["swap"]


def test_parameters_of_an_auxiliary_head_and_of_removed_candidates_do_not_count() -> None:
    space = zcpt.get_space("nasbench201")
    architecture = space.parse(
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|"
    )
    with_head, without = (
        space.network(architecture, channels=4, layers=1, num_classes=10, auxiliary=auxiliary).eval()
        for auxiliary in (True, False)
    )
    total = sum(parameter.numel() for parameter in without.parameters())
    assert (
        count_live_parameters(with_head, make_batch(), None)
        == count_live_parameters(without, make_batch(), None)
        == total
    )

    net = space.supernet(channels=4, layers=1).eval()
    start = net.initial_mixture()
    counts = [
        count_live_parameters(net, make_batch(), mixture)
        for mixture in (start, start.without("node1/edge0", "nor_conv_3x3"))
    ]
    assert counts[0] - counts[1] == 9 * (4**2 + 8**2 + 16**2)


@pytest.mark.parametrize(("images", "repeats"), [(0, 1), (1, 0)])
def test_no_images_and_no_repeats_are_refused(images: int, repeats: int) -> None:
    with pytest.raises(ProxyError, match="at least 1 image and 1 repeat"):
        Swap(images, repeats)


def test_a_sigma_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ProxyError, match="must be positive"):
        RegularisedSwap(sigma=0)
