"""The spaces S1 to S4 against published facts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import zcpt
from darts_space.operations import OPERATIONS
from tests.conftest import ROBUST, random_architecture, tiny_network_config
from tests.zcpt.search.conftest import run_small_search
from zcpt import SpaceError
from zcpt.search import count_evaluations

S1, S2, S3, S4 = (zcpt.get_space(name) for name in ROBUST)


@pytest.mark.parametrize("space", [S1, S2, S3, S4], ids=ROBUST)
def test_published_number_of_architectures(space: Any) -> None:
    assert space.count() == 2_123_366_400 == (180 * 2**8) ** 2


def test_s1_has_the_published_operations_on_each_edge() -> None:
    edges = {choice.name: choice.candidates for choice in S1.choices if choice.phase == 0}
    assert edges["normal/node2/edge0"] == ("skip_connect", "dil_conv_3x3")
    assert edges["normal/node4/edge0"] == ("max_pool_3x3", "skip_connect")  # edge 5 of the published list
    assert edges["normal/node5/edge4"] == ("dil_conv_3x3", "dil_conv_5x5")  # edge 13
    assert edges["reduce/node2/edge1"] == ("max_pool_3x3", "dil_conv_3x3")  # edge 1
    assert edges["reduce/node4/edge1"] == ("max_pool_3x3", "sep_conv_3x3")  # edge 6
    assert edges["reduce/node5/edge0"] == ("max_pool_3x3", "avg_pool_3x3")  # edge 9
    used = [operation for kind in ("normal", "reduce") for name in edges if kind in name for operation in edges[name]]
    counts = {name: used.count(name) for name in set(used)}
    assert counts == {
        "skip_connect": 18, "max_pool_3x3": 10, "avg_pool_3x3": 6, "sep_conv_3x3": 5, "dil_conv_3x3": 8,
        "dil_conv_5x5": 9,
    }  # fmt: skip


def test_none_has_its_share_in_s3_and_is_never_compared_nor_kept(pictures: TensorDataset) -> None:
    result, callback = run_small_search(S3, pictures, proxy="hashed")
    edges = [decision for _, decision in callback.all if "edge" in decision.choice]
    assert {decision.candidates for decision in edges} == {("skip_connect", "sep_conv_3x3")}
    assert S3.build_supernet(tiny_network_config(S3)).initial_mixture().weights["reduce/node5/edge0"] == (1 / 3,) * 3
    assert count_evaluations(S3.choices, "random") == (2 * 14 * 2 + 44,) * 2
    kept = dict(result.architecture.kept)
    name = next(name for name in kept if "edge" in name)
    with pytest.raises(SpaceError, match=f"no architecture keeps 'none' at {name}"):
        S3.check(zcpt.Architecture("darts-s3", {**kept, name: ("none",)}))


@pytest.mark.parametrize("stride", [1, 2])
def test_noise_ignores_its_input_and_follows_its_seed(stride: int) -> None:
    noise: Any = OPERATIONS["noise"].build(3, stride, False)
    size = 7 // stride + 7 % stride
    one, other = (noise(torch.full((2, 3, 7, 7), value)) for value in (0.0, 9.0))
    assert one.shape == (2, 3, size, size)
    assert not torch.equal(one, other)
    noise.seed = 5
    one, other = (noise(torch.full((2, 3, 7, 7), value)) for value in (0.0, 9.0))
    assert torch.equal(one, other)
    many = noise(torch.zeros(64, 8, 16, 16))
    assert (many.mean().item(), many.std().item()) == pytest.approx((0, 1), abs=0.02)


def test_scores_of_noisy_networks_repeat_and_depend_on_the_seed_of_the_batch(batch: zcpt.Batch) -> None:
    proxy = zcpt.get_proxy("naswot")
    network: Any = S4.build_network(random_architecture(S4, 0, without="sep"), tiny_network_config(S4))
    net: Any
    for net, mixture in ((S4.build_supernet(tiny_network_config(S4)), None), (network, None)):
        scores = [zcpt.score_mixtures(net, proxy, [mixture], batch._replace(seed=seed)).item() for seed in (3, 3, 4)]
        assert scores[0] == scores[1] != scores[2]
        torch.manual_seed(0)
        assert not torch.equal(net(batch.images), net(batch.images))  # no seed is left behind
