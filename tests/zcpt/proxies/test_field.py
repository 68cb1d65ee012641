"""What the proxies that came after the first ones have in common: on any network, and on supernets under mixtures."""

import math

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

import zcpt
from tests.conftest import FEW, tiny_network_config
from zcpt import Batch, ProxyError
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
LOOKS_AT_RELUS = {"swap", "swap_reg", "linear_regions", "az_expressivity", "az_progressivity", "az_trainability"}
LOOKS_AT_MODULES = {"meco", "meco_opt", "near"}


def pictures(count=16, size=8):
    generator = torch.Generator().manual_seed(3)
    return Batch(torch.randn(count, 3, size, size, generator=generator), torch.arange(count) % 5, seed=7)


class Small(nn.Module):
    """Two convolutions, what ``activate`` is between them, and a classifier; ``extra`` never runs."""

    def __init__(self, activate=None, norm=True, groups=1, twice=False, extra=False, fail=False):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, 2, 1, groups=groups)
        self.norm1, self.norm2 = (nn.BatchNorm2d(4), nn.BatchNorm2d(8)) if norm else (nn.Identity(), nn.Identity())
        self.activate = activate or nn.ReLU()
        self.again = nn.Conv2d(8, 8, 1) if twice else None
        self.pool, self.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(8, 5)
        self.extra = nn.Linear(30, 2) if extra else None
        self.fail = fail
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)

    def forward(self, x):
        x = self.activate(self.norm1(self.conv1(x)))
        x = self.activate(self.norm2(self.conv2(x)))
        if self.again:
            x = self.activate(self.again(self.activate(self.again(x))))
        if self.fail:
            raise ArithmeticError
        return self.classifier(self.pool(x).flatten(1))


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def scored(net, proxy, batch=None, mixture=None):
    return zcpt.score_mixtures(net, proxy, [mixture], batch or pictures()).item()


def snapshot(net):
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in net.modules()]
    flags = [(m.training, "forward" in vars(m)) for m in net.modules()]
    grads = [(p.grad, p.requires_grad) for p in net.parameters()]
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}, hooks, flags, grads


def assert_same(before, after):
    assert before[1:] == after[1:]
    assert all(torch.equal(tensor, after[0][name]) for name, tensor in before[0].items())


@each
def test_declares_what_it_is(proxy):
    made = zcpt.get_proxy(proxy.name)
    assert type(made) is type(proxy)
    assert made.paper
    assert made.norms == "batch"
    assert made.depends_on_mixture
    assert len(made.summary) < 110
    assert made.higher_is_better == (proxy.name != "ntk")


@each
def test_same_bits_twice_whatever_was_drawn_before_and_the_network_stays_as_it_was(proxy):
    net = Small().train()
    net.norm1.eval()
    before, state = snapshot(net), torch.get_rng_state()
    first = scored(net, proxy)
    assert_same(before, snapshot(net))
    assert torch.equal(state, torch.get_rng_state())
    torch.randn(5)
    assert scored(net, proxy) == first
    assert math.isfinite(first)


@each
def test_the_network_stays_as_it_was_after_an_exception_too(proxy):
    net = Small(fail=True).train()
    before = snapshot(net)
    with pytest.raises(ArithmeticError):
        scored(net, proxy)
    assert_same(before, snapshot(net))


@each
def test_an_activation_that_works_in_place_or_is_a_function_changes_nothing(proxy):
    expected = scored(Small(), proxy)
    assert scored(Small(nn.ReLU(inplace=True)), proxy) == expected
    if proxy.name not in LOOKS_AT_MODULES:
        for function in (F.relu, torch.relu_, torch.Tensor.relu):
            assert scored(Small(Function(function)), proxy) == expected


@each
def test_a_layer_that_never_runs_changes_nothing(proxy):
    expected = scored(Small(), proxy)
    if proxy.name == "gradsign_mean":
        expected *= sum(p.numel() for n, p in Small().named_parameters() if "norm" not in n and "bias" not in n)
        expected /= sum(
            p.numel() for n, p in Small(extra=True).named_parameters() if "norm" not in n and "bias" not in n
        )
    assert scored(Small(extra=True), proxy) == pytest.approx(expected, rel=1e-12)


@each
@pytest.mark.parametrize("changes", [{"twice": True}, {"groups": 4}, {"norm": False}], ids=str)
def test_layers_used_twice_and_grouped_ones_and_no_norms_work(proxy, changes):
    assert math.isfinite(scored(Small(**changes), proxy))


@each
def test_without_relus_it_works_or_says_why_not(proxy):
    net = Small(nn.GELU())
    if proxy.name in LOOKS_AT_RELUS:
        with pytest.raises(ProxyError, match=f"proxy '{proxy.name}' .*ReLU"):
            scored(net, proxy)
    else:
        assert math.isfinite(scored(net, proxy))


@each
def test_too_few_images_are_refused(proxy):
    if proxy.min_batch > 1:
        with pytest.raises(ProxyError, match="use a batch size of at least"):
            scored(Small(), proxy, pictures(proxy.min_batch - 1))


MAPLESS = LOOKS_AT_RELUS | {"zen"}
"""What is not for networks without feature maps, such as vision transformers."""
REFUSING = {
    "torchvision/vit": MAPLESS | {"meco", "meco_opt"},  # which make images of another size
    "timm/test_vit": MAPLESS,
    "timm/test_byobnet": {"gradsign", "gradsign_mean"},  # its last maps have one pixel
}


def published(name):
    source, model = name.split("/")
    if model == "vit":
        return torchvision.models.VisionTransformer(32, 16, 1, 2, 32, 64, num_classes=5)
    make = timm.create_model if source == "timm" else torchvision.models.get_model
    return make(model, num_classes=5)


def check_published(name, refusing, size):
    torch.manual_seed(0)
    net, batch = published(name), pictures(8, size)
    for proxy in SHORT:
        if proxy.name in refusing:
            with pytest.raises(ProxyError):
                scored(net, proxy, batch)
        else:
            assert not math.isnan(scored(net, proxy, batch)), proxy.name


@pytest.mark.parametrize("name", REFUSING)
def test_networks_of_others_have_a_score_or_are_refused(name):
    check_published(name, REFUSING[name], 32)


DEGENERATE = {
    ("gradsign", "darts"): "leaves nothing of one",
    ("gradsign", "nasbench1shot1-1"): "leaves nothing of one",
    ("gradsign", "nasbench-macro"): "statistics of a single value",
    ("gradsign", "proxyless"): "statistics of a single value",
}


VARIANTS = {"az_progressivity", "gradsign_mean", "meco_opt", "swap_reg", "zico_paper"}
"""What is so much like others that one supernet is enough."""
FAMILIES = ["darts", "nasbench201", "nasbench-macro", "proxyless", "nasbench1shot1-1"]


@pytest.fixture(scope="module")
def decided():
    """Tiny supernets, all but the first choice decided; that one with and without a candidate that has weights."""
    made = {}
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
def test_a_removed_candidate_changes_the_score_of_a_supernet(proxy, family, decided):
    if proxy.name in VARIANTS and family != "nasbench201":
        return
    net, start, removed = decided[family]
    batch = pictures(4 if proxy.name == "ntk" else 16)
    before = snapshot(net)
    if (proxy.name, family) in DEGENERATE:
        with pytest.raises(ProxyError, match=DEGENERATE[proxy.name, family]):
            zcpt.score_mixtures(net, proxy, [start], batch)
    elif proxy.name == "ntk" and family in ("darts", "nasbench1shot1-1"):
        assert scored(net, proxy, batch, start) == math.inf  # see Ntk
    elif proxy.name != "linear_regions":  # it is for networks of one channel
        with_it, without_it = zcpt.score_mixtures(net, proxy, [start, removed], batch).tolist()
        assert math.isfinite(with_it)
        assert with_it != without_it
        if family == "nasbench201":
            assert scored(net, proxy, batch, start) == with_it
    assert_same(before, snapshot(net))
