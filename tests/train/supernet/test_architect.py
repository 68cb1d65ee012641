"""Gradients of architecture parameters beside those of numerical differentiation."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.supernet.alphas import ArchitectureParameters
from train.supernet.architect import Architect, LabelledBatch
from zcpt import Choice, Mixture, Supernet

RATE, MOMENTUM, DECAY = 0.3, 0.9, 3e-4


def make_supernet() -> Supernet:
    """Return a smooth supernet of two choices, in float64."""
    torch.manual_seed(0)
    net = Supernet([Choice("first", ("skip", "conv")), Choice("second", ("skip", "conv", "pool"))])
    source = net.fixed("stem", nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)), Supernet.IMAGES)
    for choice in ("first", "second"):
        candidates: dict[str, nn.Module] = {
            "skip": nn.Identity(),
            "conv": nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3, affine=False), nn.Tanh()),
            "pool": nn.AvgPool2d(3, 1, 1),
        }
        names = net.choices[choice].candidates
        source = net.mixed(choice, choice, {name: candidates[name] for name in names}, source)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    net.fixed("head", head, source)
    return net.double().train()


def draw_batch(seed: int) -> LabelledBatch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(6, 2, 4, 4, generator=generator, dtype=torch.float64)
    return images, torch.randint(4, (6,), generator=generator)


@pytest.fixture
def architect() -> Architect:
    net = make_supernet()
    alphas = {
        name: torch.randn(len(choice.candidates)).double().requires_grad_() for name, choice in net.choices.items()
    }
    return Architect(net, ArchitectureParameters(alphas), MOMENTUM, DECAY)


TRAIN, VALID = draw_batch(1), draw_batch(2)


def train_step(architect: Architect, mixture: Mixture, optimizer: torch.optim.SGD | None) -> dict[str, Tensor]:
    """Return the weights after a step of SGD, computed by torch's own optimiser on a copy."""
    copied = make_supernet()
    copied.load_state_dict(architect.net.state_dict())
    sgd = torch.optim.SGD(copied.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    if optimizer is not None:
        sgd.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        sgd.param_groups[0]["lr"] = RATE
    with torch.no_grad():
        shared = architect.alphas.share(mixture)
    F.cross_entropy(copied(TRAIN[0], shared), TRAIN[1]).backward()
    sgd.step()
    return {name: weight.detach() for name, weight in copied.named_parameters()}


def differentiate(architect: Architect, mixture: Mixture, unrolled: bool, sgd: torch.optim.SGD | None) -> list[Tensor]:
    """Return the central differences of the validation loss in every architecture parameter."""
    gradients = []
    for alpha in architect.alphas.list_tensors():
        values = torch.zeros_like(alpha)
        for index in range(len(alpha)):
            losses = []
            for sign in (1, -1):
                with torch.no_grad():
                    alpha[index] += sign * 1e-4
                weights = train_step(architect, mixture, sgd) if unrolled else None
                losses.append(architect.run(VALID, mixture, weights)[0].item())
                with torch.no_grad():
                    alpha[index] -= sign * 1e-4
            values[index] = (losses[0] - losses[1]) / 2e-4
        gradients.append(values)
    return gradients


def test_the_first_order_gradient_is_exact(architect: Architect) -> None:
    mixture = make_supernet().initial_mixture()
    gradients, loss, logits = architect.compute_first_order(VALID, mixture)
    expected = differentiate(architect, mixture, False, None)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(loss, F.cross_entropy(logits, VALID[1]))


@pytest.mark.parametrize("has_momentum", [False, True])
def test_the_second_order_gradient_is_exact(architect: Architect, has_momentum: bool) -> None:
    mixture = make_supernet().initial_mixture()
    optimizer = None
    if has_momentum:
        # torch's first step takes the plain gradient, so a momentum needs a step before.
        optimizer = torch.optim.SGD(architect.net.parameters(), lr=0.1, momentum=MOMENTUM, weight_decay=DECAY)
        with torch.no_grad():
            shared = architect.alphas.share(mixture)
        F.cross_entropy(architect.net(TRAIN[0], shared), TRAIN[1]).backward()
        optimizer.step()
        architect.net.zero_grad()
    gradients, _, _ = architect.compute_second_order(TRAIN, VALID, mixture, RATE, optimizer)
    expected = differentiate(architect, mixture, True, optimizer)
    torch.testing.assert_close(gradients, expected, rtol=0, atol=1e-7)
    first, _, _ = architect.compute_first_order(VALID, mixture)
    pairs = zip(gradients, first, strict=True)
    assert max(float((a - b).abs().max()) for a, b in pairs if a is not None and b is not None) > 1e-3


def test_gradients_change_neither_weights_nor_statistics_nor_decided_choices(architect: Architect) -> None:
    before = {name: tensor.clone() for name, tensor in architect.net.state_dict().items()}
    mixture = make_supernet().initial_mixture().select("second", ("conv",))
    for gradients, _, _ in (
        architect.compute_first_order(VALID, mixture),
        architect.compute_second_order(TRAIN, VALID, mixture, RATE),
    ):
        assert gradients[0] is not None
        assert gradients[1] is None
    assert all(torch.equal(tensor, before[name]) for name, tensor in architect.net.state_dict().items())
    assert all(weight.grad is None for weight in architect.net.parameters())


def test_a_removed_candidate_has_no_gradient_of_its_own_and_its_share_stays(architect: Architect) -> None:
    net = make_supernet()
    mixture = net.initial_mixture().without("second", "pool")
    shared, weighed = architect.alphas.share(mixture), architect.alphas.weigh(mixture)
    assert weighed.weights["second"][2] == 0
    full = architect.alphas.weigh(net.initial_mixture())
    assert weighed.weights["second"][:2] == full.weights["second"][:2]
    torch.testing.assert_close(net(TRAIN[0], shared), net(TRAIN[0], weighed))
