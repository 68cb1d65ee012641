"""``zcpt.score`` scores any network by several proxies, and leaves it unchanged."""

from __future__ import annotations

import random
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn

import zcpt
from tests.conftest import tiny_network_config
from tests.zcpt.proxies import appendix
from tests.zcpt.proxies.appendix import SEEDS
from zcpt import Batch, ConfigError, Proxy, ProxyError


class BrokenError(Exception):
    pass


class ImpureNetwork(nn.Module):
    """A network that changes its own state and draws random numbers in every forward pass, and may fail."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.net, self.fails, self.runs = appendix.network(), fails, 0
        self.calls: torch.Tensor
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.runs += 1
        self.calls += 1
        noise = torch.randn(()) + random.random() + np.random.rand()
        if self.fails:
            raise BrokenError
        return self.net(x) * (1 + 0.01 * noise)


def build_network_in_training(fails: bool = False) -> Any:
    """Build a network with gradients, frozen weights, hooks, and a module in evaluation mode."""
    torch.manual_seed(0)
    model = ImpureNetwork()
    model(appendix.batch().images).sum().backward()
    model.fails = fails
    model.net[0].weight.requires_grad_(False)
    model.net[1].eval()
    model.net[2].register_forward_hook(lambda *arguments: None)
    return model


def copy_state(model: Any) -> Any:
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    gradients = {name: p.grad for name, p in model.named_parameters()}
    return {
        "bits": {name: tensor.detach().numpy().tobytes() for name, tensor in tensors.items()},
        "gradients": {
            name: gradient is not None and gradient.numpy().tobytes() for name, gradient in gradients.items()
        },
        "identity": [id(tensor) for tensor in (*tensors.values(), *gradients.values())],
        "requires": [p.requires_grad for p in model.parameters()],
        "flags": [module.training for module in model.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()],
        "attributes": [sorted(vars(module)) for module in model.modules()],
        "runs": model.runs,
        "generators": (torch.get_rng_state().tolist(), random.getstate(), cast(Any, np.random.get_state())[1].tolist()),
    }


@pytest.mark.parametrize("name", SEEDS)
def test_scoring_leaves_a_network_unchanged_bit_for_bit(name: Any) -> None:
    model, batch = build_network_in_training(), appendix.batch()
    before, images = copy_state(model), batch.images.clone()
    zcpt.score(model, batch, name)
    assert copy_state(model) == before
    assert torch.equal(batch.images, images)
    assert not batch.images.requires_grad


@pytest.mark.parametrize("name", SEEDS)
def test_a_network_that_fails_is_left_unchanged(name: Any) -> None:
    model = build_network_in_training(fails=True)
    before = copy_state(model)
    if zcpt.get_proxy(name).norms == "none":
        zcpt.score(model, appendix.batch(), name)  # this proxy does not run the network
    else:
        with pytest.raises(zcpt.ProxyError) as caught:
            zcpt.score(model, appendix.batch(), name)
        assert isinstance(caught.value.__cause__, BrokenError)
    assert copy_state(model) == before


class CarelessProxy(Proxy):
    """Changes the network and the batch, which a proxy must not do, and fails."""

    name, higher_is_better = "careless", True

    def score(self, net: Any, batch: zcpt.Batch, mixture: Any) -> float:
        net.train()
        with torch.enable_grad():
            net.requires_grad_(True)(batch.images.mul_(2)).sum().backward()
        net.net[3].weight.data.zero_()
        net.net[4].forward = lambda x: x
        net.register_forward_hook(lambda *arguments: None)
        raise BrokenError


def test_a_network_is_left_unchanged_if_the_proxy_changes_it_and_fails() -> None:
    model, batch = build_network_in_training(), appendix.batch()
    before = copy_state(model)
    with pytest.raises(ProxyError, match="proxy 'careless' failed on ImpureNetwork: BrokenError") as caught:
        zcpt.score(model, batch, ["snip", CarelessProxy()])
    assert isinstance(caught.value.__cause__, BrokenError)
    assert copy_state(model) == before
    assert torch.equal(batch.images, appendix.batch().images)


def test_scores_are_returned_by_name_and_do_not_depend_on_each_other() -> None:
    net, batch = build_network_in_training(), appendix.batch()
    scores = zcpt.score(net, (batch.images, batch.labels), SEEDS)
    assert tuple(scores) == SEEDS
    for name in ("naswot", "snip", "synflow"):
        assert zcpt.score(net, batch, zcpt.get_proxy(name)) == {name: scores[name]}
    assert zcpt.score(net, cast(Any, list(batch)), ["plain", zcpt.get_proxy("naswot")]).keys() == {"plain", "naswot"}
    assert zcpt.score(net, batch, []) == {}


def test_random_numbers_of_a_network_depend_on_the_seed_of_the_batch() -> None:
    class NoisyNetwork(ImpureNetwork):
        def forward(self, x: Any) -> Any:
            return self.net(x) + 0.1 * torch.randn(1, 5)

    net, batch = NoisyNetwork(), appendix.batch()
    torch.manual_seed(1)
    first = zcpt.score(net, batch, "snip")
    torch.manual_seed(2)
    assert zcpt.score(net, batch, "snip") == first
    assert zcpt.score(net, batch._replace(seed=1), "snip") != first


def test_supernets_are_scored_undecided_or_under_a_mixture(batch: zcpt.Batch) -> None:
    space = zcpt.get_space("nasbench201")
    net = space.build_supernet(tiny_network_config(space))
    without = net.initial_mixture().without(space.choices[0].name, "nor_conv_3x3")
    start = zcpt.score(net, batch, ["naswot", "snip"])
    assert zcpt.score(net, batch, ["naswot", "snip"], net.initial_mixture()) == start
    assert zcpt.score(net, batch, ["naswot", "snip"], without) != start


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (torch.zeros(2, 3, 8, 8), "must be a pair of tensors"),
        ((torch.zeros(2, 3, 8, 8),), "must be a pair of tensors"),
        ((torch.zeros(2, 3, 8, 8), [0, 1]), "must be a pair of tensors"),
        (
            (torch.zeros(2, 3, 8, 8), torch.zeros(3)),
            r"one label for each image, not labels \[3\] for images \[2, 3, 8, 8\]",
        ),
    ],
)
def test_a_wrong_batch_is_refused(batch: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        zcpt.score(appendix.network(), batch, "naswot")


def test_unknown_names_and_single_images_are_refused() -> None:
    with pytest.raises(ProxyError, match="did you mean 'grad_norm'"):
        zcpt.score(appendix.network(), appendix.batch(), "gradnorm")
    images, labels = appendix.batch()[:2]
    for name in SEEDS:
        if zcpt.get_proxy(name).min_batch > 1:
            with pytest.raises(ProxyError, match=f"proxy '{name}' cannot compare networks on 1 image"):
                zcpt.score(appendix.network(), Batch(images[:1], labels[:1]), name)


def test_the_network_inside_a_wrapper_is_scored() -> None:
    plain = zcpt.score(appendix.network(), appendix.batch(), ["naswot", "snip", "near", "meco"])
    wrapped = nn.DataParallel(appendix.network())
    compiled = torch.compile(appendix.network())
    assert zcpt.score(wrapped, appendix.batch(), list(plain)) == plain
    assert zcpt.score(cast(nn.Module, compiled), appendix.batch(), list(plain)) == plain


def test_default_type_and_device_of_the_caller_change_no_score() -> None:
    names = [*SEEDS, "zico", "near", "meco_opt", "az_trainability", "ntk"]
    plain = zcpt.score(appendix.network(), appendix.batch(), names)
    net, batch = appendix.network(), appendix.batch()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert zcpt.score(net, batch, names) == plain
    finally:
        torch.set_default_dtype(torch.float32)


def test_batches_made_in_inference_mode_give_the_same_scores() -> None:
    names = [*SEEDS, "zico"]
    plain = zcpt.score(appendix.network(), appendix.batch(), names)
    with torch.inference_mode():
        batch = Batch(appendix.batch().images.clone(), appendix.batch().labels.clone())
        assert zcpt.score(appendix.network(), batch, names) == plain
    assert zcpt.score(appendix.network(), batch, names) == plain


def build_scripted_network() -> Any:
    return torch.jit.script(appendix.network())


def change_images(change: Any) -> Any:
    images, labels = appendix.batch()[:2]
    return change(images), labels


@pytest.mark.parametrize(
    ("net", "batch", "message"),
    [
        (lambda: "resnet18", appendix.batch, "must be a torch.nn.Module, not 'resnet18'"),
        (build_scripted_network, appendix.batch, "torch.jit does not keep: give the network before it is scripted"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), appendix.batch, "has lazy layers without weights: run it"),
        (
            appendix.network,
            lambda: change_images(torch.Tensor.byte),
            "images must be a float tensor .*, normalised, not uint8 tensor",
        ),
        (
            appendix.network,
            lambda: change_images(torch.Tensor.double),
            "images are torch.float64 and the weights are torch.float32: convert both to one type",
        ),
        (
            appendix.network,
            lambda: change_images(lambda images: images.to("meta")),
            "images are on meta and the network is on cpu: move the images there",
        ),
    ],
)
def test_a_network_and_a_batch_that_do_not_fit_together_are_refused(net: Any, batch: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        zcpt.score(net(), batch(), "naswot")


def test_a_mixture_is_refused_for_a_network_that_takes_none(batch: zcpt.Batch) -> None:
    start = (
        zcpt.get_space("nasbench201")
        .build_supernet(tiny_network_config(zcpt.get_space("nasbench201")))
        .initial_mixture()
    )
    with pytest.raises(ConfigError, match="is no supernet that takes a mixture: leave the mixture out"):
        zcpt.score(nn.Flatten(), batch, "naswot", start)


def test_a_value_that_is_no_proxy_and_a_repeated_proxy_are_refused() -> None:
    for wrong in (zcpt.proxies.Swap, [None], [zcpt.proxies.Swap]):
        with pytest.raises(ProxyError, match="is no proxy: give names of 'zcpt list proxies', or proxies such as Swap"):
            zcpt.score(appendix.network(), appendix.batch(), cast(Any, wrong))
    repeated = [zcpt.proxies.Swap(repeats=1), zcpt.proxies.Swap(repeats=2)]
    with pytest.raises(ProxyError, match="give each proxy only once: swap is repeated"):
        zcpt.score(appendix.network(), appendix.batch(), repeated)


def test_terms_of_layers_add_up_to_the_score_and_the_network_is_left_unchanged() -> None:
    model = build_network_in_training()
    before = copy_state(model)
    for name in SEEDS:
        if isinstance(zcpt.get_proxy(name), zcpt.proxies.LayerProxy):
            layers = zcpt.score_layers(model, appendix.batch()[:2], name)
            assert sum(layers.values()) == zcpt.score(model, appendix.batch(), name)[name]
    assert copy_state(model) == before
    with pytest.raises(ProxyError, match="proxy 'naswot' is no sum over layers: give one of fisher, grad_norm, grasp"):
        zcpt.score_layers(model, appendix.batch(), "naswot")


def test_proxies_that_cannot_score_a_network_are_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    batch = torch.randn(8, 3, 8, 8), torch.arange(8) % 5
    scores = zcpt.score(net, batch, ["naswot", "snip", CarelessProxy(), "swap"], on_error="skip")
    assert scores == zcpt.score(net, batch, "snip")
    assert [record.getMessage().partition("'")[2].partition("'")[0] for record in caplog.records] == [
        "naswot",
        "careless",
        "swap",
    ]
    with pytest.raises(ProxyError, match="proxy 'naswot' compares how ReLUs switch"):
        zcpt.score(net, batch, ["snip", "naswot"])
    with pytest.raises(ConfigError, match="unknown value of on_error 'ignore'"):
        zcpt.score(net, batch, "snip", on_error=cast(Any, "ignore"))


def test_names_do_where_proxies_are_expected() -> None:
    net, batch = appendix.network().eval(), appendix.batch()
    expected = zcpt.score_mixtures(net, zcpt.get_proxy("naswot"), [None], batch)
    assert torch.equal(zcpt.score_mixtures(net, "naswot", [None], batch), expected)
    assert torch.equal(zcpt.score_mixtures(net, "naswot", [None], (batch.images, batch.labels)), expected)
    with pytest.raises(ProxyError, match="did you mean 'naswot'"):
        zcpt.score_mixtures(net, "nasvot", [None], batch)
    with pytest.raises(ProxyError, match="aggregate 'vote' ranks several networks"):
        zcpt.score_mixtures(net, "vote", [None], batch)
    with pytest.raises(ProxyError, match="is no proxy: give names"):
        zcpt.score_mixtures(net, cast(Any, zcpt.proxies.Swap), [None], batch)
    with pytest.raises(ConfigError, match="mixtures must be a list, not NoneType"):
        zcpt.score_mixtures(net, "naswot", cast(Any, None), batch)
