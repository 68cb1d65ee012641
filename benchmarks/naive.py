"""The field's way to score a perturbation, re-created to be compared with: see ``NaiveEngine``."""

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
    """One evaluation copies the supernet, hooks modules by class name, and takes two float products for each ReLU.

    Tensors are contiguous; every candidate's output is multiplied by its weight and added up in new tensors. On the
    spaces whose published code computes removed convolutions on zeros (``Mixture.feed_zeros``) this does so too.
    Counted are the same terms as by zcpt's naswot: those of the ReLUs of candidates that are not removed.
    """

    def __init__(self, net: Supernet) -> None:
        self.net = net.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self.blocks = any(isinstance(step, Mixed) and step.fed_zeros for step in net.program)

    def scores(self, mixtures: Sequence[Mixture], batch: Batch) -> list[float]:
        """Scores of mixtures on one batch."""
        images = batch.images.contiguous()
        return [self._score(mixture, images) for mixture in mixtures]

    @torch.no_grad()
    def _score(self, mixture: Mixture, images: Tensor) -> float:
        net, kernel = copy.deepcopy(self.net), np.zeros((len(images), len(images)))

        def count(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            nonlocal kernel
            x = (inputs[0].reshape(len(images), -1) > 0).float()
            kernel = kernel + (x @ x.t()).numpy() + ((1.0 - x) @ (1.0 - x.t())).numpy()

        removed = tuple(self._removed(mixture))
        for name, module in net.named_modules():
            if type(module).__name__ in ("ReLU", "ReLU6") and not name.startswith(removed):
                module.register_forward_hook(count)
        self._forward(net, images, mixture)
        return float(np.linalg.slogdet(kernel)[1])

    def _removed(self, mixture: Mixture) -> list[str]:
        """Where the candidates are that weigh 0."""
        found = []
        for step in self.net.program:
            if isinstance(step, Mixed):
                names = [name for name, _ in self.net.get_submodule(step.out).named_children()]
                row = mixture.weights[step.choice]
                found += [f"{step.out}.{name}." for name, w in zip(names, row, strict=True) if not w]
        return found

    def _forward(self, net: Supernet, images: Tensor, mixture: Mixture) -> Tensor:
        values = {net.IMAGES: images}
        for step in net.program:
            if isinstance(step, Fixed):
                values[step.out] = net.get_submodule(step.out)(values[step.source])
            elif isinstance(step, Mixed):
                modules = list(net.get_submodule(step.out).children())
                row = mixture.weights[step.choice]
                values[step.out] = self._mixed(modules, row, values[step.source])
            elif isinstance(step, Concat):
                values[step.out] = torch.cat([values[name] for name in step.sources], dim=1)
            else:
                row = mixture.weights[step.choice] if step.choice else (1.0,) * len(step.sources)
                terms = [values[name] for name, weight in zip(step.sources, row, strict=True) if weight]
                values[step.out] = _sum(terms)
        return values[net.program[-1].out]

    def _mixed(self, modules: Sequence[Callable[[Tensor], Tensor]], row: Sequence[float], x: Tensor) -> Tensor:
        if self.blocks:
            return _sum([(module(x) if w else module(x * 0)) * w for module, w in zip(modules, row, strict=True)])
        return _sum([module(x) * w for module, w in zip(modules, row, strict=True) if w])


def _sum(terms: Sequence[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
