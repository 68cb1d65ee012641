"""The terms of AZ-NAS against the authors' values and against blocks whose terms are known."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

import zcpt
from tests.zcpt.proxies import appendix
from tests.zcpt.proxies.test_field import make_batch
from zcpt.proxies import Expressivity, Progressivity, Trainability
from zcpt.proxies.az_nas import backpropagate, draw_signs, principal_entropy, trainability_term


def test_values_of_the_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    net, images = appendix.network().eval(), appendix.batch().images
    for proxy, value in ((Expressivity("given"), 2.276964), (Progressivity("given"), 0.180864)):
        monkeypatch.setattr(
            proxy, "compute_maps", lambda net, batch, mixture, p=proxy: p.compute_maps_on(net, batch.images, 0)
        )
        assert zcpt.score_mixtures(net, proxy, [None], appendix.batch()).item() == pytest.approx(value, rel=1e-4)
    before, after = Trainability("given").compute_maps_on(net, images, 0)
    assert [principal_entropy(before), principal_entropy(after)] == pytest.approx([1.048050, 1.228914], rel=1e-4)
    signs = torch.where(torch.arange(after.numel()) % 3 == 0, -1.0, 1.0).view(after.shape)
    assert trainability_term(backpropagate(before, after, signs), signs) == pytest.approx(-3.671079, rel=1e-4)


def test_independent_channels_have_the_largest_entropy_and_equal_ones_none() -> None:
    maps = torch.randn(50, 6, 10, 10, generator=torch.Generator().manual_seed(0))
    assert principal_entropy(maps) == pytest.approx(math.log(6), rel=1e-3)
    assert principal_entropy(maps[:, :1].expand(-1, 6, -1, -1)) == pytest.approx(0, abs=1e-6)
    assert math.isnan(principal_entropy(torch.ones(2, 3, 4, 4)))
    assert math.isnan(principal_entropy(maps * math.inf))


@pytest.mark.parametrize(("factor", "term"), [(1.0, -math.inf), (0.5, -0.5), (2.0, -0.5), (0.0, 2 - 1e6)])
def test_trainability_of_a_block_that_scales(factor: float, term: float) -> None:
    """M is the factor times G_out^T G_out / positions, of largest singular value 1 for a single channel."""
    before = torch.randn(4, 1, 5, 5, requires_grad=True)
    after = before * factor
    signs = draw_signs(after, 0)
    assert trainability_term(backpropagate(before, after, signs), signs) == pytest.approx(term, rel=1e-5)
    assert set(signs.unique().tolist()) == {-1, 1}


@pytest.mark.parametrize(("before", "after"), [(8, 4), (7, 4), (32, 17), (8, 9), (12, 3)])
def test_pixels_that_become_one_are_stacked_as_channels(before: int, after: int) -> None:
    g_in, g_out = torch.randn(2, 3, before, before), torch.ones(2, 4, after, after)
    stride = -(-before // after)
    columns: dict[
        tuple[int, int, int], float
    ] = {}  # by hand: pixel (i, j) belongs to pixel (i // stride, j // stride), as one of stride^2 channels
    for channel in range(3):
        for i in range(before):
            for j in range(before):
                key = channel, i % stride, j % stride
                columns[key] = columns.get(key, 0.0) + float(g_in[:, channel, i, j].sum())
    largest = 2 * math.sqrt(sum(total**2 for total in columns.values())) / (2 * after**2)
    assert trainability_term(g_in, g_out) == pytest.approx(2 - largest - 1 / (largest + 1e-6), rel=1e-3)


def test_progressivity_is_the_smallest_step() -> None:
    space = zcpt.get_space("nasbench201")
    net = space.supernet(channels=4, layers=1)
    scores = zcpt.score(net, make_batch(), ["az_expressivity", "az_progressivity"])
    with torch.no_grad():
        entropies = [principal_entropy(maps) for maps in Expressivity().compute_maps(net.eval(), make_batch(), None)]
    assert len(entropies) == 6
    assert scores["az_expressivity"] == pytest.approx(sum(entropies))
    assert scores["az_progressivity"] == min(b - a for a, b in pairwise(entropies))


def test_a_block_that_does_nothing_makes_trainability_minus_infinite() -> None:
    class Nothing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            return x

    net = nn.Sequential(nn.Conv2d(3, 4, 3), Nothing(), Nothing(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert zcpt.score(net, make_batch(), "az_trainability")["az_trainability"] == -math.inf
