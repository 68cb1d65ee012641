"""Values of the authors' own code, layer by layer, and formulas computed in another way."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import zcpt
from tests.zcpt.proxies import appendix
from zcpt import Batch, ProxyError
from zcpt.proxies import LayerProxy
from zcpt.proxies.jacobian import compute_jacobian
from zcpt.proxies.synflow import compute_flow

NETWORK_SCORES = {
    "grad_norm": 0.3124641,
    "snip": 0.6441711,
    "grasp": -0.0069550,
    "fisher": 0.0317735,
    "plain": 0.0933735,
    "synflow": 2010.975165,
    "synflow_bn": 6.147207,
    "logsynflow": 289.509939,
    "jacob_cov": -11.587979,
    "l2_norm": 10.134573,
    "naswot": 37.511398,
    "naswot-batch": 37.583146,
    "naswot-official": 37.511398,
    "lnwot": 34.942856 + 27.083534,
    "snr_synflow": 636.701623,
    "snr_snip": 360.573105,
    "tcet_synflow": 347.228272,
    "tcet_snip": 311.043927,
    "epe_nas": 7.917479,
    "params": 385,
    # Two convolutions with 8x8 and 4x4 outputs, and the linear layer.
    "macs": 4 * 27 * 64 + 6 * 36 * 16 + 30,
}
LAYER_SCORES = {
    "grad_norm": (0.0574052, 0.0540064, 0.2010526),
    "snip": (0.1542622, 0.1611588, 0.3287501),
    "grasp": (0.0032954, 0.0029165, -0.0131669),
    "fisher": (0.0064531, 0.0146215, 0.0106990),
    "plain": (0, 0, 0.0933732),  # the loss does not depend on the scale of what a BatchNorm follows
    "synflow": (670.124218, 670.124218, 670.726728),
    "synflow_bn": (0.0021289, 1.0426086, 5.1024696),
    "logsynflow": (103.576742, 139.121867, 46.811330),
    "lnwot": (34.942856, 27.083534, 0),
    "snr_synflow": (218.402793, 354.691203, 63.607627),
    "snr_snip": (112.825676, 218.631058, 29.116371),
    "tcet_synflow": (188.214138, 159.014134, 0),
    "tcet_snip": (165.134483, 145.909443, 0),
}


def get_layer_proxy(name: str) -> LayerProxy:
    proxy = zcpt.get_proxy(name)
    assert isinstance(proxy, LayerProxy)
    return proxy


def get_weight(net: nn.Module, layer: str) -> nn.Parameter:
    return net.get_parameter(f"{layer}.weight")


def test_every_proxy_of_the_appendix_is_compared() -> None:
    assert set(NETWORK_SCORES) == set(appendix.SEEDS)


def test_network_and_batch_are_the_ones_of_the_measurement() -> None:
    net, batch = appendix.network(), appendix.batch()
    weight = get_weight(net, appendix.CONV1).flatten()[:4]
    assert weight.tolist() == pytest.approx([0.099335, 0.498747, 0.167494, -0.409139], abs=1e-6)
    assert batch.images.flatten()[:4].tolist() == pytest.approx([1, 0.937827, 0.749468, 0.461159], abs=1e-6)
    assert sum(p.numel() for p in net.parameters()) == 385
    assert sum(get_weight(net, layer).numel() for layer in appendix.LAYERS) == 354
    assert F.cross_entropy(net(batch.images), batch.labels).item() == pytest.approx(1.673104, abs=1e-6)


@pytest.mark.parametrize("name", NETWORK_SCORES)
def test_network_scores(name: str) -> None:
    score = zcpt.score(appendix.network(), appendix.batch(), name)
    assert score == {name: pytest.approx(NETWORK_SCORES[name], rel=1e-4)}


@pytest.mark.parametrize("name", LAYER_SCORES)
def test_layer_scores(name: str) -> None:
    proxy, net = get_layer_proxy(name), appendix.network().eval()
    with torch.no_grad():
        layers = proxy.score_layers(net, appendix.batch())
    assert tuple(layers) == appendix.LAYERS
    assert tuple(layers.values()) == pytest.approx(LAYER_SCORES[name], rel=1e-4, abs=1e-6)


def test_in_float64_the_scores_of_gradients_are_the_same() -> None:
    for name in ("grad_norm", "snip", "grasp", "fisher", "plain", "jacob_cov"):
        score = zcpt.score(appendix.network(torch.float64), appendix.batch(dtype=torch.float64), name)
        assert score == {name: pytest.approx(NETWORK_SCORES[name], rel=1e-4)}


def test_flow_is_conserved_through_layers_without_biases() -> None:
    """The sum of every layer is the sum of the outputs, also with branches and joins."""

    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, bias=False)
            self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
            self.norm = nn.BatchNorm2d(8)
            self.pool = nn.MaxPool2d(2)
            self.head = nn.Linear(8, 4, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.stem(x))
            x = self.pool(self.norm(self.depthwise(x)))
            return self.head(x.mean((2, 3)))

    torch.manual_seed(0)
    net, images = Branching().eval(), torch.randn(2, 3, 8, 8)
    layers = get_layer_proxy("synflow").score_layers(net, Batch(images, torch.zeros(2)))
    with torch.no_grad():
        absolute = {name: p.abs().double() for name, p in net.named_parameters()}
        x = F.conv2d(torch.ones(1, 3, 8, 8, dtype=torch.float64), absolute["stem.weight"])
        x = F.max_pool2d(F.conv2d(x, absolute["depthwise.weight"], padding=1, groups=8), 2)
        total = (x.mean((2, 3)) @ absolute["head.weight"].T).sum().item()
    assert list(layers.values()) == pytest.approx([total] * 3, rel=1e-12)


def test_synflow_is_computed_in_float64_and_does_not_depend_on_the_images() -> None:
    net, batch = appendix.network(), appendix.batch()
    other = Batch(torch.randn_like(batch.images), batch.labels)
    names = ("synflow", "synflow_bn", "logsynflow", "snr_synflow")
    assert zcpt.score(net, batch, names) == zcpt.score(net, other, names)
    (weight, slope), *_ = compute_flow(zcpt.get_proxy("synflow"), net, batch.images, None, "bypassed").values()
    assert weight.dtype == slope.dtype == torch.float64
    assert bool((weight >= 0).all())


def build_deep(layers: int, scale: float) -> nn.Sequential:
    """Build linear layers whose flow grows with their number."""
    chain = [nn.Linear(10, 10, bias=False) for _ in range(layers)]
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 10, bias=False), *chain)
    for p in net.parameters():
        p.data.fill_(scale)
    return net


def test_a_flow_beyond_float64_is_refused_and_one_below_is_not() -> None:
    batch = Batch(torch.randn(4, 3, 2, 2), torch.arange(4))
    scores = zcpt.score(build_deep(10, 1e20), batch, ["synflow", "snr_synflow", "logsynflow"])
    assert scores["synflow"] == pytest.approx(11 * 12 * 10**11 * 1e220, rel=1e-6)
    assert all(math.isfinite(value) for value in scores.values())
    for name in ("synflow", "snr_synflow", "logsynflow"):
        with pytest.raises(ProxyError, match=f"of proxy '{name}' exceeds float64 .* fewer layers"):
            zcpt.score(build_deep(12, 1e30), batch, name)


def test_weights_that_are_not_finite_score_nan() -> None:
    net = appendix.network()
    net.get_parameter("3.weight").data[0, 0, 0, 0] = math.nan
    for name in set(NETWORK_SCORES) - {"params", "macs", "naswot-official", "lnwot"}:
        value = zcpt.score(net, appendix.batch(), name)[name]
        assert math.isnan(value), f"{name} {value}"


def test_grasp_is_the_change_of_the_gradient_norm_when_weights_shrink() -> None:
    """-W H g is minus half the derivative of |g|^2 by the scale of W: here by central differences, in float64."""
    net, batch = appendix.network(torch.float64), appendix.batch(dtype=torch.float64)
    score = zcpt.score(net, batch, "grasp")["grasp"]

    def squared_norm(scale: float) -> float:
        scaled = appendix.network(torch.float64)
        weights = [get_weight(scaled, layer) for layer in appendix.LAYERS]
        for weight in weights:
            weight.data.mul_(scale)
        loss = F.cross_entropy(scaled(batch.images), batch.labels)
        return sum(g.square().sum().item() for g in torch.autograd.grad(loss, weights))

    assert score == pytest.approx(-(squared_norm(1 + 1e-5) - squared_norm(1 - 1e-5)) / 4e-5, rel=1e-6)


def test_fisher_is_the_squared_derivative_by_gates_on_the_channels() -> None:
    """The network runs a layer twice, a linear layer on positions, and grouped convolutions."""

    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, padding=1)
            self.twice = nn.Conv2d(4, 4, 3, padding=1, groups=2)
            self.norm = nn.BatchNorm2d(4)
            self.tokens = nn.Linear(4, 6)
            self.head = nn.Linear(6, 5)

        def forward(self, x: Tensor, gates: dict[str, Tensor] | None = None) -> Tensor:
            def gate(name: str, x: Tensor) -> Tensor:
                return x if gates is None else x * gates[name]

            x = gate("stem", self.stem(x)).relu_()
            x = self.norm(gate("twice", self.twice(F.relu(gate("twice", self.twice(x))))))
            x = gate("tokens", self.tokens(x.flatten(2).transpose(1, 2)))
            return gate("head", self.head(x.mean(1)))

    torch.manual_seed(0)
    net, batch = Gated().double(), appendix.batch(dtype=torch.float64)
    shapes = {"stem": (8, 4, 1, 1), "twice": (8, 4, 1, 1), "tokens": (8, 1, 6), "head": (8, 5)}
    gates = {name: torch.ones(shape, dtype=torch.float64, requires_grad=True) for name, shape in shapes.items()}
    gradients = torch.autograd.grad(F.cross_entropy(net(batch.images, gates), batch.labels), list(gates.values()))
    expected = [
        get_weight(net, name)[0].numel() / 2 * gradient.flatten(1).square().mean(0).sum().item()
        for name, gradient in zip(gates, gradients, strict=True)
    ]
    layers = get_layer_proxy("fisher").score_layers(net.eval(), batch)
    assert layers == dict(zip(shapes, map(pytest.approx, expected), strict=True))


def test_jacob_cov_by_the_solver_of_the_published_code() -> None:
    net, batch = appendix.network().eval(), appendix.batch()
    values = np.linalg.eig(np.corrcoef(compute_jacobian(net, batch.images, None)[0].numpy()))[0]
    expected = -np.sum(np.log(values + 1e-5) + 1 / (values + 1e-5))
    assert zcpt.score(net, batch, "jacob_cov") == {"jacob_cov": pytest.approx(expected, rel=1e-6)}


def test_jacobians_that_do_not_vary_have_no_correlation() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    nn.init.zeros_(net.get_parameter("1.weight"))
    scores = zcpt.score(net, appendix.batch(), ["jacob_cov", "epe_nas"])
    assert all(math.isnan(value) for value in scores.values())


def test_equal_jacobians_make_jacob_cov_a_large_negative_number() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))  # the Jacobian is the same for every image
    value = zcpt.score(linear, appendix.batch(), "jacob_cov")["jacob_cov"]
    assert value == pytest.approx(-7 * (1e5 + math.log(1e-5)), rel=1e-3)


@pytest.mark.parametrize("classes", [100, 101])
def test_epe_nas_class_by_class(classes: int) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, classes)).eval()
    batch = Batch(torch.randn(8, 3, 8, 8), torch.tensor([7, 7, 3, 3, 3, 50, 7, 99]))
    slopes, _ = compute_jacobian(net, batch.images, None)
    sums = {}
    for label in (7, 3, 50, 99):
        rows = slopes.numpy()[batch.labels.numpy() == label]
        correlation = np.atleast_2d(np.corrcoef(rows))
        sums[label] = np.log(np.abs(correlation) + 1e-5).sum() / (1 if classes == 100 else len(rows))
    apart = 2 * abs(sums[7] - sums[3]) / 2  # of many classes those of one image do not count
    expected = sum(map(abs, sums.values())) if classes == 100 else apart
    assert zcpt.score(net, batch, "epe_nas")["epe_nas"] == pytest.approx(expected, rel=1e-6)


def test_epe_nas_needs_two_images_of_a_class() -> None:
    batch = appendix.batch()
    with pytest.raises(ProxyError, match="no two of the 5 images share a label: use a larger batch"):
        zcpt.score(appendix.network(), (batch.images[:5], batch.labels[:5]), "epe_nas")


def test_tcet_matches_layers_by_name() -> None:
    class Backwards(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[0](self[1](x).relu()).flatten(1)

    torch.manual_seed(0)
    net, batch = Backwards(nn.Conv2d(8, 4, 3), nn.Conv2d(3, 8, 3)).eval(), appendix.batch()
    ratios, terms, both = (
        get_layer_proxy(n).score_layers(net, batch) for n in ("snr_synflow", "lnwot", "tcet_synflow")
    )
    assert list(terms) == ["0", "1"]
    assert both == {name: pytest.approx(math.log(ratios[name]) * terms[name]) for name in "01"}


def test_ratios_do_not_depend_on_the_scale_of_a_layer() -> None:
    net, batch = appendix.network(), appendix.batch()
    before = zcpt.score(net, batch, "snr_synflow")["snr_synflow"]
    net.get_parameter("0.weight").data.mul_(1e9)
    net.get_parameter("3.bias").data.mul_(1e9)
    net.get_parameter("8.weight").data.mul_(1e-20)
    assert zcpt.score(net, batch, "snr_synflow")["snr_synflow"] == pytest.approx(before, rel=1e-6)


def test_lnwot_is_zero_where_nothing_is_positive_or_images_look_alike() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 40), nn.ReLU(), nn.Linear(40, 5))
    net.get_parameter("1.weight").data.fill_(0)
    net.get_parameter("1.bias").data.fill_(-1)
    assert get_layer_proxy("lnwot").score_layers(net.eval(), appendix.batch()) == {"1": 0.0, "3": 0.0}


def test_macs_of_attention_are_counted() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 16, 2, 2)
            self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
            self.head = nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.embed(x).flatten(2).transpose(1, 2)
            return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))

    tokens, width = 16, 16
    expected = tokens * width * 12 + tokens * width * width * 4 + 2 * tokens * tokens * width + 5 * width
    assert zcpt.score(Attention(), appendix.batch(), "macs") == {"macs": expected}
