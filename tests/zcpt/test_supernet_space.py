"""Spaces that their supernet describes. The documented one keeps the whole contract (tests/test_contract.py)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import zcpt
from zcpt import Choice, NetworkConfig, SpaceError, Supernet, SupernetSpace, WidthDepth

SHAPE = NetworkConfig(channels=4, layers=1, num_classes=5, image_size=(8, 8))


def conv(kernel: int, inputs: int = 4, stride: int = 1) -> Any:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(inputs, 4, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(4))


class Graph(SupernetSpace):
    """Two operations at once, then two of three inputs; every way of building a supernet."""

    name = "graph"
    search_size = WidthDepth(4, 1)
    choices = (
        Choice("first", ("conv3", "conv5", "skip"), keep=2),
        Choice("second", ("conv3", "skip")),
        Choice("inputs", ("stem", "first", "second"), keep=2, start="one", phase=1),
    )

    def build_supernet(self, shape: Any) -> Any:
        net = Supernet(self.choices)
        stem = net.fixed("stem", conv(3, shape.in_channels, stride=2), net.IMAGES)
        candidates = {"conv3": conv(3), "conv5": conv(5), "skip": nn.Identity()}
        first = net.mixed("a.first", "first", candidates, stem)
        second = net.mixed("a.second", "second", {"conv3": conv(3), "skip": nn.Identity()}, first)
        node = net.sum("node", [stem, first, second], "inputs")
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        features = net.fixed("features", pool, net.concat("out", [node, stem]))
        net.fixed("classifier", nn.Linear(8, shape.num_classes), features)
        return net


GRAPH = Graph()


def architecture(first: Any = ("conv3", "skip"), second: str = "conv3", inputs: Any = ("stem", "second")) -> Any:
    return zcpt.Architecture("graph", {"first": tuple(first), "second": (second,), "inputs": tuple(inputs)})


def decided(net: Any, kept: Any) -> Any:
    mixture = net.initial_mixture()
    for name, candidates in kept.items():
        mixture = mixture.select(name, candidates)
    return mixture


@pytest.mark.parametrize("found", [architecture(), architecture(("conv5", "conv3"), "skip", ("stem", "first"))])
def test_the_network_computes_what_the_decided_supernet_does(found: zcpt.Architecture) -> None:
    network: Any = GRAPH.build_network(found, SHAPE).eval()
    net = GRAPH.build_supernet(SHAPE).eval()
    # A kept candidate has drop path behind it, and so one more name.
    weights = net.state_dict()
    for name, value in network.body.state_dict().items():
        module, _, rest = name.partition(".0.") if name.startswith("a.") else (name, "", "")
        value.copy_(weights[f"{module}.{rest}" if rest else name])
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(network(images), net(images, decided(net, found.kept)))


def test_cost_counts_what_the_architecture_computes() -> None:
    stem, conv3, conv5, classifier = 3 * 4 * 9 + 8, 4 * 4 * 9 + 8, 4 * 4 * 25 + 8, 8 * 5 + 5
    assert GRAPH.cost(architecture(), SHAPE).params == stem + 2 * conv3 + classifier
    # What only the lost input needs is not computed.
    without = architecture(("conv5", "conv3"), "conv3", ("stem", "first"))
    assert GRAPH.cost(without, SHAPE).params == stem + conv3 + conv5 + classifier
    assert GRAPH.cost(without, SHAPE).params == sum(p.numel() for p in GRAPH.build_network(without, SHAPE).parameters())
    assert GRAPH.cost(without, SHAPE).macs == 16 * (108 + 144 + 400) + 40


def test_a_search_ends_in_a_network(pictures: TensorDataset) -> None:
    options: dict[str, Any] = {"batch_size": 4, "validation_batch_size": 4, "validation_batches": 2, "num_classes": 10}
    result = zcpt.search(GRAPH, pictures, proxy="hashed", proposals=2, **options)
    GRAPH.check(result.architecture)
    assert len(result.architecture.kept["inputs"]) == 2


def test_budgets_need_operations_that_do_not_depend_on_inputs(pictures: TensorDataset) -> None:
    with pytest.raises(SpaceError, match="space 'graph' does not support budgets: its cost depends on which inputs"):
        zcpt.search(GRAPH, pictures, max_params=1000, batch_size=4, validation_batch_size=4, num_classes=10)


def test_notation() -> None:
    text = "first=conv3+skip, second=conv3, inputs=stem+second"
    assert GRAPH.format(architecture()) == text
    assert GRAPH.parse(f" {text}\n") == architecture()
    for wrong in ("", "first", "first=conv3+skip, first=conv3+skip"):
        with pytest.raises(SpaceError, match="is not of the form first=conv3[+]conv5, second=conv3, inputs="):
            GRAPH.parse(wrong)
    with pytest.raises(SpaceError, match="did you mean 'conv5'"):
        GRAPH.parse(text.replace("conv3+", "conv6+"))


class Wrong(Graph):
    """Space whose build_supernet each test replaces by a wrong one."""

    name = "wrong"
    build: ClassVar[Any] = None

    def build_supernet(self, shape: Any) -> Any:
        net = Supernet([*self.choices[:2], Choice("third", ("x",))])
        return type(self).build(net, net.fixed("stem", conv(3, shape.in_channels), net.IMAGES))


def classified(net: Any, x: Any) -> Any:
    net.fixed("head", nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)), x)
    return net


def with_first(net: Any, stem: Any, **candidates: Any) -> Any:
    given = {"conv3": conv(3), "conv5": conv(5), "skip": nn.Identity(), **candidates}
    return net.mixed("m", "first", given, stem)


def unread(net: Any, stem: Any) -> Any:
    m = with_first(net, stem)
    s = net.mixed("s", "second", {"conv3": conv(3), "skip": nn.Identity()}, stem)
    net.mixed("t", "third", {"x": conv(3)}, s)
    return classified(net, m)


def chain(net: Any, stem: Any, again: Any = None, **candidates: Any) -> Any:
    given = {"conv3": again or conv(3), "skip": nn.Identity()}
    s = net.mixed("s", "second", given, with_first(net, stem, **candidates))
    return classified(net, net.mixed("t", "third", {"x": conv(3)}, s))


def shared(net: Any, stem: Any) -> Any:
    twice = conv(3)
    return chain(net, stem, again=twice, conv3=twice)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda net, stem: None, "build_supernet of space 'wrong' must return the Supernet, not None"),
        (lambda net, stem: classified(net, with_first(net, stem)), "has no step for its choice 'second'"),
        (unread, "the last value of the supernet of space 'wrong' does not depend on 's'"),
        (shared, "the supernet of space 'wrong' uses a module twice"),
        (
            lambda net, stem: chain(net, stem, skip=nn.Conv2d(7, 4, 1)),
            "the supernet of space 'wrong' cannot be run on 3x8x8 images: ",
        ),
    ],
)
def test_a_supernet_that_cannot_be_is_refused_before_anything_is_written(
    build: Any, message: str, pictures: TensorDataset, tmp_path: Path
) -> None:
    Wrong.build = staticmethod(build)
    with pytest.raises(SpaceError, match=message):
        zcpt.search(Wrong(), pictures, run_dir=tmp_path / "run", batch_size=4, validation_batch_size=4, num_classes=10)
    assert not (tmp_path / "run").exists()


def test_one_size_is_meant_for_all() -> None:
    assert GRAPH.train_size == GRAPH.small_size == GRAPH.search_size
    larger: Any = type("Larger", (Graph,), {"train_size": WidthDepth(8, 1)})
    assert (larger.train_size, larger.small_size) == (WidthDepth(8, 1), WidthDepth(4, 1))


def test_the_auxiliary_head_reads_the_maps_two_thirds_in() -> None:
    network = GRAPH.build_network(architecture(), SHAPE, auxiliary=True).train()
    logits, auxiliary = network(torch.randn(3, 3, 8, 8))
    assert logits.shape == auxiliary.shape == (3, 5)
    assert network.auxiliary_input == "node"  # of images, stem, first, second, node and out, without the images


def test_networks_have_the_methods_of_timm_models() -> None:
    network: Any = GRAPH.build_network(architecture(), SHAPE, auxiliary=True).eval()
    images = torch.randn(2, 3, 8, 8)
    maps = network.forward_features(images)
    assert maps.shape == (2, network.num_features, 4, 4)
    assert torch.equal(network.forward_head(maps), network(images))
    features = network.forward_head(maps, pre_logits=True)
    assert torch.equal(network.get_classifier()(features), network(images))
    network.reset_classifier(0)
    assert torch.equal(network(images), features)
    network.reset_classifier(7)
    logits, auxiliary = network.train()(images)
    assert logits.shape == auxiliary.shape == (2, 7)
    for missing in (
        lambda: network.set_rising_drop_path(0.1),
        lambda: network.reset_classifier(7, "max"),
        network.prune_intermediate_layers,
    ):
        with pytest.raises(SpaceError, match="_SupernetPart has no .*: the author of its search space may add it"):
            missing()


class NestedHead(Graph):
    name = "nested-head"

    def build_supernet(self, shape: Any) -> Any:
        net = Supernet(self.choices)
        stem = net.fixed("stem", conv(3, shape.in_channels), net.IMAGES)
        first = net.mixed("first", "first", {"conv3": conv(3), "conv5": conv(5), "skip": nn.Identity()}, stem)
        second = net.mixed("second", "second", {"conv3": conv(3), "skip": nn.Identity()}, first)
        node = net.sum("node", [stem, first, second], "inputs")
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        net.fixed("head", nn.Sequential(pool, nn.Linear(4, shape.num_classes)), node)
        return net


@pytest.mark.parametrize(("space", "classifier"), [(GRAPH, "body.classifier"), (NestedHead(), "body.head.1")])
def test_dropout_drops_inputs_of_the_classifier(space: Any, classifier: str) -> None:
    network: Any = space.build_network(zcpt.Architecture(space.name, architecture().kept), SHAPE)
    assert network.get_submodule(classifier) is network.get_classifier()
    assert not any("dropout" in name for name in network.state_dict())
    network.set_dropout(0.5)
    maps = torch.ones(4, network.num_features, 2, 2)
    assert set(network.train().forward_head(maps, pre_logits=True).unique().tolist()) == {0.0, 2.0}
    assert torch.equal(network.eval().forward_head(maps, pre_logits=True), torch.ones(4, network.num_features))
    seen: list[Any] = []
    network.get_classifier().register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network.train()(torch.randn(32, 3, 8, 8))
    assert 0.3 < (seen[0] == 0).float().mean() < 0.7


def test_gradient_checkpointing_stores_less_and_changes_nothing() -> None:
    """Also the random numbers of drop path and dropout, and the running statistics of BatchNorm."""
    plain: Any = GRAPH.build_network(architecture(), SHAPE, auxiliary=True).train()
    plain.set_drop_path(0.3)
    plain.set_dropout(0.3)
    checkpointed = copy.deepcopy(plain)
    checkpointed.set_grad_checkpointing()
    images, stored = torch.randn(4, 3, 8, 8), []
    for network in (plain, checkpointed):
        sizes: list[int] = []

        def store(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
            logits, auxiliary = network(images)
            loss = nn.functional.cross_entropy(logits + auxiliary, torch.arange(4))
        stored.append(sum(sizes))
        loss.backward()
    assert stored[1] < stored[0]
    for one, other in zip(plain.state_dict().values(), checkpointed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_a_head_that_is_no_module_is_said_to_be_missing() -> None:
    class TwoHeads(Graph):
        name = "two-heads"

        def build_supernet(self, shape: Any) -> Any:
            net = super().build_supernet(shape)
            other = net.fixed("other", nn.Linear(8, shape.num_classes), "features")
            net.sum("sum", ["classifier", other])
            return net

    space = TwoHeads()
    network: Any = space.build_network(zcpt.Architecture("two-heads", architecture().kept), SHAPE)
    assert network(torch.randn(2, 3, 8, 8)).shape == (2, 5)
    for call in (
        network.get_classifier,
        lambda: network.forward_features(torch.randn(2, 3, 8, 8)),
        lambda: network.set_dropout(0.1),
    ):
        with pytest.raises(SpaceError, match="has no (get_classifier|forward_features|dropout)"):
            call()
