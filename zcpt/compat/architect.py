"""DARTS' update of the architecture parameters, of first and of second order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Architect:
    """Trains the architecture parameters of a DARTS search network.

    Args:
        model: Has ``_loss(input, target)``, ``arch_parameters()`` and ``new()``, as DARTS' ``Network`` has.
        args: Has ``momentum``, ``weight_decay`` (of the weights), ``arch_learning_rate`` and ``arch_weight_decay``.
    """

    def __init__(self, model: Any, args: Any) -> None:
        self.network_momentum = args.momentum
        self.network_weight_decay = args.weight_decay
        self.model = model
        self.optimizer = torch.optim.Adam(
            model.arch_parameters(),
            lr=args.arch_learning_rate,
            betas=(0.5, 0.999),
            weight_decay=args.arch_weight_decay,
        )

    def step(
        self,
        input_train: Tensor,
        target_train: Tensor,
        input_valid: Tensor,
        target_valid: Tensor,
        eta: float,
        network_optimizer: torch.optim.Optimizer,
        unrolled: bool,
    ) -> None:
        """Make one step on the validation loss.

        Args:
            eta: Learning rate of the weights.
            network_optimizer: Their SGD, whose momentum the unrolled step uses.
            unrolled: Take the loss after a step of the weights on the training batch (second order).
        """
        self.optimizer.zero_grad()
        if unrolled:
            train, valid = (input_train, target_train), (input_valid, target_valid)
            gradients = self._unrolled_gradients(train, valid, eta, network_optimizer)
            for alpha, gradient in zip(self.model.arch_parameters(), gradients, strict=True):
                alpha.grad = gradient
        else:
            self.model._loss(input_valid, target_valid).backward()
        self.optimizer.step()

    def _unrolled_gradients(
        self, train: tuple[Tensor, Tensor], valid: tuple[Tensor, Tensor], eta: float, optimizer: torch.optim.Optimizer
    ) -> list[Tensor]:
        unrolled = self._unrolled_model(train, eta, optimizer)
        alphas, weights = list(unrolled.arch_parameters()), list(unrolled.parameters())
        gradients = torch.autograd.grad(unrolled._loss(*valid), alphas + weights)
        direct, of_weights = gradients[: len(alphas)], gradients[len(alphas) :]
        implicit = self._hessian_vector_product(of_weights, train)
        return [ours - eta * theirs for ours, theirs in zip(direct, implicit, strict=True)]

    def _unrolled_model(self, train: tuple[Tensor, Tensor], eta: float, optimizer: torch.optim.Optimizer) -> Any:
        """A copy of the model after one step of SGD on the training batch."""
        weights = list(self.model.parameters())
        gradients = torch.autograd.grad(self.model._loss(*train), weights)
        copied = self.model.new()
        copied.load_state_dict(self.model.state_dict())
        with torch.no_grad():
            for new, old, gradient in zip(copied.parameters(), weights, gradients, strict=True):
                step = gradient + self.network_weight_decay * old
                momentum = optimizer.state[old].get("momentum_buffer") if old in optimizer.state else None
                if momentum is not None:
                    step += self.network_momentum * momentum
                new.copy_(old - eta * step)
        return copied

    def _hessian_vector_product(
        self, vector: Sequence[Tensor], train: tuple[Tensor, Tensor], r: float = 1e-2
    ) -> list[Tensor]:
        """The derivative of the training loss by weights, along ``vector``, and by architecture parameters.

        It is taken from two points of the weights at a distance of ``r`` to both sides.
        """
        weights, alphas = list(self.model.parameters()), list(self.model.arch_parameters())
        before = [weight.detach().clone() for weight in weights]
        length = r / torch.stack([part.norm() for part in vector]).norm()
        sides = []
        try:
            for sign in (1, -1):
                with torch.no_grad():
                    for weight, center, part in zip(weights, before, vector, strict=True):
                        weight.copy_(center + sign * length * part)
                sides.append(torch.autograd.grad(self.model._loss(*train), alphas))
        finally:
            with torch.no_grad():
                for weight, center in zip(weights, before, strict=True):
                    weight.copy_(center)
        return [(plus - minus) / (2 * length) for plus, minus in zip(*sides, strict=True)]
