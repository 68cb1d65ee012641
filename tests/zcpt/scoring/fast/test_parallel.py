"""Several threads give the same kernels as one."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.conftest import tiny_network_config
from tests.zcpt.scoring.fast.conftest import NASWOT, assert_same_kernel, compute_fast_kernels, draw_mixture, make_images
from zcpt.proxies import OfficialNaswot
from zcpt.scoring.evaluator import seed_stochastic_modules
from zcpt.scoring.fast import graph
from zcpt.scoring.fast.evaluator import FastEvaluator
from zcpt.scoring.fast.operations import Relu
from zcpt.space import SearchSpace

OFFICIAL = OfficialNaswot()


@pytest.fixture(params=[2, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set the number of torch's threads, and a small cache so that each thread takes a few images at a time."""
    monkeypatch.setattr(graph, "_CACHE_BYTES", 2**10)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_any_number_of_threads_gives_the_same_kernels(space: SearchSpace, threads: Any) -> None:
    torch.manual_seed(1)
    net = space.build_supernet(tiny_network_config(space)).eval()
    images, mixtures = make_images(7), [draw_mixture(net, seed) for seed in range(2)]
    with seed_stochastic_modules(net.modules(), 0):
        parallel = compute_fast_kernels(net, images, mixtures, OFFICIAL)
        assert torch.get_num_threads() == threads
        torch.set_num_threads(1)
        single = compute_fast_kernels(net, images, mixtures, OFFICIAL)
    for one, other in zip(parallel, single, strict=True):
        assert_same_kernel(one, other)


def test_fewer_images_than_threads_give_the_same_kernel(threads: Any) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1))
    parallel = compute_fast_kernels(net, make_images(2))
    torch.set_num_threads(1)
    assert torch.equal(parallel[0], compute_fast_kernels(net, make_images(2))[0])


def test_an_error_in_a_thread_is_raised(threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1)).eval()

    def fail(self: Any, x: Any) -> None:
        raise ValueError("broken")

    fast = FastEvaluator(net, NASWOT)
    fast.compute_kernels([None], make_images())
    monkeypatch.setattr(Relu, "__call__", fail)
    with pytest.raises(ValueError, match="broken"):
        fast.compute_kernels([None], make_images())
    assert torch.get_num_threads() == threads
