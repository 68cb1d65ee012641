"""ZiCo, in the form of the code and in that of the paper, against the authors' values and against numpy."""

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
from zcpt.proxies import PaperZico, Zico


@pytest.mark.parametrize(("proxy", "value"), [(Zico, 19.29433), (PaperZico, 19.81224)])
def test_values_of_the_authors(proxy: type[Zico], value: float) -> None:
    assert zcpt.score_mixtures(
        appendix.network(), proxy("given"), [None], appendix.both_batches()
    ).item() == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("proxy", [Zico, PaperZico])
def test_a_linear_network_against_numpy(proxy: type[Zico]) -> None:
    net, batch = nn.Sequential(nn.Flatten(), nn.Linear(192, 5, bias=False)), make_batch(8)
    slopes = []
    for rows in (slice(0, 4), slice(4, 8)):
        x, labels = batch.images[rows].flatten(1).double().numpy(), batch.labels[rows].numpy()
        logits = x @ net.get_parameter("1.weight").detach().double().numpy().T
        shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        slopes.append((shares - np.eye(5)[labels]).T @ x / 4)
    stacked = np.stack(slopes)
    spread = (np.abs(stacked) if proxy is PaperZico else stacked).std(0)
    expected = math.log((np.abs(stacked).mean(0) / spread).sum())
    assert zcpt.score_mixtures(net, proxy("given"), [None], batch).item() == pytest.approx(expected, rel=1e-3)


def test_weights_without_deviation_are_left_out() -> None:
    slopes = torch.tensor([[1.0, 3.0, 0.0], [1.0, 1.0, 0.0]], dtype=torch.float64)
    assert Zico().compute_term(slopes) == pytest.approx(math.log(2 / 1))
    assert Zico().compute_term(torch.zeros(2, 3)) == 0
    assert math.isnan(Zico().compute_term(torch.full((2, 3), math.nan)))


def test_equal_halves_score_zero() -> None:
    batch = make_batch(4)
    twice = Batch(torch.cat([batch.images] * 2), torch.cat([batch.labels] * 2))
    assert zcpt.score(appendix.network(), twice, ["zico", "zico_paper"]) == {"zico": 0, "zico_paper": 0}


def test_labels_beyond_the_classes_of_the_network_are_refused() -> None:
    batch = make_batch(4)
    with pytest.raises(ProxyError, match="labels"):
        zcpt.score(appendix.network(), Batch(batch.images, batch.labels + 3), "zico")
