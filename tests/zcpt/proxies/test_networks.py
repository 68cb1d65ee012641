"""Every proxy on networks in different coding styles, and on those of torchvision and timm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

import zcpt
from tests.zcpt.proxies.appendix import SEEDS
from zcpt import Batch, ProxyError
from zcpt.proxies import LayerProxy

Activation = Callable[[Tensor], Tensor]
LAYERED = [name for name in SEEDS if isinstance(zcpt.get_proxy(name), LayerProxy)]


def make_batch(side: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(torch.randn(4, 3, side, side, generator=generator), torch.tensor([0, 1, 0, 2]))


class Handwritten(nn.Module):
    """A BatchNorm that calls the function itself."""

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.var, training=self.training)


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = build_chain(nn.ReLU)

    def forward(self, x: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(self.inside, x, use_reentrant=False)


class Functional(nn.Module):
    """A convolution, an activation that is a function, and a linear layer."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.conv, self.head, self.activation = nn.Conv2d(3, 6, 3), nn.Linear(6, 5), activation

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.activation(self.conv(x)).mean((2, 3)))


class Twice(nn.Module):
    """A network that runs one layer twice, and another one never."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.again, self.never = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3)
        self.norm, self.relu, self.head = nn.BatchNorm2d(6), nn.ReLU(), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = self.relu(self.norm(self.again(self.relu(self.again(x)))))
        return self.head(x.mean((2, 3)))


def build_chain(
    activation: Callable[[], nn.Module],
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    groups: int = 1,
    first: Sequence[nn.Module] = (),
) -> nn.Sequential:
    return nn.Sequential(
        *first,
        nn.Conv2d(3, 6, 3, bias=False),
        norm(6),
        activation(),
        nn.Conv2d(6, 6, 3, groups=groups),
        norm(6),
        activation(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


STYLES = {
    "relu": lambda: build_chain(nn.ReLU),
    "in place": lambda: build_chain(lambda: nn.ReLU(inplace=True)),
    "functional": lambda: Functional(F.relu),
    "functional in place": lambda: Functional(torch.relu_),
    "twice and never": Twice,
    "no norm": lambda: build_chain(nn.ReLU, lambda channels: nn.Identity()),
    "group norm": lambda: build_chain(nn.ReLU, lambda channels: nn.GroupNorm(2, channels)),
    "grouped": lambda: build_chain(nn.ReLU, groups=2),
    "depthwise": lambda: build_chain(nn.ReLU, groups=6),
    "in place at once": lambda: build_chain(nn.ReLU, first=[nn.ReLU(inplace=True)]),
    "relu6": lambda: build_chain(nn.ReLU6),
    "silu": lambda: build_chain(nn.SiLU),
    "gelu": lambda: build_chain(nn.GELU),
}


def build_style(style: str) -> nn.Module:
    torch.manual_seed(0)
    return STYLES[style]()


def has_no_relu_module(name: str, style: str) -> bool:
    return name.startswith("naswot") and style in ("functional", "functional in place", "silu", "gelu")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", SEEDS)
def test_every_style_of_network_has_a_score(name: str, style: str) -> None:
    net = build_style(style)
    if has_no_relu_module(name, style):
        with pytest.raises(ProxyError, match="no nn.ReLU module ran in"):
            zcpt.score(net, make_batch(), name)
        return
    assert math.isfinite(zcpt.score(net, make_batch(), name)[name])


@pytest.mark.parametrize("name", SEEDS)
def test_the_coding_style_of_a_network_does_not_change_its_score(name: str) -> None:
    """In place or not; through functions or modules; in evaluation or training mode."""
    score = zcpt.score(build_style("relu"), make_batch(), name)
    assert zcpt.score(build_style("in place"), make_batch(), name) == score
    assert zcpt.score(build_style("relu").eval(), make_batch(), name) == score
    if not name.startswith("naswot"):
        torch.manual_seed(0)
        module = zcpt.score(Functional(nn.ReLU()), make_batch(), name)
        assert zcpt.score(build_style("functional in place"), make_batch(), name) == module


@pytest.mark.parametrize("name", LAYERED)
def test_a_layer_that_never_runs_adds_nothing(name: str) -> None:
    proxy = zcpt.get_proxy(name)
    assert isinstance(proxy, LayerProxy)
    layers = proxy.score_layers(build_style("twice and never").eval(), make_batch())
    assert set(layers) - {"never"} == {"stem", "again", "head"}
    if name == "l2_norm":
        assert layers["never"] > 0  # which does not run anything
    else:
        assert layers.get("never", 0) == 0


@pytest.mark.parametrize("name", ["synflow", "logsynflow", "snr_synflow"])
def test_flow_leaves_out_every_kind_of_norm_and_nothing_else(name: str) -> None:
    def score(norm: Callable[[int], nn.Module], activation: Callable[[], nn.Module] = nn.ReLU) -> dict[str, float]:
        torch.manual_seed(0)
        return zcpt.score(build_chain(activation, norm), make_batch(), name)

    plain = score(lambda channels: nn.Identity())
    for norm in (nn.BatchNorm2d, lambda c: nn.GroupNorm(2, c), nn.InstanceNorm2d, lambda c: nn.LocalResponseNorm(2)):
        assert score(norm) == plain
    assert score(nn.BatchNorm2d, nn.ReLU6) == plain  # a limit presumes values that are normalised
    assert score(nn.BatchNorm2d, lambda: nn.ReLU6(inplace=True)) == plain
    assert score(nn.BatchNorm2d, lambda: nn.Hardtanh(0, 1)) != plain
    both = score(lambda channels: timm.layers.BatchNormAct2d(channels, act_layer=nn.SiLU), nn.Identity)
    assert both == score(lambda channels: nn.Identity(), nn.SiLU)


def test_networks_and_batches_that_do_not_fit_are_refused() -> None:
    linear, images = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), make_batch().images
    pairs = torch.nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Unflatten(1, (2, 2)))

    class Several(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    for net, labels, name, said in (
        (linear, torch.tensor([0, 1, 5, 2]), "snip", "labels range from 0 to 5, and the network has 5 classes"),
        (linear, torch.tensor([0, 1, -1, 2]), "snip", "labels range from -1 to 2, .* counted from 0"),
        (linear, torch.rand(4), "fisher", "the labels must be whole numbers"),
        (pairs, make_batch().labels, "grasp", r"needs logits \[B, classes\] .* not \[4, 2, 2\]"),
        (nn.Flatten(), make_batch().labels, "snip", "needs convolutions or linear layers, and Flatten has none"),
        (Several(), make_batch().labels, "jacob_cov", "Several returns tuple instead of logits"),
    ):
        with pytest.raises(zcpt.ZcptError, match=said):
            zcpt.score(net, (images, labels), name)
    with pytest.raises(ProxyError, match="second derivatives, and Sequential has an operation without"):
        zcpt.score(build_chain(nn.Hardsigmoid), make_batch(), "grasp")
    with pytest.raises(ProxyError, match="of a single value, on one image of .*3, 5, 5.*: use larger images"):
        zcpt.score(build_chain(nn.ReLU), make_batch(side=5), "synflow_bn")


MAY_REFUSE = {
    **dict.fromkeys(("naswot", "naswot-official", "naswot-batch"), "no module is an nn.ReLU"),
    "grasp": "hard-sigmoid and the like have no second derivative",
    "synflow_bn": "on one small image some layer has a single position",
}
MAY_BE_NAN = {"jacob_cov", "epe_nas"}
"""Proxies that are nan for networks whose last layer is initialised with zeros: the Jacobian is constant."""
SMALL = {
    "torchvision": ("squeezenet1_1", "vit_b_16"),
    "timm": ("test_vit", "test_byobnet"),
}
LARGE = {
    "torchvision": (
        "resnet18",
        "mobilenet_v3_small",
        "mobilenet_v2",
        "shufflenet_v2_x0_5",
        "mnasnet0_5",
        "efficientnet_b0",
        "regnet_y_400mf",
        "densenet121",
        "swin_t",
        "googlenet",
        "convnext_tiny",
    ),
    "timm": (
        "resnet10t",
        "test_convnext",
        "test_nfnet",
        "test_mambaout",
        "mobilevit_xxs",
        "ghostnet_050",
        "repvgg_a0",
        "mixnet_s",
        "mixer_s32_224",
        "tiny_vit_5m_224",
        "edgenext_xx_small",
    ),
}


def check(source: str, model: str) -> None:
    torch.manual_seed(0)
    create = {"torchvision": torchvision.models.get_model, "timm": timm.create_model}[source]
    sizes = {"img_size": 64} if model.startswith("mixer") else {}
    if model == "vit_b_16":  # not the large one
        net = torchvision.models.VisionTransformer(64, 16, 2, 2, 32, 64, num_classes=5)
    else:
        net = create(model, num_classes=5, **sizes)
    given = make_batch(side=64)
    for name in SEEDS:  # the others: test_field.py
        with suppress(ProxyError):
            value = zcpt.score(net, given, name)[name]
            singular = value == -math.inf and name.startswith("naswot")  # images look alike at every ReLU
            assert math.isfinite(value) or singular or (name in MAY_BE_NAN and math.isnan(value)), name
            continue
        assert name in MAY_REFUSE, name


@pytest.mark.parametrize(("source", "model"), [(source, model) for source in SMALL for model in SMALL[source]])
def test_small_networks_of_torchvision_and_timm(source: str, model: str) -> None:
    check(source, model)


@pytest.mark.slow
@pytest.mark.parametrize(("source", "model"), [(source, model) for source in LARGE for model in LARGE[source]])
def test_networks_of_torchvision_and_timm(source: str, model: str) -> None:
    check(source, model)


@pytest.mark.parametrize("name", ["grad_norm", "naswot-batch", "zico", "synflow_bn", "near"])
def test_norms_that_call_the_function_directly_use_the_statistics_of_the_batch(name: str) -> None:
    def build(norm: Callable[[int], nn.Module]) -> nn.Sequential:
        torch.manual_seed(0)
        return build_chain(nn.ReLU, norm)

    expected = zcpt.score(build(lambda channels: nn.BatchNorm2d(channels, affine=False)), make_batch(), name)
    if name == "near":  # a BatchNorm without weights is not among its modules either
        assert zcpt.score(build(nn.BatchNorm2d), make_batch(), name)[name] > expected[name]
    assert zcpt.score(build(Handwritten), make_batch(), name) == pytest.approx(expected)


@pytest.mark.parametrize(
    "norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm, nn.utils.parametrizations.spectral_norm]
)
def test_computed_weights_are_refused_by_the_name_of_the_layer(norm: Callable[[nn.Module], nn.Module]) -> None:
    net = build_chain(nn.ReLU)
    norm(net[-1])
    last = len(net) - 1
    for name in ("snip", "fisher", "synflow", "zico", "zen", "swap", "lnwot", "l2_norm", "grasp", "gradsign"):
        with pytest.raises(
            ProxyError, match=rf"layer '{last}' computes its weight, as weight_norm.* remove that first"
        ):
            zcpt.score(net, make_batch(), name)
    assert math.isfinite(zcpt.score(net, make_batch(), "naswot-batch")["naswot-batch"])


@pytest.mark.parametrize("name", ["zico", "snip", "synflow", "fisher", "ntk", "az_trainability"])
def test_gradient_checkpointing_is_refused(name: str) -> None:
    with pytest.raises(ProxyError, match="gradient checkpointing, .*: turn that off, such as by net.set_grad_ch"):
        zcpt.score(Checkpointed(), make_batch(), name)
    torch.manual_seed(0)
    checkpointed = Checkpointed()
    assert zcpt.score(checkpointed, make_batch(), "naswot") == zcpt.score(checkpointed.inside, make_batch(), "naswot")
