"""DARTS' update of the architecture parameters, of first and of second order (Liu et al., ICLR 2019, section 2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Architect:
    """Optimiser of the architecture parameters of a DARTS search network.

    Args:
        model: Network with ``_loss(input, target)``, ``arch_parameters()`` and ``new()``, as DARTS' ``Network``.
        args: Namespace with ``momentum`` and ``weight_decay`` (of the weights), ``arch_learning_rate`` and
            ``arch_weight_decay``.
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
        """Update the architecture parameters by one step on the validation loss.

        Args:
            input_train: Images [B, C, H, W] of the training batch; only used if ``unrolled``.
            target_train: Their labels [B].
            input_valid: Images [B, C, H, W] of the validation batch.
            target_valid: Their labels [B].
            eta: Learning rate of the weights.
            network_optimizer: SGD of the weights, whose momentum the unrolled step uses.
            unrolled: Minimise the loss after one step of the weights on the training batch (second order).
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
        alpha_gradients, weight_gradients = gradients[: len(alphas)], gradients[len(alphas) :]
        # Equation 7 of the paper: dL_valid(w')/da - eta * d2L_train(w)/(da dw) * dL_valid(w')/dw'.
        implicit = self._hessian_vector_product(weight_gradients, train)
        return [direct - eta * correction for direct, correction in zip(alpha_gradients, implicit, strict=True)]

    def _unrolled_model(self, train: tuple[Tensor, Tensor], eta: float, optimizer: torch.optim.Optimizer) -> Any:
        """Return a copy of the model after one step of SGD on the training batch."""
        weights = list(self.model.parameters())
        gradients = torch.autograd.grad(self.model._loss(*train), weights)
        unrolled = self.model.new()
        unrolled.load_state_dict(self.model.state_dict())
        with torch.no_grad():
            for new, old, gradient in zip(unrolled.parameters(), weights, gradients, strict=True):
                step = gradient + self.network_weight_decay * old
                momentum = optimizer.state[old].get("momentum_buffer") if old in optimizer.state else None
                if momentum is not None:
                    step += self.network_momentum * momentum
                new.copy_(old - eta * step)
        return unrolled

    def _hessian_vector_product(
        self, vector: Sequence[Tensor], train: tuple[Tensor, Tensor], r: float = 1e-2
    ) -> list[Tensor]:
        """Compute the product of the Hessian of the training loss (alpha by weights) with ``vector``.

        It is the central difference of the gradients of alpha, with the weights moved by ``r`` along ``vector`` in both
        directions (equation 8 of the paper, with r = 0.01).
        """
        weights, alphas = list(self.model.parameters()), list(self.model.arch_parameters())
        before = [weight.detach().clone() for weight in weights]
        epsilon = r / torch.stack([part.norm() for part in vector]).norm()
        gradients = []
        try:
            for sign in (1, -1):
                with torch.no_grad():
                    for weight, center, part in zip(weights, before, vector, strict=True):
                        weight.copy_(center + sign * epsilon * part)
                gradients.append(torch.autograd.grad(self.model._loss(*train), alphas))
        finally:
            # The weights are put back from copies: undoing the additions, as DARTS does, leaves rounding errors.
            with torch.no_grad():
                for weight, center in zip(weights, before, strict=True):
                    weight.copy_(center)
        return [(plus - minus) / (2 * epsilon) for plus, minus in zip(*gradients, strict=True)]
