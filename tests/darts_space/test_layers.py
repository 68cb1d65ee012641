"""Drop path and the auxiliary head."""

import pytest
import torch
from torch.nn import functional as F

from darts_space.layers import AuxiliaryHead, DropPath


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    drop = DropPath().train()
    drop.probability.fill_(0.3)
    torch.manual_seed(0)
    outputs = drop(torch.ones(20000, 2, 2, 2)).flatten(1)
    assert torch.equal(outputs.amin(1), outputs.amax(1))
    assert sorted(outputs[:, 0].unique().tolist()) == pytest.approx([0, 1 / 0.7])
    assert outputs.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(drop.eval()(torch.ones(5, 1, 1, 1)), torch.ones(5, 1, 1, 1))


def test_the_auxiliary_head_pools_as_darts_does_on_maps_of_8x8():
    head = AuxiliaryHead(4, 3).eval()
    x = torch.randn(2, 4, 8, 8)
    pooled = F.avg_pool2d(x.relu(), 5, stride=3, count_include_pad=False)
    torch.testing.assert_close(head(x), head.classifier(head.features(head.reduce(pooled)).flatten(1)))
    assert pooled.shape[-1] == 2
