"""NASWOT against counting by hand, against an independent computation, and against published counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

import zcpt
from tests.conftest import tiny_network_config
from zcpt import Batch, Choice, ProxyError, Supernet
from zcpt.proxies import Naswot, OfficialNaswot, agreement_kernel, log_determinant
from zcpt.scoring.evaluator import seed_stochastic_modules
from zcpt.space import SearchSpace

OWN = Naswot()
OFFICIAL = OfficialNaswot()


def build_pointwise(*rows: list[float]) -> nn.Sequential:
    """Build a ReLU and a 1x1 convolution with these weights."""
    conv = nn.Conv2d(len(rows[0]), len(rows), 1, bias=False)
    conv.weight.data = torch.tensor(rows)[:, :, None, None]
    return nn.Sequential(nn.ReLU(), conv)


def build_hand_example() -> tuple[Supernet, Batch]:
    """Build two channels -> a mix of 'swap' and 'difference' -> a ReLU; on three images of one pixel."""
    net = Supernet([Choice("edge", ("swap", "difference"))])
    candidates = {
        "swap": build_pointwise([0.0, 1.0], [1.0, 0.0]),
        "difference": build_pointwise([1.0, -1.0], [-1.0, 1.0]),
    }
    net.fixed("relu", nn.ReLU(), net.mixed("mix", "edge", candidates, Supernet.IMAGES))
    images = torch.tensor([[3.0, 1.0], [2.0, -1.0], [-1.0, 4.0]])[:, :, None, None]
    return net, Batch(images, torch.zeros(3))


# Signs of the input: (+ +), (+ -), (- +). Images agree in 1, 1 and 0 of the 2 units:
INPUT = np.array([[2, 1, 1], [1, 2, 0], [1, 0, 2]])
# After the ReLU: (3, 1), (2, 0), (0, 4). Half of swap plus half of difference is
# 0.5 (1, 3) + 0.5 (2, -2) = (1.5, 0.5);  0.5 (0, 2) + 0.5 (2, -2) = (1, 0);  0.5 (4, 0) + 0.5 (-4, 4) = (0, 2)
# with the signs (+ +), (+ 0), (0 +), where 0 is 'not positive':
MIX = np.array([[2, 1, 1], [1, 2, 0], [1, 0, 2]])
# Without difference: (0.5, 1.5), (0, 1), (2, 0) with (+ +), (0 +), (+ 0):
SWAP = np.array([[2, 1, 1], [1, 2, 0], [1, 0, 2]])
# Without swap: (1, -1), (1, -1), (-2, 2) with (+ -), (+ -), (- +):
DIFFERENCE = np.array([[2, 2, 0], [2, 2, 0], [0, 0, 2]])


@pytest.mark.parametrize(
    ("removed", "kernel"),
    [
        # Both candidates read the images through a ReLU of their own: the term of the input counts twice.
        ((), 2 * INPUT + MIX),
        (("difference",), INPUT + SWAP),
        (("swap",), INPUT + DIFFERENCE),
    ],
)
def test_a_cell_computed_by_hand(removed: tuple[str, ...], kernel: NDArray[np.int64]) -> None:
    net, batch = build_hand_example()
    mixture = net.initial_mixture().without("edge", *removed)
    assert np.array_equal(OWN.compute_kernel(net, batch.images, mixture).numpy(), kernel)
    (a, b, c), (d, e, f), (g, h, i) = kernel.tolist()
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    assert zcpt.score_mixtures(net, OWN, [mixture], batch).item() == pytest.approx(math.log(determinant), rel=1e-12)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equal_to_an_independent_computation(
    space: SearchSpace, batch: zcpt.Batch, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Collect what goes into F.relu and ReLU6, compare images in numpy, take numpy's determinant."""
    net = space.build_supernet(tiny_network_config(space)).eval()
    net.to(memory_format=layout)  # type: ignore[call-overload]  # torch documents it
    batch = Batch(batch.images.to(memory_format=layout), batch.labels)
    mixture = net.initial_mixture().without(space.choices[0].name, space.choices[0].candidates[1])
    score = zcpt.score_mixtures(net, OWN, [mixture], batch, engine="plain").item()
    seen: list[NDArray[np.float32]] = []
    relu, hardtanh = F.relu, F.hardtanh

    def observe_relu(x: Tensor, inplace: bool = False) -> Tensor:
        seen.append(x.detach().numpy())
        return relu(x)

    def observe_hardtanh(x: Tensor, *limits: Any) -> Tensor:
        seen.append(x.detach().numpy())
        return hardtanh(x, *limits)

    monkeypatch.setattr(F, "relu", observe_relu)
    monkeypatch.setattr(F, "hardtanh", observe_hardtanh)
    with seed_stochastic_modules(net.modules(), batch.seed):
        net(batch.images, mixture)
    kernel = np.zeros((6, 6), dtype=int)
    for x in seen:
        on = x.reshape(6, -1) > 0
        kernel += (on[:, None] == on[None, :]).sum(-1)
    sign, expected = np.linalg.slogdet(kernel.astype(float))
    assert sign == 1
    assert score == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "units", "relus", "composites"), [("nasbench201", 3_518_464, 185, 184), ("darts", 8_634_368, 704, 14)]
)
def test_published_counts_of_the_official_convention(name: str, units: int, relus: int, composites: int) -> None:
    space = zcpt.get_space(name)
    size = space.search_size
    net = space.supernet(channels=size.channels, layers=size.layers).eval()
    names = [type(module).__name__ for module in net.modules()]
    assert names.count("ReLU") == relus
    assert names.count("ReLUConvBN") == composites
    with torch.no_grad():
        kernel = OFFICIAL.compute_kernel(net, torch.randn(2, 3, 32, 32))
    assert kernel.diagonal().tolist() == [units] * 2


@pytest.mark.parametrize(
    ("choice", "changes"),
    [
        pytest.param(
            "normal/node4/edge2",
            {"pool": 0, "skip": 0, "sep": -114_688, "dil": -57_344},
            marks=pytest.mark.slow,
        ),
        ("reduce/node3/edge0", {"pool": 0, "skip": -49_152, "sep": -61_440, "dil": -49_152}),
    ],
)
def test_published_change_of_the_units_when_masking_in_darts(choice: str, changes: dict[str, int]) -> None:
    net = zcpt.get_space("darts").supernet(channels=16, layers=8).eval()
    images, start = torch.randn(2, 3, 32, 32), net.initial_mixture()
    with torch.no_grad():
        before = OFFICIAL.compute_kernel(net, images, start)[0, 0]
        for candidate in net.choices[choice].candidates:
            after = OFFICIAL.compute_kernel(net, images, start.without(choice, candidate))[0, 0]
            assert after - before == next(change for part, change in changes.items() if part in candidate)


def test_official_masking_on_nasbench201_feeds_zeros(batch: zcpt.Batch) -> None:
    space = zcpt.get_space("nasbench201")
    net = space.build_supernet(tiny_network_config(space)).eval()
    start = net.initial_mixture()
    before = OFFICIAL.compute_kernel(net, batch.images, start)
    after = OFFICIAL.compute_kernel(net, batch.images, start.without("node3/edge0", "nor_conv_3x3"))
    assert torch.equal(before.diagonal(), after.diagonal())
    own_before, own_after = (
        OWN.compute_kernel(net, batch.images, m)[0, 0] for m in (start, start.without("node3/edge0", "nor_conv_3x3"))
    )
    units = 4 * 8 * 8 + 8 * 4 * 4 + 16 * 2 * 2  # the operation's own ReLU in the three stages
    assert own_before - own_after == units
    # On all-zero inputs every two images agree in every unit: the composite's term stays, the ReLU's is full.
    removed = start.select("node3/edge0", ("none",))
    difference = OFFICIAL.compute_kernel(net, batch.images, removed) - OFFICIAL.compute_kernel(net, batch.images, start)
    assert torch.equal(difference.diagonal(), torch.zeros(6, dtype=torch.int64))
    with torch.no_grad():
        assert torch.equal(
            net(batch.images, removed), net(batch.images, net.initial_mixture().select("node3/edge0", ("none",)))
        )


@pytest.mark.parametrize("proxy", [OWN, OFFICIAL])
def test_masking_none_leaves_the_kernel_unchanged_on_every_edge(proxy: Naswot, batch: zcpt.Batch) -> None:
    space = zcpt.get_space("nasbench201")
    net = space.build_supernet(tiny_network_config(space)).eval()
    whole = proxy.compute_kernel(net, batch.images, net.initial_mixture())
    for choice in space.choices:
        assert torch.equal(
            proxy.compute_kernel(net, batch.images, net.initial_mixture().without(choice.name, "none")), whole
        )


def test_a_tensor_is_counted_for_each_relu_that_reads_it_and_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[Tensor] = []

    def observe_kernel(x: Tensor) -> Tensor:
        computed.append(x)
        return agreement_kernel(x)

    monkeypatch.setattr("zcpt.proxies.naswot.agreement_kernel", observe_kernel)

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other, self.inplace = nn.ReLU(), nn.ReLU(), nn.ReLU(inplace=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.one(x) + self.other(x) + self.inplace(x.clone())

    x = torch.randn(4, 3, 2, 2)
    kernel = OWN.compute_kernel(Twice(), x)
    assert len(computed) == 2
    assert torch.equal(kernel, 3 * agreement_kernel(x))


def test_a_tensor_that_changed_in_place_is_counted_anew() -> None:
    class Flipping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = x.clone()
            first = self.relu(x)
            x.sub_(1)
            return first + self.relu(x)

    x = torch.randn(5, 7)
    assert torch.equal(OWN.compute_kernel(Flipping(), x), agreement_kernel(x) + agreement_kernel(x - 1))


def test_integer_counts_stay_exact_beyond_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(3, 4, 5, 6)
    whole = agreement_kernel(x)
    monkeypatch.setattr("zcpt.proxies.naswot._EXACT_FLOAT32", 7)
    assert torch.equal(agreement_kernel(x), whole)
    many = torch.ones(2, 2**24 + 3, dtype=torch.int8)
    monkeypatch.undo()
    assert agreement_kernel(many).tolist() == [[2**24 + 3] * 2] * 2


@pytest.mark.parametrize("proxy", [OWN, OFFICIAL])
def test_relu6_counts_as_relu_does(proxy: Naswot) -> None:
    x = torch.randn(5, 3, 4, 4)
    assert torch.equal(proxy.compute_kernel(nn.ReLU6(), 10 * x), proxy.compute_kernel(nn.ReLU(), x))


def test_leaky_relu_does_not_count() -> None:
    assert not OWN.is_counted(nn.LeakyReLU())


def test_a_singular_kernel_scores_minus_infinity() -> None:
    x = torch.randn(5, 3, 8, 8)
    twins = torch.cat([x, x[:1]])  # two equal images: rounding alone would give some finite number
    net = zcpt.get_space("nasbench201").supernet(channels=8, layers=1)
    assert zcpt.score_mixtures(net, OWN, [net.initial_mixture()], Batch(twins, twins)).item() == -math.inf
    assert math.isfinite(zcpt.score_mixtures(net, OWN, [net.initial_mixture()], Batch(x, x)).item())
    assert log_determinant(torch.ones(4, 4, dtype=torch.int64)) == -math.inf


def test_log_determinant_equals_the_exact_integer_determinant() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        kernel = agreement_kernel(torch.randn(4, 50, generator=generator))
        exact = round(float(np.linalg.det(kernel.numpy().astype(np.longdouble).astype(float))))
        assert log_determinant(kernel) == pytest.approx(math.log(exact), abs=1e-9)


def test_a_network_whose_output_is_not_finite_scores_nan(batch: zcpt.Batch) -> None:
    net = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(192, 10))
    net.get_parameter("2.weight").data.fill_(math.inf)
    assert math.isnan(zcpt.score_mixtures(net, OWN, [None], batch).item())


def test_a_network_without_relu_is_refused(batch: zcpt.Batch) -> None:
    with pytest.raises(ProxyError, match="no nn.ReLU module ran in Sequential"):
        zcpt.score_mixtures(nn.Sequential(nn.Flatten(), nn.Linear(192, 10)), OWN, [None], batch)


def test_an_unknown_proxy_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ProxyError, match="unknown proxy 'nazwot': did you mean 'naswot'"):
        zcpt.get_proxy("nazwot")
