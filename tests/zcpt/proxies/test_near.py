"""NEAR against matrices whose effective rank is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import zcpt
from tests.zcpt.proxies.test_field import make_batch
from zcpt import Batch, ProxyError
from zcpt.proxies.near import _draw_rows, effective_rank


def test_effective_ranks_that_are_known() -> None:
    assert effective_rank(3 * torch.eye(7)) == pytest.approx(7)
    assert effective_rank(torch.ones(5, 4)) == pytest.approx(1)
    assert effective_rank(torch.zeros(5, 4)) == 0
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0, 0.0]))) == pytest.approx(math.exp(entropy))
    assert math.isnan(effective_rank(torch.full((2, 2), math.inf)))


def test_the_rows_are_a_square_block_that_starts_at_a_row_of_pixels() -> None:
    rows = torch.arange(2.0 * 3 * 4).view(2, 1, 3, 4).expand(-1, 7, -1, -1)  # every row has its own number
    starts = {int(_draw_rows(rows, seed)[0, 0]) for seed in range(40)}
    assert starts == {0, 4, 8, 12, 16}
    assert all(torch.equal(_draw_rows(rows, 5)[:, i], _draw_rows(rows, 5)[:, 0]) for i in range(7))
    assert _draw_rows(rows, 5).shape == (7, 7)
    assert _draw_rows(torch.randn(3, 10), 0).shape == (3, 10)
    assert _draw_rows(torch.randn(2, 9, 4), 0).shape == (4, 4)


def test_layers_with_weights_and_activations_count_once_each() -> None:
    relu, linear = nn.ReLU(), nn.Linear(4, 4)
    linear.weight.data, linear.bias.data = torch.eye(4), torch.zeros(4)
    net = nn.Sequential(relu, linear, nn.Identity(), relu, nn.BatchNorm1d(4, affine=False))
    batch = Batch(torch.eye(4), torch.zeros(4))
    assert zcpt.score(net, batch, "near")["near"] == pytest.approx(4 + 4)


def test_a_network_without_layers_and_activations_is_refused() -> None:
    with pytest.raises(ProxyError, match="layers or activation functions, and Flatten has none"):
        zcpt.score(nn.Flatten(), make_batch(), "near")
