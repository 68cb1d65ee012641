"""The methods that discrete networks share with timm models."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import zcpt
from tests.conftest import random_architecture, tiny_network_config
from zcpt import ConfigError
from zcpt.layers import DropPath
from zcpt.staged_network import StagedNetwork, take_indices

NAMES = ("darts", "nasbench201", "nasbench1shot1-1", "proxyless", "nasbench-macro")


@pytest.fixture(params=NAMES)
def network(request: pytest.FixtureRequest) -> Any:
    return build(request.param)


def build(name: str, **options: Any) -> Any:
    space = zcpt.get_space(name)
    config = tiny_network_config(space, image_size=(16, 16))
    torch.manual_seed(0)
    built = space.build_network(random_architecture(space, 0), config, **options)
    assert isinstance(built, StagedNetwork)
    return built


def test_features_and_head_make_the_forward_pass(network: Any) -> None:
    images, network = torch.randn(2, 3, 16, 16), network.eval()
    maps = network.forward_features(images)
    assert maps.shape[:2] == (2, network.num_features)
    assert torch.equal(network.forward_head(maps), network(images))
    features = network.forward_head(maps, pre_logits=True)
    assert torch.equal(network.get_classifier()(features), network(images))
    torch.testing.assert_close(features, maps.mean((2, 3)))


def test_intermediates_have_the_channels_and_sizes_that_are_stated(network: Any) -> None:
    images, network = torch.randn(2, 3, 16, 16), network.eval()
    last, intermediates = network.forward_intermediates(images)
    assert torch.equal(last, network.forward_features(images))
    assert [info["reduction"] for info in network.feature_info] == sorted(
        {i["reduction"] for i in network.feature_info}
    )
    for info, maps in zip(network.feature_info, intermediates, strict=True):
        assert maps.shape == (2, info["num_chs"], 16 // info["reduction"], 16 // info["reduction"])
        outputs: list[Any] = []
        handle = network.get_submodule(info["module"]).register_forward_hook(
            lambda module, inputs, output, found=outputs: found.append(output)
        )
        network(images)
        handle.remove()
        assert torch.equal(outputs[0], maps)
    assert torch.equal(network.forward_intermediates(images, [-1, 0], intermediates_only=True)[1], intermediates[0])


def test_blocks_behind_the_last_wanted_maps_are_removed(network: Any) -> None:
    images, network = torch.randn(2, 3, 16, 16), network.eval()
    wanted = network.forward_intermediates(images, [1], intermediates_only=True)
    parameters = sum(p.numel() for p in network.parameters())
    assert network.prune_intermediate_layers([1]) == [1]
    assert sum(p.numel() for p in network.parameters()) < parameters
    assert torch.equal(network.forward_intermediates(images, [1], intermediates_only=True)[0], wanted[0])
    assert torch.equal(network(images), wanted[0])


def test_the_classifiers_are_replaced() -> None:
    network = build("nasbench201", auxiliary=True).double()
    network.reset_classifier(7)
    logits, auxiliary = network(torch.randn(2, 3, 16, 16).double())
    assert logits.shape == auxiliary.shape == (2, 7)
    network.reset_classifier(0)
    assert network.eval()(torch.randn(2, 3, 16, 16).double()).shape == (2, network.num_features)
    network.reset_classifier(3, "catavgmax")
    assert network.get_classifier().in_features == network.head_hidden_size == 2 * network.num_features
    assert network(torch.randn(2, 3, 16, 16).double()).shape == (2, 3)
    network.reset_classifier(0, "")
    assert network(torch.randn(2, 3, 16, 16).double()).ndim == 4
    with pytest.raises(ConfigError, match="3 classes need a global pooling"):
        network.reset_classifier(3)
    with pytest.raises(ConfigError, match="global_pool must be 'avg', 'max', .* not 'median'"):
        network.reset_classifier(3, "median")


def test_gradient_checkpointing_stores_less_and_changes_nothing(network: Any) -> None:
    """Also the random numbers of drop path, and the running statistics of BatchNorm."""
    images, stored = torch.randn(4, 3, 16, 16), []
    network.set_drop_path(0.3)
    network.set_dropout(0.3)
    networks = [network.train(), copy.deepcopy(network)]
    networks[1].set_grad_checkpointing()
    for net in networks:
        sizes: list[int] = []

        def store(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
            logits = net(images)
        stored.append(sum(sizes))
        nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    assert stored[1] < stored[0] / 2
    for (name, one), other in zip(networks[0].state_dict().items(), networks[1].state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        assert one.grad is None or torch.equal(one.grad, other.grad)


@pytest.mark.slow
def test_gradient_checkpointing_is_compiled() -> None:
    plain = build("nasbench201").train()
    checkpointed = copy.deepcopy(plain)
    checkpointed.set_grad_checkpointing()
    images = torch.randn(4, 3, 16, 16)
    for network, function in ((plain, plain), (checkpointed, torch.compile(checkpointed, backend="aot_eager"))):
        network.set_drop_path(0.3)
        torch.manual_seed(0)
        function(images).sum().backward()
    for one, other in zip(plain.state_dict().values(), checkpointed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_drop_path_rises_with_the_depth_as_in_timm(network: Any) -> None:
    network.set_rising_drop_path(0.4)
    (blocks,) = (getattr(network, name) for name in ("layers", "cells", "blocks") if hasattr(network, name))
    for index, block in enumerate(blocks, 1):
        for module in block.modules():
            if isinstance(module, DropPath):
                assert module.probability.item() == pytest.approx(0.4 * index / (len(blocks) + 1))
    network.set_drop_path(0.1)
    assert all(m.probability.item() == pytest.approx(0.1) for m in network.modules() if isinstance(m, DropPath))


def test_dropout_drops_inputs_of_the_classifier(network: Any) -> None:
    maps = torch.ones(4, network.num_features, 2, 2)
    network.set_dropout(0.5)
    assert set(network.train().forward_head(maps, pre_logits=True).unique().tolist()) == {0.0, 2.0}
    assert torch.equal(network.eval().forward_head(maps, pre_logits=True), torch.ones(4, network.num_features))


def test_indices_are_read_as_in_timm() -> None:
    assert take_indices(4, None) == [0, 1, 2, 3]
    assert take_indices(4, 2) == [2, 3]
    assert take_indices(4, [-1, 0]) == [3, 0]
    for wrong in (5, 0, [4], []):
        with pytest.raises(ConfigError, match="there are 4 sizes of maps"):
            take_indices(4, wrong)
