"""KNAS against its definition in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import zcpt
from tests.zcpt.proxies.test_field import make_batch
from zcpt import ProxyError


def build_network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [layer for _ in range(8) for layer in (nn.Linear(6, 60), nn.ReLU(), nn.Linear(60, 6), nn.ReLU())]
    return nn.Sequential(nn.AdaptiveAvgPool2d((2, 1)), nn.Flatten(), *layers)


@pytest.mark.parametrize(("images", "parts"), [(8, 4), (19, 8), (100, 50), (151, 50)])
def test_against_its_definition(images: int, parts: int) -> None:
    net, batch = build_network(), make_batch(images, size=4)
    each = images // parts
    large = [p for p in net.parameters() if p.numel() >= 50][:11]
    assert sum(p.numel() >= 50 for p in net.parameters()) > 11
    rows = []
    for i in range(parts):
        loss = F.cross_entropy(net(batch.images[i * each : (i + 1) * each]), batch.labels[i * each : (i + 1) * each])
        rows.append(np.concatenate([g.flatten()[:50].double().numpy() for g in torch.autograd.grad(loss, large)]))
    half = parts // 2
    expected = 0.0
    for entry in np.array(rows).T:
        expected += np.dot(entry[:half] - entry[:half].mean(), entry[half:] - entry[half:].mean()) / parts**2
    assert zcpt.score(net, batch, "knas")["knas"] == pytest.approx(expected, rel=1e-3)


def test_a_network_of_small_parameters_is_refused() -> None:
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5))
    with pytest.raises(ProxyError, match="parameters of at least 50 entries, and Sequential has none"):
        zcpt.score(net, make_batch(), "knas")
