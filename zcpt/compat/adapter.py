"""Somebody else's search network, made to look like a supernet."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zcpt.architecture import Choice
from zcpt.batches import Batch
from zcpt.compat.inspection import Anatomy, Edge, unsupported
from zcpt.errors import ConfigError
from zcpt.mixture import Mixture
from zcpt.seeding import derive_seed
from zcpt.supernet import Stochastic


class Adopted(Stochastic):
    """A search network whose mixed operations follow a mixture instead of its architecture parameters.

    For the time of a forward pass each mixed operation is handed our weights in place of its own, and a list of
    operations from which those that weigh 0 are missing. What else it does, such as PC-DARTS' shuffle of channels, it
    goes on doing. An edge without any weight gives zeros and computes nothing.

    Args:
        anatomy: The network, in evaluation mode.
        start: The mixture in which nothing is decided.
        batch: Some images [B, C, H, W], to find out the shapes of what edges give.

    Raises:
        ConfigError: The forward pass fails, or does not use the mixed operations as those of DARTS does.
    """

    def __init__(self, anatomy: Anatomy, start: Mixture, batch: Batch) -> None:
        super().__init__()
        self.network, self._edges, self._start = anatomy.network, anatomy.edges, start
        self._forwards = [(edge.module.forward, inspect.signature(edge.module.forward)) for edge in self._edges]
        self._rows: dict[tuple[float, ...], Tensor] = {}
        self._shapes: dict[int, torch.Size] = {}
        """What each edge gives, without the batch."""
        self._try(self.place(batch).images)

    @property
    def choices(self) -> Mapping[str, Choice]:
        """All choices, by name."""
        return self._start.choices

    @property
    def num_classes(self) -> int:
        """How many logits the network gives."""
        return self._num_classes

    @property
    def channels(self) -> int:
        """Channels of the first edge."""
        return self._shapes[0][0]

    def start(self) -> Mixture:
        """The mixture in which nothing is decided."""
        return self._start

    def place(self, batch: Batch) -> Batch:
        """Make a batch one for this network: of its device and type, and in the layout that ``.view`` needs."""
        like = next(self.network.parameters())
        return Batch(batch.images.to(like).contiguous(), batch.labels.to(like.device), batch.seed)

    def forward(self, images: Tensor, mixture: Mixture | None = None) -> Tensor:
        """Run the network.

        Args:
            images: [B, C, H, W], of a batch that ``place`` made.
            mixture: Weights of all candidates; None means nothing decided.

        Returns:
            Logits [B, classes].
        """
        with self._taken_over(self.start() if mixture is None else mixture):
            self._reseed(images.device, "network")
            logits = self.network(images)
        first: Tensor = logits[0] if isinstance(logits, tuple) else logits
        return first

    @torch.no_grad()
    def _try(self, images: Tensor) -> None:
        images = images[:2]
        try:
            logits = self(images)
        except Exception as error:  # whatever a stranger's network raises
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise ConfigError(
                f"a trial forward pass, {type(self.network).__name__}(images) with images {list(images.shape)}, failed "
                f"({type(error).__name__}: {reason}): pass a network that takes images alone, and images that fit it."
            ) from error
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise unsupported(f"the forward pass of {type(self.network).__name__} does not return logits")
        for number, edge in enumerate(self._edges):
            if number not in self._shapes:
                raise unsupported(f"the forward pass of {type(self.network).__name__} does not run {edge.where}")
        self._num_classes = logits.shape[1]

    @contextmanager
    def _taken_over(self, mixture: Mixture) -> Iterator[None]:
        # Around torch's own setattr: a forward in the module's dictionary comes before the one of its class.
        attributes = [vars(edge.module) for edge in self._edges]
        earlier = [{k: v for k, v in mine.items() if k == "forward"} for mine in attributes]
        try:
            for number, (edge, mine) in enumerate(zip(self._edges, attributes, strict=True)):
                mine["forward"] = partial(self._mix, number, _row(edge, mixture))
            yield
        finally:
            for mine, before in zip(attributes, earlier, strict=True):
                mine.pop("forward", None)
                mine.update(before)

    def _mix(self, number: int, row: tuple[float, ...], *args: Any, **kwargs: Any) -> Tensor:
        """What the mixed operation of an edge does instead of its forward(x, weights)."""
        (forward, signature), module = self._forwards[number], self._edges[number].module
        given, (source, weights, *_) = signature.bind(*args, **kwargs), signature.parameters
        x: Tensor = given.arguments[source]
        live = [index for index, weight in enumerate(row) if weight]
        if not live:
            return x.new_zeros(len(x), *self._shapes[number])
        given.arguments[weights] = self._weights(tuple(row[index] for index in live), x)
        # One seed for each edge: what random operations draw must not depend on whether others are there.
        self._reseed(x.device, number)
        operations: Any = module._ops
        module._modules["_ops"] = nn.ModuleList(operations[index] for index in live)
        try:
            output: Tensor = forward(*given.args, **given.kwargs)
        finally:
            module._modules["_ops"] = operations
        self._shapes.setdefault(number, output.shape[1:])
        return output

    def _weights(self, row: tuple[float, ...], x: Tensor) -> Tensor:
        """The row as a tensor; kept, because copying many small ones to a device takes its time."""
        if row not in self._rows:
            self._rows[row] = x.new_tensor(row)
        return self._rows[row]

    def _reseed(self, device: torch.device, *purpose: int | str) -> None:
        if self.seed is None:
            return
        seed = derive_seed(self.seed, *purpose)
        torch.default_generator.manual_seed(seed)
        if device.type == "mps":
            torch.mps.manual_seed(seed)
        elif device.type != "cpu":
            backend = getattr(torch, device.type)
            with backend.device(device):
                backend.manual_seed(seed)


def _row(edge: Edge, mixture: Mixture) -> tuple[float, ...]:
    row, inputs = mixture.weights[edge.operation], mixture.weights.get(edge.inputs)
    kept = 1.0 if inputs is None else inputs[edge.source]
    return tuple(kept * weight for weight in row)
