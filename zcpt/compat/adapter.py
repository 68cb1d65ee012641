"""An adapter that lets a mixture steer the mixed operations of another code base's search network."""

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
from zcpt.compat.inspection import MixedEdge, SearchNetworkStructure, unsupported
from zcpt.errors import ConfigError
from zcpt.mixture import Mixture
from zcpt.seeding import derive_seed
from zcpt.supernet import Stochastic


class SearchNetworkAdapter(Stochastic):
    """A DARTS-style search network as a supernet: its mixed operations follow a mixture instead of alpha.

    During a forward pass each mixed operation gets the weights of the mixture in place of its own, and a list ``_ops``
    without the operations of weight 0. The rest of its forward runs unchanged, such as the partial channels and the
    shuffle of PC-DARTS. An edge whose weights are all 0 gives zeros and computes nothing.

    Args:
        structure: The network, in evaluation mode.
        initial: The mixture in which nothing is decided.
        batch: Images [B, C, H, W] for a trial forward pass, which records the shape of each edge's output.

    Raises:
        ConfigError: The forward pass fails, or does not run the mixed operations as DARTS does.
    """

    def __init__(self, structure: SearchNetworkStructure, initial: Mixture, batch: Batch) -> None:
        super().__init__()
        self.network = structure.network
        self._edges = structure.edges
        self._initial = initial
        self._forwards = [(edge.module.forward, inspect.signature(edge.module.forward)) for edge in self._edges]
        self._weight_tensors: dict[tuple[float, ...], Tensor] = {}
        self._shapes: dict[int, torch.Size] = {}
        """Shape [C, H, W] of each edge's output."""
        self._num_classes = self._run_trial(self.place(batch).images)

    @property
    def choices(self) -> Mapping[str, Choice]:
        """All choices, by name."""
        return self._initial.choices

    @property
    def num_classes(self) -> int:
        """Number of classes, which is that of the logits."""
        return self._num_classes

    @property
    def channels(self) -> int:
        """Output channels of the first edge."""
        return self._shapes[0][0]

    def initial_mixture(self) -> Mixture:
        """Return the mixture in which nothing is decided."""
        return self._initial

    def place(self, batch: Batch) -> Batch:
        """Move a batch to the device and type of the network.

        The images are contiguous: code that flattens with ``view``, as DARTS does, may fail on channels-last images.
        """
        like = next(self.network.parameters())
        return Batch(batch.images.to(like).contiguous(), batch.labels.to(like.device), batch.seed)

    def forward(self, images: Tensor, mixture: Mixture | None = None) -> Tensor:
        """Run the network.

        Args:
            images: Images [B, C, H, W] of a batch from ``place``.
            mixture: Weights of all candidates; None means nothing decided.

        Returns:
            Logits [B, classes].

        Raises:
            SpaceError: The mixture belongs to another supernet.
        """
        mixture = self.initial_mixture() if mixture is None else mixture
        mixture.check_choices(self.choices)
        with self._replace_forwards(mixture):
            self._reseed(images.device, "network")
            output = self.network(images)
        # Networks with an auxiliary head return (logits, auxiliary logits).
        logits: Tensor = output[0] if isinstance(output, tuple) else output
        return logits

    @torch.no_grad()
    def _run_trial(self, images: Tensor) -> int:
        """Run the network once, check that it runs every edge, and return the number of classes."""
        name, images = type(self.network).__name__, images[:2]
        try:
            logits = self(images)
        except Exception as error:  # the network is the user's code and may raise anything
            reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
            raise ConfigError(
                f"a trial forward pass, {name}(images) with images {list(images.shape)}, failed "
                f"({type(error).__name__}: {reason}): pass a network that takes images alone, and images that fit it."
            ) from error
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            raise unsupported(f"the forward pass of {name} does not return logits")
        for number, edge in enumerate(self._edges):
            if number not in self._shapes:
                raise unsupported(f"the forward pass of {name} does not run {edge.path}")
        return logits.shape[1]

    @contextmanager
    def _replace_forwards(self, mixture: Mixture) -> Iterator[None]:
        """Let the mixed operations follow a mixture for a while."""
        # ``forward`` is put into the dictionary of the instance, where Python finds it before the method of the class,
        # so that the class and other instances stay as they are. It goes there directly: setattr would make torch's
        # nn.Module look for parameters and modules in it, and a user's class may have a __setattr__ of its own. An
        # entry that was there before (some code wraps ``forward`` per instance) is put back at the end.
        attributes = [vars(edge.module) for edge in self._edges]
        earlier = [{key: value for key, value in own.items() if key == "forward"} for own in attributes]
        try:
            for number, (edge, own) in enumerate(zip(self._edges, attributes, strict=True)):
                own["forward"] = partial(self._forward_mixed, number, _edge_weights(edge, mixture))
            yield
        finally:
            for own, before in zip(attributes, earlier, strict=True):
                own.pop("forward", None)
                own.update(before)

    def _forward_mixed(self, number: int, row: tuple[float, ...], *args: Any, **kwargs: Any) -> Tensor:
        """Run a mixed operation with the weights ``row`` in place of those that its cell passes."""
        (forward, signature), module = self._forwards[number], self._edges[number].module
        # The first two parameters are input and weights in all three code bases, under various names. Further ones
        # are passed on.
        bound, (source, weights, *_) = signature.bind(*args, **kwargs), signature.parameters
        x: Tensor = bound.arguments[source]
        present = [index for index, weight in enumerate(row) if weight]
        if not present:
            # A sum over an empty ``_ops`` would be the integer 0, which PC-DARTS cannot concatenate.
            return x.new_zeros(len(x), *self._shapes[number])
        bound.arguments[weights] = self._weight_tensor(tuple(row[index] for index in present), x)
        # One seed for each edge: the numbers that random operations draw (DARTS-PT's 'noise' in space S4) must not
        # depend on which other edges and operations are present.
        self._reseed(x.device, number)
        # All three code bases zip the weights with ``self._ops``, so both are shortened. This, too, bypasses setattr.
        operations: Any = module._ops
        module._modules["_ops"] = nn.ModuleList(operations[index] for index in present)
        try:
            output: Tensor = forward(*bound.args, **bound.kwargs)
        finally:
            module._modules["_ops"] = operations
        self._shapes.setdefault(number, output.shape[1:])
        return output

    def _weight_tensor(self, row: tuple[float, ...], x: Tensor) -> Tensor:
        # Cached: there are few distinct rows, and copying one to a GPU for every edge takes longer than some edges.
        if row not in self._weight_tensors:
            self._weight_tensors[row] = x.new_tensor(row)
        return self._weight_tensors[row]

    def _reseed(self, device: torch.device, *purpose: int | str) -> None:
        # Foreign operations draw from torch's global generators, so those are seeded. ``preserve`` restores them.
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


def _edge_weights(edge: MixedEdge, mixture: Mixture) -> tuple[float, ...]:
    """Return the weights of an edge's operations, times the weight of the edge among its node's inputs."""
    row, inputs = mixture.weights[edge.operation], mixture.weights.get(edge.inputs)
    kept = 1.0 if inputs is None else inputs[edge.source]
    return tuple(kept * weight for weight in row)
