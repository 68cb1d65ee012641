"""MeCo against the authors' value and against correlations that are known."""

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
from zcpt.proxies import Meco, OptimisedMeco
from zcpt.proxies.meco import smallest_eigenvalue


def test_value_of_the_authors() -> None:
    with torch.no_grad():
        score = Meco().sum_eigenvalues(appendix.network().eval(), appendix.batch().images)
    assert score == pytest.approx(0.196616, rel=1e-4)


def test_the_smallest_eigenvalue_is_that_of_numpys_correlations() -> None:
    maps = torch.randn(5, 40, generator=torch.Generator().manual_seed(0))
    assert smallest_eigenvalue(maps) == pytest.approx(np.linalg.eigvalsh(np.corrcoef(maps.numpy()))[0], rel=1e-4)
    twins = torch.cat([maps, maps[:1]])
    assert smallest_eigenvalue(twins) == pytest.approx(0, abs=1e-9)
    constant = torch.cat([maps, torch.ones(1, 40)])
    assert smallest_eigenvalue(constant) == pytest.approx(0, abs=1e-9)
    assert math.isnan(smallest_eigenvalue(maps * math.inf))


def test_containers_count_their_last_child_again() -> None:
    conv = nn.Conv2d(3, 4, 3)
    alone, inside = (
        zcpt.score(net, make_batch(), "meco")["meco"] for net in (conv, nn.Sequential(nn.Sequential(conv)))
    )
    assert inside == pytest.approx(3 * alone)


def test_the_optimised_form_takes_eight_channels_and_scales_them_up() -> None:
    maps = torch.randn(24, 100, generator=torch.Generator().manual_seed(0))
    chosen = torch.randperm(24, generator=torch.Generator().manual_seed(3))[:8]
    assert OptimisedMeco().compute_term(maps, 3) == pytest.approx(3 * smallest_eigenvalue(maps[chosen]))
    assert OptimisedMeco().compute_term(maps, 3) != OptimisedMeco().compute_term(maps, 4)
    assert OptimisedMeco().compute_term(maps[:6], 3) == pytest.approx(Meco().compute_term(maps[:6], 3))


def test_the_image_is_random_and_of_the_size_that_is_asked_for() -> None:
    seen = []
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    batch = make_batch()
    for proxy, given in ((Meco(), batch), (Meco(), Batch(0 * batch.images, batch.labels, 7)), (Meco(size=0), batch)):
        zcpt.score(net, given, proxy)
    assert [tuple(image.shape) for image in seen] == [(1, 3, 64, 64), (1, 3, 64, 64), (1, 3, 8, 8)]
    assert torch.equal(seen[0], seen[1])
    with pytest.raises(ProxyError, match="at least 1 pixel"):
        Meco(size=-1)
