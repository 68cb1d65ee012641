"""Stand-ins for search networks of three code bases, and the state that ``zcpt.select`` must restore."""

from __future__ import annotations

import random
from collections import Counter, defaultdict, deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import zcpt
from tests.zcpt.compat.standins import darts, darts_pt, pc_darts
from tests.zcpt.search.conftest import diary  # noqa: F401  # a fixture
from zcpt import Mixture, Proxy

THREE_OPERATIONS = ["none", "skip_connect", "sep_conv_3x3"]


@zcpt.register_proxy
class SquaredLogits(Proxy):
    """Proxy that depends on nothing but the logits, so that a test can compute it from any forward pass."""

    name = "squared_logits"
    higher_is_better = True

    @staticmethod
    def compute(logits: Tensor) -> float:
        return logits.square().sum().item()

    def score(self, net: nn.Module, batch: zcpt.Batch, mixture: Mixture | None) -> float:
        return self.compute(net(batch.images, mixture))


def make_primitives(edges: int, names: list[str]) -> dict[str, list[list[str]]]:
    return {"primitives_normal": [names] * edges, "primitives_reduct": [names[1:]] * edges}


@pytest.fixture
def three_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give stand-ins that are made from now on three operations an edge."""
    for module in (darts, pc_darts):
        monkeypatch.setattr(module, "PRIMITIVES", THREE_OPERATIONS)


def make_standin(name: str, steps: int = 2) -> Any:
    torch.manual_seed(5)
    if name == "darts":
        return darts.Network(steps=steps)
    if name == "pc_darts":
        return pc_darts.Network(steps=steps)
    names = make_primitives(sum(range(2, 2 + steps)), ["noise", "skip_connect", "sep_conv_3x3"])
    network = darts_pt.Network(names, steps=steps)
    with torch.no_grad():  # one operation less in reduction cells
        network.alphas_reduce = network.alphas_reduce[:, 1:].clone().requires_grad_()
    network._arch_parameters[1] = network.alphas_reduce
    return network


@pytest.fixture(params=["darts", "darts_pt", "pc_darts"])
def model(request: pytest.FixtureRequest, three_operations: None) -> Any:
    return make_standin(request.param)


def disturb(model: Any) -> Any:
    """Bring a model into the middle of a training: change statistics, gradients, hooks, flags and alpha."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for seed in range(2):
        images = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        model._criterion(model(images), torch.arange(6)).backward()
        optimizer.step()
    with torch.no_grad():
        for alpha in model.arch_parameters():
            alpha += torch.randn(alpha.shape)
    model.stem.eval()
    model.classifier.bias.requires_grad_(False)
    model.cells[1].register_forward_hook(lambda module, given, output: None)
    model.cells[0]._ops[0].forward = model.cells[0]._ops[0].forward
    model.stem[0].weight.register_hook(lambda gradient: gradient)
    model.zeros, model.counts = torch.zeros(3), np.zeros(2)
    model.unknown = torch.full((1,), torch.nan).expand(4)
    model.diary = {"losses": [0.5], "calls": Counter(forward=2), "recent": deque([1, 2], maxlen=2)}
    model.seen = defaultdict(set, {"labels": {1}})
    return model


def describe_tensor(tensor: Tensor | None) -> object:
    """Return all that can be compared of a tensor or of a gradient, which may be None."""
    if tensor is None:
        return None
    form = tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad, tensor.is_leaf
    hooks = describe_value(tensor._backward_hooks), describe_value(tensor._post_accumulate_grad_hooks)
    grad = describe_tensor(tensor.grad) if tensor.is_leaf else None
    return id(tensor), form, tensor.detach().numpy().tobytes(), hooks, describe_value(vars(tensor)), grad


def describe_value(value: Any) -> object:
    """Return what can be compared of an attribute; of a module only its identity."""
    if isinstance(value, torch.Tensor):
        return describe_tensor(value)
    if isinstance(value, np.ndarray):
        return id(value), value.tobytes()
    if isinstance(value, dict):
        return id(value), [(key, describe_value(item)) for key, item in value.items()]
    if isinstance(value, list | tuple | set | deque):
        return id(value), [describe_value(item) for item in value]
    return id(value)


def capture_state(model: nn.Module) -> dict[str, object]:
    """Return everything of a model and of the random generators that can be compared."""
    state: dict[str, object] = {
        name: (module.__class__, describe_value(vars(module))) for name, module in model.named_modules()
    }
    _, keys, *rest = np.random.get_state(legacy=True)
    state["generators"] = torch.get_rng_state().tolist(), random.getstate(), np.asarray(keys).tolist(), rest
    return state
