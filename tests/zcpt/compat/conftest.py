"""Stand-ins for search networks of three code bases, and everything that a call must leave as it was."""

import random
from collections import Counter, defaultdict, deque

import numpy as np
import pytest
import torch

import zcpt
from tests.zcpt.compat.standins import darts_pt, pc_darts, quark
from tests.zcpt.search.conftest import diary  # noqa: F401  # a fixture
from zcpt import Proxy

FEW = ["none", "skip_connect", "sep_conv_3x3"]


@zcpt.register_proxy
class Loudness(Proxy):
    """A number that any way to compute the logits gives."""

    name, higher_is_better = "loudness", True

    @staticmethod
    def of(logits):
        return logits.square().sum().item()

    def score(self, net, batch, mixture):
        return self.of(net(batch.images, mixture))


def names_of_edges(edges, names):
    return {"primitives_normal": [names] * edges, "primitives_reduct": [names[1:]] * edges}


@pytest.fixture
def few(monkeypatch):
    """Stand-ins made from now on have three operations an edge."""
    for module in (quark, pc_darts):
        monkeypatch.setattr(module, "PRIMITIVES", FEW)


def standin(name, steps=2):
    torch.manual_seed(5)
    if name == "quark":
        return quark.Network(steps=steps)
    if name == "pc_darts":
        return pc_darts.Network(steps=steps)
    names = names_of_edges(sum(range(2, 2 + steps)), ["noise", "skip_connect", "sep_conv_3x3"])
    network = darts_pt.Network(names, steps=steps)
    with torch.no_grad():  # one operation less in reduction cells
        network.alphas_reduce = network.alphas_reduce[:, 1:].clone().requires_grad_()
    network._arch_parameters[1] = network.alphas_reduce
    return network


@pytest.fixture(params=["quark", "darts_pt", "pc_darts"])
def model(request, few):
    return standin(request.param)


def used(model):
    """The model in the middle of a training: statistics, gradients, hooks, flags and architecture parameters moved."""
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


def content(tensor):
    """All there is to a tensor, or to a gradient."""
    if tensor is None:
        return None
    form = tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype, tensor.requires_grad, tensor.is_leaf
    hooks = value_of(tensor._backward_hooks), value_of(tensor._post_accumulate_grad_hooks)
    grad = content(tensor.grad) if tensor.is_leaf else None
    return id(tensor), form, tensor.detach().numpy().tobytes(), hooks, value_of(vars(tensor)), grad


def value_of(value):
    """What can be compared of an attribute; modules are looked at on their own."""
    if isinstance(value, torch.Tensor):
        return content(value)
    if isinstance(value, np.ndarray):
        return id(value), value.tobytes()
    if isinstance(value, dict):
        return id(value), [(key, value_of(item)) for key, item in value.items()]
    if isinstance(value, list | tuple | set | deque):
        return id(value), [value_of(item) for item in value]
    return id(value)


def state_of(model):
    """Everything of a model and of the random generators that can be compared."""
    found = {name: (module.__class__, value_of(vars(module))) for name, module in model.named_modules()}
    numpy_state = np.random.get_state()
    found["generators"] = (
        torch.get_rng_state().tolist(), random.getstate(), numpy_state[1].tolist(), numpy_state[2:]
    )  # fmt: skip
    return found
