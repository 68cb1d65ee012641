"""The fast engine on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import zcpt
from tests.conftest import tiny_network_config
from zcpt.devices import move_batch, move_network
from zcpt.scoring.evaluator import seed_stochastic_modules
from zcpt.scoring.fast import FastEvaluator
from zcpt.space import SearchSpace

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")


@pytest.mark.parametrize("batch_size", [6, 32])
@pytest.mark.parametrize("proxy", ["naswot", "naswot-official"])
def test_kernels_on_a_gpu_equal_those_of_the_plain_engine(space: SearchSpace, proxy: str, batch_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    net = move_network(space.build_supernet(tiny_network_config(space)), CUDA).eval()
    images = torch.randn(batch_size, 3, 8, 8, generator=generator)
    batch = move_batch(zcpt.Batch(images, torch.zeros(batch_size, dtype=torch.int64)), CUDA)
    naswot: Any = zcpt.get_proxy(proxy)
    choice = space.choices[0]
    removed = [net.initial_mixture().without(choice.name, candidate) for candidate in choice.candidates]
    with torch.no_grad(), seed_stochastic_modules(net.modules(), 0):
        kernels, finite = FastEvaluator(net, naswot).compute_kernels(removed, batch.images)
        expected = [naswot.compute_kernel(net, batch.images, mixture) for mixture in removed]
    assert all(finite)
    for kernel, plain in zip(kernels, expected, strict=True):
        # A unit close to 0 may change its sign by rounding, and then agrees differently with all other images.
        assert (kernel - plain).abs().sum() <= max(2 * batch_size, 1e-6 * float(plain.sum()))
