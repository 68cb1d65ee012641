"""Forward passes, hooks and intercepted functions leave networks and images as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zcpt import Choice, Supernet
from zcpt.proxies import clone_tensors, hook_modules, intercept, run_network


def build_network() -> nn.Sequential:
    return nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(12, 5))


@pytest.mark.parametrize("on_clones", [False, True])
def test_images_are_not_changed_by_an_in_place_operation(on_clones: bool) -> None:
    net, images = build_network(), torch.randn(2, 3, 2, 2)
    before = images.clone()
    run_network(net, images, None, clone_tensors(net) if on_clones else None)
    assert torch.equal(images, before)


def test_a_supernet_runs_under_the_mixture() -> None:
    net = Supernet([Choice("edge", ("skip", "none"))])
    net.mixed("mix", "edge", {"skip": nn.Identity(), "none": nn.Conv2d(1, 1, 1)}, Supernet.IMAGES)
    images = torch.randn(2, 1, 2, 2)
    assert torch.equal(run_network(net, images, net.initial_mixture().select("edge", ["skip"])), images)
    assert torch.equal(run_network(net, images), net(images, net.initial_mixture()))


def test_hooks_replace_inputs_and_outputs_and_are_removed_after_an_exception() -> None:
    net = nn.Sequential(nn.Identity(), nn.Identity())
    with hook_modules(net, before=lambda module, inputs: (inputs[0] + 1,), after=lambda module, inputs, x: 2 * x):
        assert net(torch.zeros(1)).item() == 6
    with pytest.raises(ArithmeticError), hook_modules(net, before=lambda module, inputs: None):
        raise ArithmeticError
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


def test_intercepted_functions_are_replaced_and_calls_of_the_handler_are_not_intercepted() -> None:
    calls = []

    def handle(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        calls.append(function)
        return F.relu(args[0]) if function is F.silu else function(*args, **kwargs)

    x = torch.tensor([-1.0, 2.0])
    with intercept(handle):
        replaced: Tensor = nn.SiLU()(x)
    assert replaced.tolist() == [0.0, 2.0]
    assert calls == [F.silu]
