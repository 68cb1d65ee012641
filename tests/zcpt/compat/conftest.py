"""Stand-ins for search networks of three code bases, and everything that a call must leave as it was."""

import random

import numpy as np
import pytest
import torch

from tests.zcpt.compat.standins import darts_pt, pc_darts, quark
from tests.zcpt.search.conftest import diary  # noqa: F401  # a fixture

FEW = ["none", "skip_connect", "sep_conv_3x3"]


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
    return model


def content(tensor):
    return None if tensor is None else (tensor.detach().numpy().tobytes(), tensor.data_ptr(), tensor.stride())


def state_of(model):
    """Everything of a model and of the random generators that can be compared."""
    alphas = {name: value for name, value in vars(model).items() if isinstance(value, torch.Tensor)}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers()), **alphas}
    found = {name: (id(t), content(t), t.requires_grad, content(t.grad)) for name, t in tensors.items()}
    for name, module in model.named_modules():
        attributes = {}
        for key, value in vars(module).items():
            if isinstance(value, dict):
                attributes[key] = id(value), [(k, id(v)) for k, v in value.items()]
            elif isinstance(value, list):
                attributes[key] = id(value), [id(v) for v in value]
            else:
                attributes[key] = id(value)
        found[f"module {name}"] = attributes
    numpy_state = np.random.get_state()
    found["generators"] = (
        torch.get_rng_state().tolist(), random.getstate(), numpy_state[1].tolist(), numpy_state[2:]
    )  # fmt: skip
    return found
