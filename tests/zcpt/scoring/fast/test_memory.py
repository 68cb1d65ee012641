"""Limited memory: estimates, limits, and signs packed into bits."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

import zcpt
from tests.conftest import tiny_network_config
from tests.zcpt.scoring.fast.conftest import NASWOT, assert_same_kernel, drawn_mixture, fast_kernels, images
from zcpt import Batch, ConfigError
from zcpt.options import parse_number
from zcpt.proxies.naswot import agreement_kernel
from zcpt.scoring import Evaluator
from zcpt.scoring.fast import FastEvaluator
from zcpt.scoring.fast.memory import PackedSigns, _pack, _unpack


@pytest.mark.parametrize("units", [1, 7, 8, 9, 2**14 - 1, 2**14, 2**14 + 1, 2**15 + 12])
def test_packed_signs_are_what_they_were(units: Any) -> None:
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
def wide(request: pytest.FixtureRequest) -> Any:
    space = zcpt.get_space(request.param)
    torch.manual_seed(0)
    net = space.build_supernet(tiny_network_config(space, channels=16)).eval()
    return net, [drawn_mixture(net, seed) for seed in range(2)], images(6, 12)


def estimates(net: Any, mixtures: Any, given: Any) -> Any:
    fast = FastEvaluator(net, NASWOT)
    with torch.no_grad():
        return [needs for _, needs in fast._estimate(fast._list_strategies(mixtures, given), mixtures, given)]


def test_later_strategies_need_less(wide: Any) -> None:
    needs = estimates(*wide)
    assert len(needs) == 5  # all at once, one by one, and 3, 2 or 1 of 6 images
    assert needs == sorted(needs, reverse=True)
    assert needs[0] > needs[-1]


def test_a_limit_picks_a_strategy_within_it_with_the_same_kernels(wide: Any) -> None:
    net, mixtures, given = wide
    needs = estimates(*wide)
    expected = fast_kernels(net, given, mixtures)
    for limit in {needs[1], needs[3] + 1, needs[-1]}:
        fast = FastEvaluator(net, NASWOT, max_memory=limit)
        with torch.no_grad():
            assert fast.estimate_memory(mixtures, given) == max(need for need in needs if need <= limit)
        for kernel, other in zip(fast_kernels(net, given, mixtures, max_memory=limit), expected, strict=True):
            # In the long chain of 'proxyless' a unit next to 0 takes others with it.
            assert_same_kernel(kernel, other, share=1e-5 if len(net.choices) == 21 else 1e-6)


def test_too_little_is_refused_with_the_least_which_is_then_accepted(wide: Any) -> None:
    net, mixtures, given = wide
    batch = Batch(given, torch.arange(len(given)))
    least = min(estimates(*wide))
    for call in ("score_mixtures", "estimate_memory"):
        with pytest.raises(
            ConfigError, match=rf"^--max-memory \S+ is too little: .* {len(given)} images needs"
        ) as error:
            getattr(Evaluator(net, NASWOT, max_memory=least - 1), call)(mixtures, batch)
        found = re.search(r"needs (\S+) bytes", str(error.value))
        assert found
        named = parse_number(found[1])
        assert least <= named <= 1.01 * least
        enough = Evaluator(net, NASWOT, max_memory=named)
        assert (enough.estimate_memory(mixtures, batch) or 0) <= named
        assert enough.score_mixtures(mixtures, batch).isfinite().all()
