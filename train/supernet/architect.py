"""Gradients of architecture parameters, of first and second order (Liu et al., DARTS, ICLR 2019, section 2.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from train.supernet.alphas import ArchitectureParameters
from zcpt.mixture import Mixture

LabelledBatch = tuple[Tensor, Tensor]
"""Images [B, C, H, W] and their classes [B]."""


class Architect:
    """Computes gradients of architecture parameters, and leaves weights and statistics of BatchNorm as they are.

    Args:
        net: Supernet in training mode; it takes images and a mixture.
        alphas: Its architecture parameters.
        momentum: Momentum of the weights.
        weight_decay: Weight decay of the weights.
    """

    def __init__(
        self, net: nn.Module, alphas: ArchitectureParameters, momentum: float = 0.9, weight_decay: float = 3e-4
    ) -> None:
        self.net = net
        self.alphas = alphas
        self.momentum = momentum
        self.weight_decay = weight_decay

    def run(
        self, batch: LabelledBatch, mixture: Mixture, weights: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return loss and logits [B, classes] of a batch, with other weights if any are given."""
        images, labels = batch
        buffers = {name: buffer.clone() for name, buffer in self.net.named_buffers()}
        weighed = self.alphas.share(mixture)
        logits = functional_call(self.net, {**buffers, **(weights or {})}, (images, weighed))
        return F.cross_entropy(logits, labels), logits

    def compute_first_order(self, valid: LabelledBatch, mixture: Mixture) -> tuple[list[Tensor | None], Tensor, Tensor]:
        """Return the gradients of the validation loss at the weights as they are, the loss, and the logits."""
        loss, logits = self.run(valid, mixture)
        gradients = torch.autograd.grad(loss, self.alphas.list_tensors(), allow_unused=True)
        return list(gradients), loss, logits

    def compute_second_order(
        self,
        train: LabelledBatch,
        valid: LabelledBatch,
        mixture: Mixture,
        rate: float,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> tuple[list[Tensor | None], Tensor, Tensor]:
        """Return the gradients of the validation loss after the next step of the weights, the loss, and the logits.

        DARTS' code approximates the product of Hessian and vector by finite differences. Here autograd computes it.

        Args:
            train: Batch of the next step of the weights.
            valid: Batch of the validation loss.
            mixture: Decisions made so far.
            rate: Learning rate of the step.
            optimizer: SGD of the weights, whose momentum the step uses.
        """
        alphas, weights = self.alphas.list_tensors(), dict(self.net.named_parameters())
        train_loss, _ = self.run(train, mixture)
        used = torch.autograd.grad(train_loss, list(weights.values()), create_graph=True, allow_unused=True)
        gradients = {name: g for name, g in zip(weights, used, strict=True) if g is not None}
        stepped = {
            name: self._step(weights[name].detach(), gradient.detach(), rate, _get_momentum(optimizer, weights[name]))
            for name, gradient in gradients.items()
        }
        loss, logits = self.run(valid, mixture, stepped)
        count = len(alphas)
        # Equation 7 of the paper: dL_valid(w')/da - rate * d2L_train(w)/(da dw) * dL_valid(w')/dw'.
        valid_gradients = torch.autograd.grad(loss, [*alphas, *stepped.values()], allow_unused=True)
        pairs = [
            (gradient, vector)
            for gradient, vector in zip(gradients.values(), valid_gradients[count:], strict=True)
            if vector is not None and gradient.requires_grad
        ]
        implicit = _differentiate_products(pairs, alphas)
        direct = valid_gradients[:count]
        return [_subtract(a, b, rate) for a, b in zip(direct, implicit, strict=True)], loss, logits

    def _step(self, weight: Tensor, gradient: Tensor, rate: float, momentum: Tensor | None) -> Tensor:
        """Return a weight after a step of SGD, as a leaf."""
        step = gradient + self.weight_decay * weight
        if momentum is not None:
            step = step + self.momentum * momentum
        return (weight - rate * step).requires_grad_()


def _get_momentum(optimizer: torch.optim.Optimizer | None, weight: Tensor) -> Tensor | None:
    return None if optimizer is None else optimizer.state.get(weight, {}).get("momentum_buffer")


def _differentiate_products(pairs: Sequence[tuple[Tensor, Tensor]], alphas: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the gradients of the sum of the products gradient * vector; None where it does not depend on alpha."""
    if not pairs:
        return [None] * len(alphas)
    gradients, vectors = zip(*pairs, strict=True)
    return list(torch.autograd.grad(gradients, alphas, vectors, allow_unused=True))


def _subtract(direct: Tensor | None, implicit: Tensor | None, rate: float) -> Tensor | None:
    if direct is None:
        return None if implicit is None else -rate * implicit
    return direct if implicit is None else direct - rate * implicit
