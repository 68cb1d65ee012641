"""Networks, mixtures and kernels to compare the fast engine with the plain one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from zcpt import Mixture
from zcpt.proxies import Naswot
from zcpt.scoring.fast import FastEvaluator

FAMILY = ["naswot", "naswot-official"]
NASWOT = Naswot()


def make_images(batch: int = 6, size: int = 8, seed: int = 0) -> Any:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def compute_plain_kernel(net: Any, images: Any, mixture: Any = None, proxy: Any = NASWOT) -> Any:
    with torch.no_grad():
        return proxy.compute_kernel(net.eval(), images.clone(), mixture)


def compute_fast_kernels(net: Any, images: Any, mixtures: Any = (None,), proxy: Any = NASWOT, **options: Any) -> Any:
    with torch.no_grad():
        return FastEvaluator(net.eval(), proxy, **options).compute_kernels(mixtures, images)[0]


def assert_same_kernel(kernel: Any, plain: Any, share: float = 1e-6, one_unit: bool = True) -> None:
    """Assert that at most one in a million counted units differs; of a tiny network, at most one unit of one image.

    A unit close to zero may change its sign by rounding. If several operations read it, it is counted for each of them.
    """
    difference = (kernel - plain).abs()
    assert not difference.diagonal().any()
    images = len(plain)
    if difference.sum() <= share * images * (images - 1) * int(plain[0, 0]):
        return
    assert one_unit
    switched = difference.sum(0).argmax()
    others = [i for i in range(images) if i != switched]
    assert not difference[others][:, others].any()
    assert len(difference[switched, others].unique()) == 1


def draw_mixture(net: Any, seed: Any) -> Any:
    """Draw a mixture of an unfinished search: some choices are decided, some candidates removed."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda top: int(torch.randint(top, (), generator=generator))  # noqa: E731
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        mixture = Mixture.initial(tuple(net.choices.values()), noise=[0, 1e-3, 0.5][draw(3)])
    undecided = draw(len(net.choices)) + 1
    for place, choice in enumerate(net.choices.values()):
        order = torch.randperm(len(choice.candidates), generator=generator).tolist()
        some = [choice.candidates[i] for i in order]
        if place >= undecided:
            mixture = mixture.select(choice.name, some[: choice.keep])
        elif draw(2):
            mixture = mixture.without(choice.name, *some[choice.keep + draw(len(some) - choice.keep + 1) :])
    return mixture


class FunctionNetwork(nn.Module):
    """A network whose forward pass is a function of its modules and the images."""

    def __init__(self, function: Any, **modules: Any) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x: Any) -> Any:
        return self.function(self, x)


def build_head(channels: int = 4) -> Any:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


@pytest.fixture(autouse=True)
def seed_torch() -> None:
    """Make the random numbers of a test independent of the tests before it."""
    torch.manual_seed(0)


def feed_zeros(mixture: Any) -> Any:
    return replace(mixture, feed_zeros=True)
