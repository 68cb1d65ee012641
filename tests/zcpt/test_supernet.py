"""The program of a supernet, step by step."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import nn

from tests.conftest import CHAINS, ONE_SHOT, THREE_BY_THREE, random_architecture, tiny_network_config
from zcpt import Choice, SpaceError, Supernet
from zcpt.space import SearchSpace


class Times(nn.Module):
    """Multiplies, and counts how often it ran."""

    def __init__(self, factor: Any) -> None:
        super().__init__()
        self.factor, self.ran = factor, 0

    def forward(self, x: Any) -> Any:
        self.ran += 1
        return x * self.factor


def toy() -> Any:
    """images -> a mix of x1, x10, x100 -> keep two of (images, mix, mix + images) -> concatenation with images."""
    edge, inputs = Choice("edge", ("a", "b", "c")), Choice("inputs", ("0", "1", "2"), keep=2, start="one")
    net = Supernet([edge, inputs])
    mix = net.mixed("mix", "edge", {"a": Times(1), "b": Times(10), "c": Times(100)}, Supernet.IMAGES)
    both = net.sum("both", [mix, Supernet.IMAGES])
    node = net.sum("node", [Supernet.IMAGES, mix, both], "inputs")
    net.concat("out", [Supernet.IMAGES, node])
    return net


X = torch.tensor([[[[1.0]], [[2.0]]]])


def result(net: Any, mixture: Any = None) -> Any:
    images, node = net(X, mixture).chunk(2, dim=1)
    assert torch.equal(images, X)
    return (node / X).unique().item()


def test_steps_mix_add_and_concatenate() -> None:
    # mix = (1 + 10 + 100) / 3 = 37; images + mix + (mix + images) = 1 + 37 + 38
    assert result(toy()) == pytest.approx(76)


def test_weights_of_the_mixture_count_without_renormalisation() -> None:
    net = toy()
    start = net.initial_mixture()
    # mix without b = 101 / 3, twice, and twice the images
    assert result(net, start.without("edge", "b")) == pytest.approx(2 * 101 / 3 + 2)
    assert result(net, start.select("edge", ("b",))) == pytest.approx(22)
    assert result(net, start.select("edge", ("b",)).without("inputs", "0")) == pytest.approx(21)


def test_a_removed_candidate_and_what_only_it_reads_do_not_run() -> None:
    net = toy()
    modules = dict(net.mix.named_children())
    net(X, net.initial_mixture().without("edge", "b"))
    assert [modules[name].ran for name in "abc"] == [1, 0, 1]
    net(X, net.initial_mixture().without("inputs", "1", "2"))
    assert [modules[name].ran for name in "abc"] == [1, 0, 1]
    assert [step.out for step, _ in net.list_live_steps(net.initial_mixture().without("inputs", "1", "2"))] == [
        "node",
        "out",
    ]


def test_a_value_without_anything_to_compute_it_from_is_an_error() -> None:
    net = toy()
    with pytest.raises(SpaceError, match="removes everything that 'mix'"):
        net(X, net.initial_mixture().without("edge", "a", "b", "c"))


def test_the_input_is_never_written_to() -> None:
    net = toy()
    x = X.clone()
    net(x, net.initial_mixture().select("edge", ("a",)))
    assert torch.equal(x, X)


def test_wrong_programs_are_refused() -> None:
    net = toy()
    with pytest.raises(SpaceError, match="candidates of edge, in that order"):
        net.mixed("other", "edge", {"b": Times(1), "a": Times(1), "c": Times(1)}, "images")
    with pytest.raises(SpaceError, match="one input for each candidate"):
        net.sum("sum", ["images"], "inputs")
    with pytest.raises(SpaceError, match="other has an unknown choice 'edges': did you mean 'edge'"):
        net.mixed("other", "edges", {}, "images")
    with pytest.raises(SpaceError, match="other reads an unknown value 'mixx': did you mean 'mix'"):
        net.sum("other", ["mixx"])
    for candidate in ("double", "conv.3x3"):  # a method of nn.Module; a dot
        other = Supernet([Choice("edge", (candidate,))])
        with pytest.raises(SpaceError, match=f"candidate of edge has a name that no module can have: .*{candidate}"):
            other.mixed("mix", "edge", {candidate: nn.Identity()}, Supernet.IMAGES)
    with pytest.raises(SpaceError, match="two values are named 'both'"):
        net.fixed("both", nn.Identity(), "mix")


def test_candidates_of_different_shapes_are_named() -> None:
    net = Supernet([Choice("edge", ("a", "b"))])
    net.mixed("mix", "edge", {"a": nn.Identity(), "b": nn.AvgPool2d(1, 2)}, Supernet.IMAGES)
    with pytest.raises(SpaceError, match=r"'mix' adds values of different shapes, \[1, 1, 4, 4\] and \[1, 1, 2, 2\]"):
        net(torch.ones(1, 1, 4, 4))


def test_a_copy_is_independent() -> None:
    net = toy()
    twin = copy.deepcopy(net)
    twin.mix["a"].factor = 1000
    assert result(net) == pytest.approx(76)
    assert result(twin) > 700


def test_parameters_are_named_after_values_and_candidates(space: SearchSpace) -> None:
    names = [name for name, _ in space.build_supernet(tiny_network_config(space)).named_parameters()]
    wanted = r"\.node3\.edge\d\..*conv_3x3\.1\.weight$"
    if space.name in ONE_SHOT:
        wanted = r"\.node3\.operation\.conv3x3-bn-relu\.0\.weight$"
    if space.name in CHAINS:
        wanted = r"layer03\.mb_k3_e3\.branch"
    if space.name == "toy":
        wanted = r"cell1\.op2\.conv\.1\.weight$"
    assert any(re.search(wanted, name) for name in names)


def test_gradients_reach_every_candidate_but_the_removed_one(space: SearchSpace) -> None:
    net = space.build_supernet(tiny_network_config(space))
    choice = space.choices[0]
    removed = next(name for name in choice.candidates if THREE_BY_THREE.search(name))
    net(torch.randn(4, 3, 8, 8), net.initial_mixture().without(choice.name, removed)).square().sum().backward()
    without_gradient = {name for name, parameter in net.named_parameters() if parameter.grad is None}
    normal_cells = "cells.0." if space.name.startswith("darts") else {"nasbench201": "blocks."}.get(space.name, "")
    below = f"{'.'.join(choice.name.split('/')[-2:])}.{removed}."
    expected = {n for n, _ in net.named_parameters() if n.startswith(normal_cells) and below in n}
    assert without_gradient == expected != set()


def test_a_decided_supernet_computes_what_the_discrete_network_does(space: SearchSpace) -> None:
    """With the same weights both give the same logits (pools aside, which only DARTS' supernet normalises)."""
    if space.name in ONE_SHOT:
        pytest.skip("the supernet's nodes are as wide as the cell, those of NAS-Bench-101's networks share its width")
    if space.name == "darts-s1":
        pytest.skip("some edges have nothing but two kinds of pooling")
    architecture = random_architecture(space, 3, without="pool|noise")
    shape = tiny_network_config(space)
    net, network = space.build_supernet(shape).eval(), space.build_network(architecture, shape).eval()
    mixture = net.initial_mixture()
    for choice in space.choices:
        mixture = mixture.select(choice.name, architecture.kept.get(choice.name, choice.candidates[:1]))
    network.load_state_dict(transplanted(space, architecture, net, network))
    images = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(net(images, mixture), network(images), rtol=1e-5, atol=1e-6)


def transplanted(space: SearchSpace, architecture: Any, net: Any, network: Any) -> Any:
    """Return the state of a discrete network, with the supernet's weights in it."""
    state, source = network.state_dict(), net.state_dict()
    for name in state:
        if (found := supernet_name(space, architecture, name)) in source:
            state[name] = source[found]
    copied = sum(supernet_name(space, architecture, name) in source for name, _ in network.named_parameters())
    assert copied > 10
    return state


def supernet_name(space: SearchSpace, architecture: Any, name: Any) -> Any:
    part = name.split(".")
    if space.name == "toy":  # what is kept stands in a pair with drop path
        return ".".join(part[1:4] + part[5:] if part[1].startswith("cell") else part[1:])
    if space.name in CHAINS:
        layer = f"layer{int(part[1]):02d}" if part[0] == "layers" else ""
        return ".".join([layer, architecture[layer], *part[2:]]) if layer else name
    if space.name == "nasbench201":
        if len(part) > 3 and part[2] == "edges":
            node, source = part[3].split("_")
            operation = architecture[f"node{node}/edge{source}"]
            return ".".join([*part[:2], f"node{node}", f"edge{source}", operation, *part[5:]])
        return name
    if part[0] == "classifier":
        return name.replace("classifier", "classifier.2")
    if len(part) > 3 and part[2] == "preprocess":
        return ".".join([*part[:2], f"preprocess{part[3]}", *part[4:]])
    if len(part) > 3 and part[2] == "edges":
        kind = "reduce" if part[1] in ("1", "2") else "normal"  # three cells: N, R, R
        pair = int(part[3])
        node, kept = 2 + pair // 2, architecture.kept
        source = kept.get(f"{kind}/node{node}/inputs", ("0", "1"))[pair % 2]
        operation = architecture[f"{kind}/node{node}/edge{source}"]
        return ".".join([*part[:2], f"node{node}", f"edge{source}", operation, *part[5:]])
    return name
