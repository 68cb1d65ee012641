"""Limited memory: estimates, limits, and signs packed into bits."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import zcpt
from tests.conftest import tiny_network_config
from tests.zcpt.scoring.fast.conftest import NASWOT, assert_same_kernel, compute_fast_kernels, draw_mixture, make_images
from zcpt import Batch, ConfigError
from zcpt.options import parse_number
from zcpt.proxies.naswot import agreement_kernel
from zcpt.scoring import Evaluator
from zcpt.scoring.fast import FastEvaluator
from zcpt.scoring.fast.memory import PackedSigns, _pack, _unpack


@pytest.mark.parametrize("units", [1, 7, 8, 9, 2**14 - 1, 2**14, 2**14 + 1, 2**15 + 12])
def test_packed_signs_unpack_to_the_same_signs(units: Any) -> None:
    generator = torch.Generator().manual_seed(units)
    signs = torch.randint(2, (6, units), dtype=torch.int8, generator=generator)
    assert _pack(signs).shape == (6, (units + 7) // 8)
    assert torch.equal(_unpack(_pack(signs))[:, :units], signs)
    x = torch.randn(6, units, generator=generator)
    packed = PackedSigns(6, 2 * ((units + 7) // 8), x.device)
    for part in (slice(0, 2), slice(2, 4), slice(4, 6)):
        packed.begin_part(len(x[part]))
        packed.record((1, 0), x[part])
        packed.record_signs((0, 2), signs[part])
    kernels = packed.accumulate().compute_kernels()
    assert torch.equal(kernels[0], agreement_kernel(x))
    assert torch.equal(kernels[1], 2 * agreement_kernel(signs))


@pytest.fixture(params=["nasbench201", "proxyless", "toy"])
def wide_supernet(request: pytest.FixtureRequest) -> Any:
    space = zcpt.get_space(request.param)
    torch.manual_seed(0)
    net = space.build_supernet(tiny_network_config(space, channels=16)).eval()
    return net, [draw_mixture(net, seed) for seed in range(2)], make_images(6, 12)


def estimate_strategies(net: Any, mixtures: Any, images: Any) -> Any:
    fast = FastEvaluator(net, NASWOT)
    with torch.no_grad():
        return [needs for _, needs in fast._estimate(fast._list_strategies(mixtures, images), mixtures, images)]


def test_later_strategies_need_less_memory(wide_supernet: Any) -> None:
    needs = estimate_strategies(*wide_supernet)
    assert len(needs) == 5  # all at once, one by one, and 3, 2 or 1 of 6 images
    assert needs == sorted(needs, reverse=True)
    assert needs[0] > needs[-1]


def test_a_limit_selects_a_strategy_within_it_that_gives_the_same_kernels(wide_supernet: Any) -> None:
    net, mixtures, images = wide_supernet
    needs = estimate_strategies(*wide_supernet)
    expected = compute_fast_kernels(net, images, mixtures)
    for limit in {needs[1], needs[3] + 1, needs[-1]}:
        fast = FastEvaluator(net, NASWOT, max_memory=limit)
        with torch.no_grad():
            assert fast.estimate_memory(mixtures, images) == max(need for need in needs if need <= limit)
        for kernel, other in zip(compute_fast_kernels(net, images, mixtures, max_memory=limit), expected, strict=True):
            # In the long chain of 'proxyless', a unit whose sign is rounded differently changes later ones.
            assert_same_kernel(kernel, other, share=1e-5 if len(net.choices) == 21 else 1e-6)


def test_too_little_memory_is_refused_and_the_least_that_the_message_names_is_enough(wide_supernet: Any) -> None:
    net, mixtures, images = wide_supernet
    batch = Batch(images, torch.arange(len(images)))
    least = min(estimate_strategies(*wide_supernet))
    for call in ("score_mixtures", "estimate_memory"):
        with pytest.raises(
            ConfigError, match=rf"^--max-memory \S+ is too little: .* {len(images)} images needs"
        ) as error:
            getattr(Evaluator(net, NASWOT, max_memory=least - 1), call)(mixtures, batch)
        match = re.search(r"needs (\S+) bytes", str(error.value))
        assert match
        named = parse_number(match[1])
        assert least <= named <= 1.01 * least
        enough = Evaluator(net, NASWOT, max_memory=named)
        assert (enough.estimate_memory(mixtures, batch) or 0) <= named
        assert enough.score_mixtures(mixtures, batch).isfinite().all()
