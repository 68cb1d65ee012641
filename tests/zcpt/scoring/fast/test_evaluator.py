"""The fast evaluator: the kernels and errors of the plain one, within the available memory."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zcpt
from tests.conftest import random_architecture, tiny_network_config
from tests.zcpt.scoring.fast.conftest import (
    FAMILY,
    NASWOT,
    FunctionNetwork,
    assert_same_kernel,
    build_head,
    compute_fast_kernels,
    compute_plain_kernel,
    draw_mixture,
    feed_zeros,
    make_images,
)
from zcpt import Choice, ProxyError, Supernet
from zcpt.proxies.naswot import log_determinant
from zcpt.scoring.fast import FastEvaluator
from zcpt.scoring.fast.evaluator import MemoryStrategy
from zcpt.scoring.fast.operations import Convolution, OpaqueModule
from zcpt.space import SearchSpace
from zcpt.supernet import Stochastic


def seed_modules(net: Any) -> Any:
    for module in net.modules():
        if isinstance(module, Stochastic):
            module.seed = 3
    return net


def build_small_supernet() -> Any:
    """Build a supernet with one edge behind a convolution; one candidate of the edge has no ReLU."""
    net = Supernet([Choice("edge", ("identity", "relu"))])
    x = net.fixed("stem", nn.Conv2d(3, 4, 3), net.IMAGES)
    x = net.mixed("middle", "edge", {"identity": nn.Identity(), "relu": nn.ReLU()}, x)
    net.fixed("head", build_head(), x)
    return net.eval()


def test_a_network_in_which_no_relu_runs_is_refused() -> None:
    def skip_relu(net: Any, x: Any) -> Any:
        return net.head(x if x.sum() < 1e9 else net.relu(x))

    for net in (
        nn.Sequential(nn.Conv2d(3, 3, 1), build_head(3)),
        FunctionNetwork(skip_relu, relu=nn.ReLU(), head=build_head(3)),
    ):
        with pytest.raises(ProxyError, match="no nn.ReLU module ran in"):
            compute_fast_kernels(net, make_images())
    net = build_small_supernet()
    without = net.initial_mixture().without("edge", "relu")
    for mixtures in ([without], [net.initial_mixture(), without]):
        with pytest.raises(ProxyError, match="no nn.ReLU module ran in Supernet"):
            compute_fast_kernels(net, make_images(), mixtures)


def limit_convolutions(monkeypatch: pytest.MonkeyPatch, error: Any, largest: Any) -> None:
    """Make convolutions of more than ``largest`` images raise the error."""
    convolve = Convolution.__call__

    def limited(self: Any, *sources: Any) -> Any:
        if len(sources[0]) > largest:
            raise error
        return convolve(self, *sources)

    monkeypatch.setattr(Convolution, "__call__", limited)
    monkeypatch.setattr("zcpt.scoring.fast.graph._CACHE_BYTES", 2**40)  # large enough for all images at a time


ERRORS = [
    RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:128] data. DefaultCPUAllocator: not enough memory: you tried to"),
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
]


@pytest.mark.parametrize("error", ERRORS, ids=["refused", "not enough", "cuda"])
def test_out_of_memory_continues_with_a_smaller_strategy_and_the_same_kernels(
    error: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    net = build_small_supernet()
    mixtures = [net.initial_mixture(), net.initial_mixture().without("edge", "identity")]
    expected = {size: compute_fast_kernels(net, make_images(size), mixtures) for size in (6, 7, 12)}
    limit_convolutions(monkeypatch, error, largest=3)
    fast = FastEvaluator(net, NASWOT)
    with torch.no_grad(), caplog.at_level(logging.WARNING):
        for size, share in ((6, "3 of 6"), (12, "3 of 12"), (7, "1 of 7")):
            for seed in range(2):
                caplog.clear()
                kernels = fast.compute_kernels(mixtures, make_images(size))[0]
                assert all(torch.equal(one, other) for one, other in zip(kernels, expected[size], strict=True))
                messages = [record.message for record in caplog.records]
                # Only the first call warns: the second starts with the strategy that was found.
                assert not messages if seed else f"continuing with one mixture and {share} images" in messages[-1]


def test_other_errors_and_running_out_of_memory_with_the_last_strategy_are_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = build_small_supernet()
    limit_convolutions(monkeypatch, RuntimeError("something else"), largest=3)
    with pytest.raises(RuntimeError, match="something else"):
        compute_fast_kernels(net, make_images())
    monkeypatch.undo()
    limit_convolutions(monkeypatch, ERRORS[0], largest=0)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="can't allocate memory"):
            compute_fast_kernels(net, make_images())


def test_the_kernel_of_a_batch_in_parts_is_complete_if_an_output_is_not_finite() -> None:
    net, images = build_small_supernet(), make_images()
    images[0] = torch.inf
    (kernel,), (finite,) = compute_kernels_with(MemoryStrategy(False, 2), net, images)
    assert not finite
    assert_same_kernel(kernel, compute_plain_kernel(net, images, net.initial_mixture()), share=0)


def compute_kernels_with(strategy: Any, net: Any, images: Any, mixtures: Any = None, proxy: Any = NASWOT) -> Any:
    fast = FastEvaluator(net, proxy)
    with torch.no_grad():
        adapted = [fast._adapt_mixture(mixture) for mixture in mixtures or [None]]
        return fast._compute_with(strategy, adapted, images)


def test_no_mixtures_give_no_scores() -> None:
    net = build_small_supernet()
    assert zcpt.score_mixtures(net, NASWOT, [], zcpt.Batch(make_images(), torch.arange(6))).shape == (0,)
    assert zcpt.scoring.Evaluator(net, NASWOT).estimate_memory([], zcpt.Batch(make_images(), torch.arange(6))) == 0


@pytest.mark.parametrize("proxy", FAMILY)
def test_kernels_of_any_mixtures_equal_those_of_the_plain_engine(space: SearchSpace, proxy: Any) -> None:
    proxy = zcpt.get_proxy(proxy)
    net = space.build_supernet(tiny_network_config(space)).eval()
    seed_modules(net)
    mixtures = [draw_mixture(net, seed) for seed in range(3)]
    kernels = compute_fast_kernels(net, make_images(), mixtures, proxy)
    for mixture, kernel in zip(mixtures, kernels, strict=True):
        plain = compute_plain_kernel(net, make_images(), mixture, proxy)
        assert_same_kernel(kernel, plain)
        one, other = log_determinant(kernel), log_determinant(plain)
        assert one == other or abs(one - other) <= 1e-3


@pytest.mark.few_spaces
def test_kernels_do_not_depend_on_the_order_or_number_of_mixtures_or_on_shared_work(space: SearchSpace) -> None:
    net = space.build_supernet(tiny_network_config(space)).eval()
    seed_modules(net)
    choice = space.choices[len(space.choices) // 2]
    removed = [net.initial_mixture().without(choice.name, candidate) for candidate in choice.candidates]
    mixtures = [*removed, feed_zeros(removed[0]), draw_mixture(net, 1)]
    together = compute_fast_kernels(net, make_images(), mixtures)
    backwards = compute_fast_kernels(net, make_images(), mixtures[::-1])[::-1]
    alone = [compute_fast_kernels(net, make_images(), [mixture])[0] for mixture in mixtures[-3:]]
    apart = compute_kernels_with(MemoryStrategy(False, 6), net, make_images(), mixtures)[0]
    for kernels in (backwards, apart):
        assert all(torch.equal(one, other) for one, other in zip(together, kernels, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(together[-3:], alone, strict=True))


@pytest.mark.few_spaces
def test_a_batch_in_parts_gives_the_same_kernels(space: SearchSpace) -> None:
    net = space.build_supernet(tiny_network_config(space)).eval()
    mixtures = [draw_mixture(net, seed) for seed in range(2)]
    (graph,) = trace_graphs(net, make_images(), mixtures)
    if not graph.is_per_image:
        assert any(isinstance(module, Stochastic) for module in net.modules())
        return
    whole = compute_fast_kernels(net, make_images(), mixtures)
    for part in (1, 2, 3):
        for kernel, other in zip(
            compute_kernels_with(MemoryStrategy(False, part), net, make_images(), mixtures)[0], whole, strict=True
        ):
            assert_same_kernel(kernel, other)


def trace_graphs(net: Any, images: Any, mixtures: Any = (None,), proxy: Any = NASWOT) -> Any:
    fast = FastEvaluator(net.eval(), proxy)
    with torch.no_grad():
        fast.compute_kernels(mixtures, images)
    return [planner.graph for planner in fast._planners.values()]


def test_relus_inside_and_behind_an_opaque_module_are_counted() -> None:
    class Noisy(Stochastic):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(self.relu(x + self.normal_like(x)))

    net = Supernet([Choice("edge", ("identity", "relu"))])
    x = net.fixed("stem", nn.Conv2d(3, 4, 3), net.IMAGES)
    x = net.fixed("opaque", Noisy(), x)
    x = net.fixed("behind", nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1)), x)
    x = net.mixed("middle", "edge", {"identity": nn.Identity(), "relu": nn.ReLU()}, x)
    net.fixed("head", build_head(), x)
    seed_modules(net.eval())
    for mixture in (net.initial_mixture(), net.initial_mixture().without("edge", "relu")):
        (kernel,) = compute_fast_kernels(net, make_images(), [mixture])
        assert_same_kernel(kernel, compute_plain_kernel(net, make_images(), mixture), share=0)


@pytest.mark.parametrize("proxy", FAMILY)
def test_kernels_of_discrete_networks_equal_those_of_the_plain_engine(space: SearchSpace, proxy: Any) -> None:
    proxy = zcpt.get_proxy(proxy)
    network = seed_modules(space.build_network(random_architecture(space, 1), tiny_network_config(space)))
    (kernel,) = compute_fast_kernels(network, make_images(), proxy=proxy)
    assert_same_kernel(kernel, compute_plain_kernel(network, make_images(), proxy=proxy))


def test_only_modules_that_draw_random_numbers_are_opaque(space: SearchSpace) -> None:
    for net in (space.build_supernet(tiny_network_config(space)), *build_networks_without_noise(space)):
        for graph in trace_graphs(net, make_images()):
            for value in graph.values:
                if isinstance(value.op, OpaqueModule):
                    assert any(isinstance(module, Stochastic) for module in value.op.module.modules())


def build_networks_without_noise(space: SearchSpace) -> Any:
    return [space.build_network(random_architecture(space, 2, without="noise"), tiny_network_config(space))]


def test_any_module_may_be_fed_zeros() -> None:
    class NoisyRelu(Stochastic):
        def __init__(self, noise: Any) -> None:
            super().__init__()
            self.relu, self.noise = nn.ReLU(), noise

        def forward(self, x: Any, blocked: bool = False) -> Any:
            x = x * (0 if blocked else 1)
            if x.abs().max() > 100:
                raise OverflowError
            return self.relu(x + self.noise * self.normal_like(x))

    for noise in (0, 1):
        net = Supernet([Choice("edge", ("noisy", "relu"))])
        x = net.fixed("stem", nn.Conv2d(3, 4, 3), net.IMAGES)
        noisy = NoisyRelu(noise)
        noisy.seed = 3
        x = net.mixed("middle", "edge", {"noisy": noisy, "relu": nn.ReLU()}, x, fed_zeros=[0])
        net.fixed("head", build_head(), x)
        net.eval()
        for mixture in map(feed_zeros, (net.initial_mixture(), net.initial_mixture().without("edge", "noisy"))):
            (kernel,) = compute_fast_kernels(net, make_images(), [mixture])
            assert_same_kernel(kernel, compute_plain_kernel(net, make_images(), mixture), share=0)


def test_shapes_and_types_may_change_from_call_to_call() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.ReLU(), build_head()).eval()
    fast = FastEvaluator(net, NASWOT)
    for images in (make_images(), make_images(4), make_images(4, 9), make_images(4, 9).double(), make_images(seed=1)):
        net.to(images.dtype)
        with torch.no_grad():
            (kernel,), (finite,) = fast.compute_kernels([None], images)
        assert finite
        assert_same_kernel(kernel, compute_plain_kernel(net, images), share=0)


@pytest.mark.parametrize("kind", ["traced", "opaque"])
def test_double_precision_stays_double(kind: str) -> None:
    def run_with_in_place_product(net: Any, x: Any) -> Any:
        x = x.clone().mul_(1)
        return net.head(net.relu(net.conv(x)))

    net: Any = FunctionNetwork(run_with_in_place_product, conv=nn.Conv2d(3, 4, 3), relu=nn.ReLU(), head=build_head())
    net = (net if kind == "opaque" else nn.Sequential(*net.children())).double()
    with torch.no_grad():
        net.get_submodule("conv" if kind == "opaque" else "0").bias.fill_(1e-12)
    assert_same_kernel(
        compute_fast_kernels(net, make_images().double() * 1e-12)[0],
        compute_plain_kernel(net, make_images().double() * 1e-12),
    )


@pytest.mark.few_spaces
@pytest.mark.parametrize("proxy", FAMILY)
@pytest.mark.parametrize("engine", ["plain", "fast"])
def test_bf16_scores_are_close(space: SearchSpace, proxy: Any, engine: Any) -> None:
    net, batch = space.build_supernet(tiny_network_config(space)), zcpt.Batch(make_images(), torch.arange(6))
    score = zcpt.score_mixtures(
        net, zcpt.get_proxy(proxy), [net.initial_mixture()], batch, engine=engine, precision="bf16"
    )
    exact = zcpt.score_mixtures(net, zcpt.get_proxy(proxy), [net.initial_mixture()], batch)
    assert score.isfinite().all()
    assert abs(score / exact - 1) < 0.05


def test_bf16_kernels_of_opaque_modules_are_close() -> None:
    def run_with_in_place_product(net: Any, x: Any) -> Any:
        x = x.clone().mul_(1)
        return net.head(net.relu(net.norm(net.conv(x))))

    net = FunctionNetwork(
        run_with_in_place_product, conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4), relu=nn.ReLU(), head=build_head()
    )
    (kernel,) = compute_fast_kernels(net, make_images(), dtype=torch.bfloat16)
    assert (kernel - compute_plain_kernel(net, make_images())).abs().max() <= 0.02 * int(kernel[0, 0])


def test_outputs_that_are_not_finite_have_no_score() -> None:
    net = build_small_supernet()
    for value in (torch.nan, torch.inf):
        images = make_images()
        images[2, 0, 0, 0] = value
        batch = zcpt.Batch(images, torch.arange(6))
        for engine in ("plain", "fast"):
            assert zcpt.score_mixtures(net, NASWOT, [net.initial_mixture()], batch, engine=engine).isnan().all()
