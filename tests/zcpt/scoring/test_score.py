"""zcpt.score: any network, several proxies, and nothing left behind."""

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


class Counting(nn.Module):
    """A network that changes itself, and draws random numbers, whenever it runs; it may fail."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.net, self.fails, self.runs = appendix.network(), fails, 0
        self.seen: torch.Tensor
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Any) -> Any:
        self.runs += 1
        self.seen += 1
        noise = torch.randn(()) + random.random() + np.random.rand()
        if self.fails:
            raise BrokenError
        return self.net(x) * (1 + 0.01 * noise)


def used(fails: bool = False) -> Any:
    """Return a network in use: with gradients, frozen weights, hooks, and a module in evaluation mode."""
    torch.manual_seed(0)
    model = Counting()
    model(appendix.batch().images).sum().backward()
    model.fails = fails
    model.net[0].weight.requires_grad_(False)
    model.net[1].eval()
    model.net[2].register_forward_hook(lambda *given: None)
    return model


def state(model: Any) -> Any:
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
def test_a_network_is_left_bit_for_bit_as_it_was(name: Any) -> None:
    model, batch = used(), appendix.batch()
    before, images = state(model), batch.images.clone()
    zcpt.score(model, batch, name)
    assert state(model) == before
    assert torch.equal(batch.images, images)
    assert not batch.images.requires_grad


@pytest.mark.parametrize("name", SEEDS)
def test_also_when_the_network_fails(name: Any) -> None:
    model = used(fails=True)
    before = state(model)
    if zcpt.get_proxy(name).norms == "none":
        zcpt.score(model, appendix.batch(), name)  # which does not run it
    else:
        with pytest.raises(BrokenError):
            zcpt.score(model, appendix.batch(), name)
    assert state(model) == before


class Careless(Proxy):
    """Does what a proxy must not do, and fails."""

    name, higher_is_better = "careless", True

    def score(self, net: Any, batch: zcpt.Batch, mixture: Any) -> float:
        net.train()
        with torch.enable_grad():
            net.requires_grad_(True)(batch.images.mul_(2)).sum().backward()
        net.net[3].weight.data.zero_()
        net.net[4].forward = lambda x: x
        net.register_forward_hook(lambda *given: None)
        raise BrokenError


def test_also_when_the_proxy_spoils_it_and_fails() -> None:
    model, batch = used(), appendix.batch()
    before = state(model)
    with pytest.raises(BrokenError):
        zcpt.score(model, batch, ["snip", Careless()])
    assert state(model) == before
    assert torch.equal(batch.images, appendix.batch().images)


def test_scores_come_by_name_and_do_not_depend_on_each_other() -> None:
    net, batch = used(), appendix.batch()
    every = zcpt.score(net, (batch.images, batch.labels), SEEDS)
    assert tuple(every) == SEEDS
    for name in ("naswot", "snip", "synflow"):
        assert zcpt.score(net, batch, zcpt.get_proxy(name)) == {name: every[name]}
    assert zcpt.score(net, cast(Any, list(batch)), ["plain", zcpt.get_proxy("naswot")]).keys() == {"plain", "naswot"}
    assert zcpt.score(net, batch, []) == {}


def test_what_a_network_draws_depends_on_the_seed_of_the_batch() -> None:
    class Noisy(Counting):
        def forward(self, x: Any) -> Any:
            return self.net(x) + 0.1 * torch.randn(1, 5)

    net, batch = Noisy(), appendix.batch()
    torch.manual_seed(1)
    first = zcpt.score(net, batch, "snip")
    torch.manual_seed(2)
    assert zcpt.score(net, batch, "snip") == first
    assert zcpt.score(net, batch._replace(seed=1), "snip") != first


def test_supernets_are_scored_as_at_the_start_or_under_a_mixture(batch: zcpt.Batch) -> None:
    space = zcpt.get_space("nasbench201")
    net = space.build_supernet(tiny_network_config(space))
    without = net.initial_mixture().without(space.choices[0].name, "nor_conv_3x3")
    start = zcpt.score(net, batch, ["naswot", "snip"])
    assert zcpt.score(net, batch, ["naswot", "snip"], net.initial_mixture()) == start
    assert zcpt.score(net, batch, ["naswot", "snip"], without) != start


@pytest.mark.parametrize(
    ("batch", "said"),
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
def test_a_batch_that_is_none_is_refused(batch: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        zcpt.score(appendix.network(), batch, "naswot")


def test_unknown_names_and_single_images_are_refused() -> None:
    with pytest.raises(ProxyError, match="did you mean 'grad_norm'"):
        zcpt.score(appendix.network(), appendix.batch(), "gradnorm")
    images, labels = appendix.batch()[:2]
    for name in SEEDS:
        if zcpt.get_proxy(name).min_batch > 1:
            with pytest.raises(ProxyError, match=f"proxy '{name}' cannot compare networks on 1 image"):
                zcpt.score(appendix.network(), Batch(images[:1], labels[:1]), name)


def test_what_is_wrapped_or_compiled_is_scored_as_what_it_wraps() -> None:
    plain = zcpt.score(appendix.network(), appendix.batch(), ["naswot", "snip", "near", "meco"])
    wrapped = nn.DataParallel(appendix.network())
    compiled = torch.compile(appendix.network())
    assert zcpt.score(wrapped, appendix.batch(), list(plain)) == plain
    assert zcpt.score(cast(nn.Module, compiled), appendix.batch(), list(plain)) == plain


def test_what_the_caller_has_set_for_new_tensors_changes_nothing() -> None:
    names = [*SEEDS, "zico", "near", "meco_opt", "az_trainability", "ntk"]
    plain = zcpt.score(appendix.network(), appendix.batch(), names)
    net, batch = appendix.network(), appendix.batch()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert zcpt.score(net, batch, names) == plain
    finally:
        torch.set_default_dtype(torch.float32)


def test_batches_made_in_inference_mode_do_as_well() -> None:
    names = [*SEEDS, "zico"]
    plain = zcpt.score(appendix.network(), appendix.batch(), names)
    with torch.inference_mode():
        batch = Batch(appendix.batch().images.clone(), appendix.batch().labels.clone())
        assert zcpt.score(appendix.network(), batch, names) == plain
    assert zcpt.score(appendix.network(), batch, names) == plain


def scripted() -> Any:
    return torch.jit.script(appendix.network())


def images_as(change: Any) -> Any:
    images, labels = appendix.batch()[:2]
    return change(images), labels


@pytest.mark.parametrize(
    ("net", "batch", "said"),
    [
        (lambda: "resnet18", appendix.batch, "must be a torch.nn.Module, not 'resnet18'"),
        (scripted, appendix.batch, "torch.jit has taken apart: give the network before that"),
        (lambda: nn.Sequential(nn.LazyConv2d(4, 3)), appendix.batch, "has lazy layers, without weights yet: run it"),
        (appendix.network, lambda: images_as(torch.Tensor.byte), "images are torch.uint8: give floating-point numbers"),
        (
            appendix.network,
            lambda: images_as(torch.Tensor.double),
            "images are torch.float64 and the weights are torch.float32: bring both to one type",
        ),
        (
            appendix.network,
            lambda: images_as(lambda images: images.to("meta")),
            "images are on meta and the network is on cpu: bring them there",
        ),
    ],
)
def test_networks_and_batches_that_do_not_go_together_are_refused(net: Any, batch: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        zcpt.score(net(), batch(), "naswot")


def test_a_mixture_is_for_supernets(batch: zcpt.Batch) -> None:
    start = (
        zcpt.get_space("nasbench201")
        .build_supernet(tiny_network_config(zcpt.get_space("nasbench201")))
        .initial_mixture()
    )
    with pytest.raises(ConfigError, match="is no supernet that takes a mixture: leave the mixture out"):
        zcpt.score(nn.Flatten(), batch, "naswot", start)


def test_what_is_no_proxy_or_given_twice_is_refused() -> None:
    for wrong in (zcpt.proxies.Swap, [None], [zcpt.proxies.Swap]):
        with pytest.raises(ProxyError, match="is no proxy: give names of 'zcpt list proxies', or proxies such as Swap"):
            zcpt.score(appendix.network(), appendix.batch(), cast(Any, wrong))
    twice = [zcpt.proxies.Swap(repeats=1), zcpt.proxies.Swap(repeats=2)]
    with pytest.raises(ProxyError, match="swap comes twice: give it once"):
        zcpt.score(appendix.network(), appendix.batch(), twice)


def test_layers_are_shown_and_nothing_is_left_behind() -> None:
    model = used()
    before = state(model)
    for name in SEEDS:
        if isinstance(zcpt.get_proxy(name), zcpt.proxies.LayerProxy):
            layers = zcpt.score_layers(model, appendix.batch()[:2], name)
            assert sum(layers.values()) == zcpt.score(model, appendix.batch(), name)[name]
    assert state(model) == before
    with pytest.raises(ProxyError, match="proxy 'naswot' is no sum over layers: give one of fisher, grad_norm, grasp"):
        zcpt.score_layers(model, appendix.batch(), "naswot")
