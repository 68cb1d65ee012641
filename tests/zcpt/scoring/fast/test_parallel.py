"""Several threads give the same kernels as one."""

from __future__ import annotations

from threading import get_ident
from typing import Any

import pytest
import torch

from tests.conftest import tiny_network_config
from tests.zcpt.scoring.fast.conftest import NASWOT, assert_same_kernel, compute_fast_kernels, draw_mixture, make_images
from zcpt.errors import is_out_of_memory
from zcpt.proxies import OfficialNaswot
from zcpt.scoring.evaluator import seed_stochastic_modules
from zcpt.scoring.fast import graph, parallel
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


@pytest.mark.few_spaces("darts-s4", "proxyless")
def test_any_number_of_threads_gives_the_same_kernels(space: SearchSpace, threads: Any) -> None:
    torch.manual_seed(1)
    net = space.build_supernet(tiny_network_config(space)).eval()
    images, mixtures = make_images(7), [draw_mixture(net, seed) for seed in range(2)]
    with seed_stochastic_modules(net.modules(), 0):
        shared = compute_fast_kernels(net, images, mixtures, OFFICIAL)
        assert torch.get_num_threads() == threads
        torch.set_num_threads(1)
        single = compute_fast_kernels(net, images, mixtures, OFFICIAL)
    for one, other in zip(shared, single, strict=True):
        assert_same_kernel(one, other)


def test_fewer_images_than_threads_give_the_same_kernel(threads: Any) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1))
    shared = compute_fast_kernels(net, make_images(2))
    torch.set_num_threads(1)
    assert torch.equal(shared[0], compute_fast_kernels(net, make_images(2))[0])


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


def _refuse(function: Any, arguments: Any) -> int:
    raise RuntimeError("can't start new thread")


def _begin_never(function: Any, arguments: Any) -> int:
    return 1


@pytest.mark.parametrize("start", [_refuse, _begin_never])
def test_a_thread_without_memory_is_not_waited_for(start: Any, threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1))
    monkeypatch.setattr(parallel, "_SECONDS_TO_BEGIN", 0.1)
    monkeypatch.setattr(parallel, "start_new_thread", start)
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        compute_fast_kernels(net, make_images(4))
    assert is_out_of_memory(caught.value)
    assert torch.get_num_threads() == threads


def test_a_stop_ends_all_threads(threads: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 1)).eval()
    fast, main_thread = FastEvaluator(net, NASWOT), get_ident()
    fast.compute_kernels([None], make_images())
    relu = Relu.__call__

    def stop_here_and_wait_elsewhere(self: Any, x: Any) -> Any:
        if get_ident() == main_thread:
            raise KeyboardInterrupt
        return relu(self, x)

    monkeypatch.setattr(Relu, "__call__", stop_here_and_wait_elsewhere)
    with pytest.raises(KeyboardInterrupt):
        fast.compute_kernels([None], make_images())
