"""The usual implementation of perturbation scoring, re-created for comparison: see ``NaiveEngine``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zcpt.batches import Batch
from zcpt.mixture import Mixture
from zcpt.supernet import Concat, Fixed, Mixed, Supernet


class NaiveEngine:
    """Scores naswot as published implementations do: a deep copy, forward hooks and float products.

    Each evaluation copies the supernet, finds the ReLUs by class name, and takes two float products for each. Tensors
    are contiguous; the output of every candidate is multiplied by its weight and added up in new tensors. On the
    spaces whose published code computes removed convolutions on zeros (``Mixture.feed_zeros``) this one does too.

    It counts the same terms as zcpt's naswot: those of the ReLUs of candidates that are not removed. Only edges of
    ``darts`` whose node has dropped them are counted too. Inputs of a node are added without weights: they are 1 on the
    spaces that are measured.
    """

    def __init__(self, net: Supernet) -> None:
        self.net = net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.feeds_zeros = any(isinstance(step, Mixed) and step.fed_zeros for step in net.program)

    def score_mixtures(self, mixtures: Sequence[Mixture], batch: Batch) -> list[float]:
        """Return the score of each mixture on the same batch."""
        images = batch.images.contiguous()
        return [self._score_mixture(mixture, images) for mixture in mixtures]

    @torch.no_grad()
    def _score_mixture(self, mixture: Mixture, images: Tensor) -> float:
        net, kernel = copy.deepcopy(self.net), np.zeros((len(images), len(images)))

        def count_signs(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            nonlocal kernel
            x = (inputs[0].reshape(len(images), -1) > 0).float()
            kernel = kernel + (x @ x.t()).numpy() + ((1.0 - x) @ (1.0 - x.t())).numpy()

        removed = tuple(self._list_removed_prefixes(mixture))
        for name, module in net.named_modules():
            if type(module).__name__ in ("ReLU", "ReLU6") and not name.startswith(removed):
                module.register_forward_hook(count_signs)
        self._run_network(net, images, mixture)
        return float(np.linalg.slogdet(kernel)[1])

    def _list_removed_prefixes(self, mixture: Mixture) -> list[str]:
        """List the prefixes of the module names of candidates that weigh 0."""
        prefixes = []
        for step in self.net.program:
            if isinstance(step, Mixed):
                names = [name for name, _ in self.net.get_submodule(step.out).named_children()]
                weights = mixture.weights[step.choice]
                prefixes += [f"{step.out}.{name}." for name, w in zip(names, weights, strict=True) if not w]
        return prefixes

    def _run_network(self, net: Supernet, images: Tensor, mixture: Mixture) -> Tensor:
        values = {net.IMAGES: images}
        for step in net.program:
            if isinstance(step, Fixed):
                values[step.out] = net.get_submodule(step.out)(values[step.source])
            elif isinstance(step, Mixed):
                modules = list(net.get_submodule(step.out).children())
                weights = mixture.weights[step.choice]
                values[step.out] = self._mix_candidates(modules, weights, values[step.source])
            elif isinstance(step, Concat):
                values[step.out] = torch.cat([values[name] for name in step.sources], dim=1)
            else:
                weights = mixture.weights[step.choice] if step.choice else (1.0,) * len(step.sources)
                terms = [values[name] for name, weight in zip(step.sources, weights, strict=True) if weight]
                values[step.out] = add_terms(terms)
        return values[net.program[-1].out]

    def _mix_candidates(
        self, modules: Sequence[Callable[[Tensor], Tensor]], weights: Sequence[float], x: Tensor
    ) -> Tensor:
        weighted = list(zip(modules, weights, strict=True))
        if self.feeds_zeros:
            return add_terms([(module(x) if w else module(x * 0)) * w for module, w in weighted])
        return add_terms([module(x) * w for module, w in weighted if w])


def add_terms(terms: Sequence[Tensor]) -> Tensor:
    """Add up tensors from left to right, each time in a new tensor."""
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
