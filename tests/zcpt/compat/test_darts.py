"""DARTS under its own names."""

from __future__ import annotations

import copy
import pickle
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zcpt
import zcpt.compat.darts as compat
from tests.zcpt.compat.conftest import THREE_OPERATIONS
from zcpt.compat.darts import OPS, PRIMITIVES, Architect, Genotype, Network

IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tensor([1, 2])
ARGS = SimpleNamespace(momentum=0.9, weight_decay=3e-4, arch_learning_rate=3e-4, arch_weight_decay=1e-3)


def network(**options: Any) -> Any:
    torch.manual_seed(1)
    return Network(4, 10, 3, nn.CrossEntropyLoss(), **options)


def test_primitives_and_operations() -> None:
    assert PRIMITIVES == [
        "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect",
        "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
    ]  # fmt: skip
    x = torch.randn(2, 4, 8, 8)
    assert list(OPS) == PRIMITIVES
    for make in OPS.values():
        assert make(4, 1, False)(x).shape == x.shape
        assert make(4, 2, True)(x).shape == (2, 4, 4, 4)


def test_a_genotype_prints_and_compares_as_the_namedtuple_of_darts() -> None:
    pairs = [("sep_conv_3x3", 0), ("skip_connect", 1)]
    genotype = Genotype(normal=pairs, normal_concat=range(2, 6), reduce=pairs, reduce_concat=range(2, 6))
    assert genotype._fields == ("normal", "normal_concat", "reduce", "reduce_concat")
    assert genotype == (pairs, range(2, 6), pairs, range(2, 6))
    assert repr(genotype).startswith(
        "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1)], normal_concat=range(2"
    )


def test_the_network_has_the_attributes_of_darts() -> None:
    model = network()
    assert [cell.reduction for cell in model.cells] == [False, True, True]
    assert [tuple(alpha.shape) for alpha in model.arch_parameters()] == [(14, 8), (14, 8)]
    assert model._arch_parameters[0] is model.alphas_normal
    assert model._arch_parameters[1] is model.alphas_reduce
    assert all(alpha.is_leaf and alpha.requires_grad for alpha in model.arch_parameters())
    assert 0.0005 < model.alphas_normal.std() < 0.002
    assert not {id(alpha) for alpha in model.arch_parameters()} & {id(p) for p in model.parameters()}
    assert not any("alpha" in name for name in model.state_dict())
    assert len(model.cells[0]._ops) == 14
    assert len(model.cells[0]._ops[0]._ops) == 8
    assert (model._C, model._num_classes, model._layers, model._steps, model._multiplier) == (4, 10, 3, 4, 4)
    assert model.stem[0].out_channels == 12
    assert model._loss(IMAGES, TARGETS).ndim == 0
    # The published size of the supernet without 'none', which has no weights.
    full = Network(16, 10, 8, nn.CrossEntropyLoss())
    assert sum(p.numel() for p in full.parameters()) == 1_930_618


def test_alpha_weighs_the_operations() -> None:
    model = network().eval()
    with torch.no_grad():
        for alpha in model.arch_parameters():
            alpha.fill_(-1e9)
            alpha[:, PRIMITIVES.index("skip_connect")] = 0
        s0 = s1 = model.stem(IMAGES)
        for cell in model.cells:
            states = [cell.preprocess0(s0), cell.preprocess1(s1)]
            for node in range(4):
                edges = range(sum(range(2, 2 + node)), sum(range(2, 3 + node)))
                states.append(sum(cell._ops[e]._ops[3](h) for e, h in zip(edges, states, strict=True)))
            s0, s1 = s1, torch.cat(states[2:], dim=1)
        torch.testing.assert_close(model(IMAGES), model.classifier(s1.mean(dim=(2, 3))))


def test_alpha_moves_with_the_network_and_stays_the_same_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "PRIMITIVES", THREE_OPERATIONS)
    model = network(steps=2, multiplier=2)
    held = torch.optim.Adam(model.arch_parameters())
    before = list(model.arch_parameters())
    values = [alpha.detach().clone() for alpha in before]
    model.double()
    assert all(now is then and now.dtype == torch.float64 for now, then in zip(model.arch_parameters(), before))  # noqa: B905
    model._loss(IMAGES.double(), TARGETS).backward()
    held.step()
    assert not torch.allclose(model.alphas_normal, values[0].double(), atol=1e-6)
    twin = copy.deepcopy(model)
    assert twin._arch_parameters[0] is twin.alphas_normal is not model.alphas_normal
    assert pickle.loads(pickle.dumps(model)).alphas_reduce.equal(model.alphas_reduce)


def test_alpha_that_is_assigned_is_used() -> None:
    model = network().eval()
    before = model(IMAGES)
    alpha = torch.full((14, 8), -50.0)
    alpha[:, PRIMITIVES.index("skip_connect")] = 50
    model.alphas_normal = alpha.clone().requires_grad_()
    assert not torch.allclose(model(IMAGES), before)
    assert {name for name, _ in model.genotype().normal} == {"skip_connect"}
    assert torch.equal(model.new().alphas_normal, alpha)
    model.double()
    assert model.alphas_normal.dtype == model._arch_parameters[0].dtype == torch.float64


def test_the_gradient_of_alpha_moves_with_the_network() -> None:
    model = network(steps=2, multiplier=2)
    model._loss(IMAGES, TARGETS).backward()
    gradient = model.alphas_normal.grad.clone()
    model.double()
    assert torch.equal(model.alphas_normal.grad, gradient.double())
    model._loss(IMAGES.double(), TARGETS).backward()


def test_new_has_the_same_configuration_and_alpha_and_other_weights() -> None:
    model = network(steps=2, multiplier=2, stem_multiplier=2).double()
    other = model.new()
    assert {k: (v.shape, v.dtype) for k, v in other.state_dict().items()} == {
        k: (v.shape, v.dtype) for k, v in model.state_dict().items()
    }
    for ours, theirs in zip(model.arch_parameters(), other.arch_parameters(), strict=True):
        assert torch.equal(ours, theirs)
        assert ours.data_ptr() != theirs.data_ptr()
    assert not torch.equal(other.stem[0].weight, model.stem[0].weight)


def test_genotype_takes_the_largest_alpha_except_that_of_none() -> None:
    model = network()
    with torch.no_grad():
        for alpha in model.arch_parameters():
            alpha.zero_()
            alpha[:, 0] = 9  # none
        model.alphas_normal[0, 4] = 1
        model.alphas_normal[1, 5] = 2  # the second input of the first node comes first
        model.alphas_normal[2, 6] = 1
        model.alphas_normal[4, 7] = 3
        model.alphas_reduce[9 + 3, 1] = 1
        model.alphas_reduce[9 + 1, 2] = 2
    genotype = model.genotype()
    assert genotype.normal[:4] == [
        ("sep_conv_5x5", 1), ("sep_conv_3x3", 0), ("dil_conv_5x5", 2), ("dil_conv_3x3", 0)
    ]  # fmt: skip
    assert genotype.reduce[6:] == [("avg_pool_3x3", 1), ("max_pool_3x3", 3)]
    assert genotype.normal_concat == range(2, 6)
    assert network(steps=3, multiplier=2).genotype().reduce_concat == range(3, 5)
    zcpt.get_space("darts").parse(repr(genotype))


class Toy(nn.Module):
    """Model whose loss is smooth in weights and architecture parameters, so that autograd gives the exact gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3, -0.7, 0.2], dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))
        self.alpha = torch.tensor([0.5, -0.2, 0.1], dtype=torch.float64, requires_grad=True)

    def arch_parameters(self) -> list[Tensor]:
        return [self.alpha]

    def loss(self, weight: Tensor, bias: Tensor, input: Tensor, target: Tensor) -> Tensor:
        return ((torch.tanh(input * weight * torch.sigmoid(self.alpha)).sum(1) + bias - target) ** 2).mean()

    def _loss(self, input: Tensor, target: Tensor) -> Tensor:
        return self.loss(self.weight, self.bias, input, target)

    def new(self) -> Toy:
        other = Toy()
        other.alpha.data.copy_(self.alpha.data)
        return other


@pytest.mark.parametrize("momentum", [False, True])
def test_the_unrolled_step_follows_the_exact_gradient(momentum: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    train, valid = (
        (torch.randn(5, 3, generator=generator).double(), torch.randn(5, generator=generator).double())
        for _ in range(2)
    )
    model = Toy()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    if momentum:
        model._loss(*train).backward()
        optimizer.step()
    buffers = [optimizer.state[p].get("momentum_buffer", 0.0) for p in model.parameters()]
    gradients = torch.autograd.grad(model._loss(*train), list(model.parameters()), create_graph=True)
    stepped = [
        p - 0.4 * (0.9 * buffer + g + 3e-4 * p)
        for p, g, buffer in zip(model.parameters(), gradients, buffers, strict=True)
    ]
    weight, bias = stepped
    (exact,) = torch.autograd.grad(model.loss(weight, bias, *valid), model.alpha)
    before = [p.detach().clone() for p in model.parameters()]
    architect = Architect(model, ARGS)
    architect.step(*train, *valid, 0.4, optimizer, unrolled=True)
    torch.testing.assert_close(model.alpha.grad, exact, rtol=1e-3, atol=1e-6)
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    (first_order,) = torch.autograd.grad(model._loss(*valid), model.alpha)
    assert (exact - first_order).abs().max() > 0.01


def test_a_first_order_step_is_adam_on_the_validation_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "PRIMITIVES", THREE_OPERATIONS)
    model = network(steps=2, multiplier=2)
    reference = copy.deepcopy(model)
    architect = Architect(model, ARGS)
    assert architect.model is model
    assert (architect.network_momentum, architect.network_weight_decay) == (0.9, 3e-4)
    weights = torch.optim.SGD(model.parameters(), lr=0.1)
    architect.step(IMAGES, TARGETS, IMAGES, TARGETS, 0.1, weights, unrolled=False)
    adam = torch.optim.Adam(reference.arch_parameters(), lr=3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    reference._loss(IMAGES, TARGETS).backward()
    adam.step()
    assert torch.equal(model.alphas_normal, reference.alphas_normal)
    assert torch.equal(model.alphas_reduce, reference.alphas_reduce)


def test_a_search_script_of_darts_runs_with_other_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    one_unrolled_step = ["--unrolled", "--train_portion", "0.25"]
    for flags, operations in (([], PRIMITIVES), (one_unrolled_step, THREE_OPERATIONS)):
        monkeypatch.setattr(sys, "argv", ["train_search.py", *flags])
        monkeypatch.setattr(compat, "PRIMITIVES", operations)
        left = runpy.run_path(str(Path(__file__).with_name("train_search.py")), run_name="__main__")
        model = left["model"]
        assert left["loss"] > 0
        assert all(alpha.abs().max() > 1e-4 for alpha in model.arch_parameters())
    weights = F.softmax(model.alphas_normal, dim=-1)
    genotype = zcpt.select(model, left["train_queue"], proxy="hashed", batch_size=4)
    zcpt.get_space("darts").parse(repr(genotype))
    assert torch.equal(F.softmax(model.alphas_normal, dim=-1), weights)


def test_zcpt_has_select_and_refuses_unknown_names() -> None:
    from zcpt.compat import select

    assert zcpt.select is select
    with pytest.raises(AttributeError, match="no attribute 'selekt'"):
        zcpt.selekt  # type: ignore[attr-defined]  # noqa: B018  # the mistake
