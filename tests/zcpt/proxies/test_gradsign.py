"""GradSign against the authors' values and its extremes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import zcpt
from tests.zcpt.proxies import appendix
from tests.zcpt.proxies.test_field import make_batch
from zcpt import Batch, ProxyError


def test_values_of_the_authors() -> None:
    scores = zcpt.score(appendix.network(), appendix.batch(), ["gradsign", "gradsign_mean"])
    assert scores["gradsign"] == 846
    assert scores["gradsign_mean"] == pytest.approx(2.389831, rel=1e-6)


def build_linear() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 5))


def test_images_that_agree_and_images_that_do_not() -> None:
    """Gradients of an image and of a brighter copy have equal signs; those of its negative are opposite."""
    image = make_batch(1)
    agreeing = Batch(torch.cat([image.images, 2 * image.images, 3 * image.images]), torch.zeros(3, dtype=torch.int64))
    assert zcpt.score(build_linear(), agreeing, ["gradsign", "gradsign_mean"]) == {
        "gradsign": 3 * 960,
        "gradsign_mean": 3,
    }
    opposed = Batch(torch.cat([image.images, -image.images]), torch.zeros(2, dtype=torch.int64))
    assert zcpt.score(build_linear(), opposed, "gradsign") == {"gradsign": 0}


def test_features_that_a_batch_norm_has_made_zero_are_refused_and_a_head_of_zeros_is_not() -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)
    with pytest.raises(ProxyError, match="leaves nothing of one"):
        zcpt.score(nn.Sequential(*layers), make_batch(), "gradsign")
    flat = nn.Sequential(*layers[:2], nn.Flatten(), nn.Linear(216, 5))
    assert zcpt.score(flat, make_batch(), "gradsign")["gradsign"] > 0
    after = nn.Sequential(*layers[:2], nn.ReLU(), *layers[2:])
    nn.init.zeros_(after[-1].get_parameter("weight"))
    assert zcpt.score(after, make_batch(), "gradsign")["gradsign"] > 0


def test_a_gradient_that_is_nan_makes_the_score_nan() -> None:
    batch = make_batch(4)
    batch.images[2, 0, 0, 0] = math.nan
    assert math.isnan(zcpt.score(build_linear(), batch, "gradsign")["gradsign"])
