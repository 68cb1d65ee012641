"""Properties of the proxies that are not in ``appendix.SEEDS``: on any network, and on supernets under mixtures."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import zcpt
from tests.conftest import FEW, tiny_network_config
from zcpt import Batch, Proxy, ProxyError, Supernet
from zcpt.proxies import (
    Expressivity,
    GradSign,
    Knas,
    LinearRegions,
    MeanGradSign,
    Meco,
    Near,
    Ntk,
    OptimisedMeco,
    PaperZico,
    Progressivity,
    RegularisedSwap,
    Swap,
    Trainability,
    Zen,
    Zico,
)

SHORT = [
    Expressivity(),
    Progressivity(),
    Trainability(),
    GradSign(),
    MeanGradSign(),
    Knas(),
    LinearRegions(samples=40, draws=1),
    Meco(),
    OptimisedMeco(),
    Near(),
    Ntk(repeats=1),
    Swap(repeats=1),
    RegularisedSwap(repeats=1),
    Zen(repeats=2),
    Zico(),
    PaperZico(),
]
each = pytest.mark.parametrize("proxy", SHORT, ids=lambda proxy: proxy.name)
READ_RELUS = {"swap", "swap_reg", "linear_regions", "az_expressivity", "az_progressivity", "az_trainability"}
READ_MODULES = {"meco", "meco_opt", "near"}


def make_batch(count: int = 16, size: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(3)
    return Batch(torch.randn(count, 3, size, size, generator=generator), torch.arange(count) % 5, seed=7)


class Small(nn.Module):
    """Two convolutions with the activation ``activate``, and a classifier; ``extra`` never runs."""

    def __init__(
        self,
        activate: nn.Module | None = None,
        norm: bool = True,
        groups: int = 1,
        twice: bool = False,
        extra: bool = False,
        fail: bool = False,
    ) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, 2, 1, groups=groups)
        self.norm1 = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.norm2 = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.activate = activate or nn.ReLU()
        self.again = nn.Conv2d(8, 8, 1) if twice else None
        self.pool, self.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)
        self.extra = nn.Linear(30, 2) if extra else None
        self.fail = fail
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activate(self.norm1(self.conv1(x)))
        x = self.activate(self.norm2(self.conv2(x)))
        if self.again:
            x = self.activate(self.again(self.activate(self.again(x))))
        if self.fail:
            raise ArithmeticError
        return self.classifier(self.pool(x).flatten(1))


class Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def compute_score(
    net: nn.Module, proxy: Proxy, batch: Batch | None = None, mixture: zcpt.Mixture | None = None
) -> float:
    return zcpt.score_mixtures(net, proxy, [mixture], batch or make_batch()).item()


def record_state(net: nn.Module) -> tuple[dict[str, Tensor], list[int], list[Any], list[Any]]:
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in net.modules()]
    flags = [(m.training, "forward" in vars(m)) for m in net.modules()]
    grads = [(p.grad, p.requires_grad) for p in net.parameters()]
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}, hooks, flags, grads


def assert_same(before: tuple[Any, ...], after: tuple[Any, ...]) -> None:
    assert before[1:] == after[1:]
    assert all(torch.equal(tensor, after[0][name]) for name, tensor in before[0].items())


@each
def test_declarations(proxy: Proxy) -> None:
    made = zcpt.get_proxy(proxy.name)
    assert type(made) is type(proxy)
    assert made.paper
    assert made.norms == "batch"
    assert made.depends_on_mixture
    assert len(made.summary) < 110
    assert made.higher_is_better == (proxy.name != "ntk")


@each
def test_scores_are_reproducible_and_the_network_is_unchanged(proxy: Proxy) -> None:
    net = Small().train()
    net.norm1.eval()
    before, state = record_state(net), torch.get_rng_state()
    first = compute_score(net, proxy)
    assert_same(before, record_state(net))
    assert torch.equal(state, torch.get_rng_state())
    torch.randn(5)
    assert compute_score(net, proxy) == first
    assert math.isfinite(first)


@each
def test_the_network_is_unchanged_after_an_exception(proxy: Proxy) -> None:
    net = Small(fail=True).train()
    before = record_state(net)
    with pytest.raises(ProxyError, match="network Small failed") as error:
        compute_score(net, proxy)
    assert isinstance(error.value.__cause__, ArithmeticError)
    assert_same(before, record_state(net))


@each
def test_an_activation_that_works_in_place_or_is_a_function_changes_nothing(proxy: Proxy) -> None:
    expected = compute_score(Small(), proxy)
    assert compute_score(Small(nn.ReLU(inplace=True)), proxy) == expected
    if proxy.name not in READ_MODULES:
        for function in (F.relu, torch.relu_, torch.Tensor.relu):
            assert compute_score(Small(Function(function)), proxy) == expected


@each
def test_a_layer_that_never_runs_changes_nothing(proxy: Proxy) -> None:
    expected = compute_score(Small(), proxy)
    if proxy.name == "gradsign_mean":
        expected *= sum(p.numel() for n, p in Small().named_parameters() if "norm" not in n and "bias" not in n)
        expected /= sum(
            p.numel() for n, p in Small(extra=True).named_parameters() if "norm" not in n and "bias" not in n
        )
    assert compute_score(Small(extra=True), proxy) == pytest.approx(expected, rel=1e-12)


@each
@pytest.mark.parametrize("changes", [{"twice": True}, {"groups": 4}, {"norm": False}], ids=str)
def test_shared_layers_grouped_layers_and_networks_without_norms_are_scored(
    proxy: Proxy, changes: dict[str, Any]
) -> None:
    assert math.isfinite(compute_score(Small(**changes), proxy))


@each
def test_networks_without_relus_are_scored_or_refused(proxy: Proxy) -> None:
    net = Small(nn.GELU())
    if proxy.name in READ_RELUS:
        with pytest.raises(ProxyError, match=f"proxy '{proxy.name}' .*ReLU"):
            compute_score(net, proxy)
    else:
        assert math.isfinite(compute_score(net, proxy))


@each
def test_too_few_images_are_refused(proxy: Proxy) -> None:
    if proxy.min_batch > 1:
        with pytest.raises(ProxyError, match="use a batch size of at least"):
            compute_score(Small(), proxy, make_batch(proxy.min_batch - 1))


NEED_MAPS = READ_RELUS | {"zen"}
"""Proxies that refuse networks without feature maps, such as vision transformers."""
REFUSING = {
    "torchvision/vit": NEED_MAPS | {"meco", "meco_opt"},  # which make images of another size
    "timm/test_vit": NEED_MAPS,
    "timm/test_byobnet": {"gradsign", "gradsign_mean"},  # its last maps have one pixel
}


def build_published(name: str) -> nn.Module:
    source, model = name.split("/")
    if model == "vit":
        return torchvision.models.VisionTransformer(32, 16, 1, 2, 32, 64, num_classes=5)
    make = timm.create_model if source == "timm" else torchvision.models.get_model
    return make(model, num_classes=5)


def check_published(name: str, refusing: Collection[str], size: int) -> None:
    torch.manual_seed(0)
    net, batch = build_published(name), make_batch(8, size)
    for proxy in SHORT:
        if proxy.name in refusing:
            with pytest.raises(ProxyError):
                compute_score(net, proxy, batch)
        else:
            assert not math.isnan(compute_score(net, proxy, batch)), proxy.name


@pytest.mark.parametrize("name", REFUSING)
def test_published_networks_are_scored_or_refused(name: str) -> None:
    check_published(name, REFUSING[name], 32)


DEGENERATE = {
    ("gradsign", "darts"): "leaves nothing of one",
    ("gradsign", "nasbench1shot1-1"): "leaves nothing of one",
    ("gradsign", "nasbench-macro"): "statistics of a single value",
    ("gradsign", "proxyless"): "statistics of a single value",
}


VARIANTS = {"az_progressivity", "gradsign_mean", "meco_opt", "swap_reg", "zico_paper"}
"""Proxies so similar to others that one supernet is enough."""
Decided = dict[str, tuple[Supernet, zcpt.Mixture, zcpt.Mixture]]
FAMILIES = ["darts", "nasbench201", "nasbench-macro", "proxyless", "nasbench1shot1-1"]


@pytest.fixture(scope="module")
def decided_supernets() -> Decided:
    """Build tiny supernets, with two mixtures that decide all choices but the first: with and without a candidate."""
    made: Decided = {}
    for name in FAMILIES:
        space = zcpt.get_space(name)
        net = space.build_supernet(tiny_network_config(space))
        first, *others = space.choices
        mixture = net.initial_mixture()
        for choice in others:
            kept = ["nor_conv_1x1"] if name == "nasbench201" else choice.selectable[-choice.keep :]
            mixture = mixture.select(choice.name, kept)
        candidate = next(candidate for candidate in first.candidates if "conv" in candidate or "mb_" in candidate)
        made[name] = net, mixture, mixture.without(first.name, candidate)
    return made


@each
@pytest.mark.parametrize(
    "family", [name if name in FEW else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_a_removed_candidate_changes_the_score_of_a_supernet(
    proxy: Proxy, family: str, decided_supernets: Decided
) -> None:
    if proxy.name in VARIANTS and family != "nasbench201":
        return
    net, start, removed = decided_supernets[family]
    batch = make_batch(4 if proxy.name == "ntk" else 16)
    before = record_state(net)
    if (proxy.name, family) in DEGENERATE:
        with pytest.raises(ProxyError, match=DEGENERATE[proxy.name, family]):
            zcpt.score_mixtures(net, proxy, [start], batch)
    elif proxy.name == "ntk" and family in ("darts", "nasbench1shot1-1"):
        assert compute_score(net, proxy, batch, start) == math.inf  # see Ntk
    elif proxy.name != "linear_regions":  # it is for networks of one channel
        with_it, without_it = zcpt.score_mixtures(net, proxy, [start, removed], batch).tolist()
        assert math.isfinite(with_it)
        assert with_it != without_it
        if family == "nasbench201":
            assert compute_score(net, proxy, batch, start) == with_it
    assert_same(before, record_state(net))
