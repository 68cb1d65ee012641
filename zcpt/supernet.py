"""Supernets: one network with all candidates of every choice, described by a program of steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from zcpt.architecture import Choice
from zcpt.errors import SpaceError, describe_unknown_name, refuse_old_names
from zcpt.mixture import Mixture


class Scorable(Protocol):
    """What scoring needs of a network.

    Three kinds of torch modules have it: a ``Supernet``; an adapter of a search network from other code
    (``zcpt.compat``); and a discrete network, which takes images alone and is scored under the mixture None. No base
    class is required, but the object must be a ``torch.nn.Module``, because proxies hook and read its modules.
    """

    def __call__(self, images: Tensor, /) -> Any:
        """Return logits [B, classes] for images [B, C, H, W]; a search network takes a mixture as second argument."""
        ...

    def modules(self) -> Iterator[nn.Module]:
        """Iterate over the network and all modules in it, each once."""
        ...

    def eval(self) -> Any:
        """Switch the network and all modules in it to evaluation mode."""
        ...


@dataclass(frozen=True)
class Fixed:
    """Step whose value ``out`` is the module of that name applied to ``source``."""

    out: str
    source: str


@dataclass(frozen=True)
class Mixed:
    """Step whose value is the sum of a choice's candidates, each applied to ``source`` and weighted by the mixture."""

    out: str
    source: str
    choice: str
    fed_zeros: tuple[int, ...] = ()
    """Indices of candidates that the published code computes on zeros where they weigh 0 (``Mixture.feed_zeros``)."""


@dataclass(frozen=True)
class Sum:
    """Step whose value is the sum of ``sources``, weighted by the mixture where the inputs are a choice."""

    out: str
    sources: tuple[str, ...]
    choice: str | None = None


@dataclass(frozen=True)
class Concat:
    """Step whose value is the concatenation of ``sources`` along the channels."""

    out: str
    sources: tuple[str, ...]


Step = Fixed | Mixed | Sum | Concat
Weight = float | Tensor
"""Weight of a candidate: a number, or a tensor without dimensions into which gradients flow."""


class Stochastic(nn.Module):
    """A module that draws random numbers in its forward pass.

    Scoring sets ``seed``, so that a score is reproducible and all candidates of a choice are compared under the same
    numbers. Without a seed it draws from torch's generator, as in training.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seed: int | None = None
        """Seed of every forward pass; None draws from torch's generator."""

    def normal_like(self, x: Tensor) -> Tensor:
        """Draw standard normal numbers with the shape, dtype and device of ``x``."""
        if self.seed is None:
            return torch.randn_like(x)
        else:  # noqa: RET505  # torch.jit.script leaves out this branch only, and it cannot compile generators
            generator = torch.Generator(x.device).manual_seed(self.seed)
            return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)


_RENAMED = {"start": "initial_mixture", "live": "list_live_steps", "values": "compute_values"}
"""Method of a supernet in version 0.1 -> its name now."""


class Supernet(nn.Module):
    """A network described by a program: a list of steps, each of which computes one named value.

    A space builds it step by step with ``fixed``, ``mixed``, ``sum`` and ``concat``. The first value is ``IMAGES``, the
    last one the logits. The modules of a step are registered under the name of its value, so parameters have names such
    as ``cells.0.node2.edge1.sep_conv_3x3.1.weight``.

    Args:
        choices: All choices, each of which some step must use.
    """

    IMAGES = "images"
    """Name of the value that is the batch."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_old_names(cls, _RENAMED, SpaceError)

    def __init__(self, choices: Sequence[Choice]) -> None:
        super().__init__()
        self.choices = {choice.name: choice for choice in choices}
        self.program: list[Step] = []
        self._values = {self.IMAGES}

    def fixed(self, name: str, module: nn.Module, source: str) -> str:
        """Append a step that applies a module.

        Args:
            name: Name of the new value, and path of the module.
            module: The module.
            source: Name of the value that it is applied to.

        Returns:
            ``name``, as the other methods that append a step.

        Raises:
            SpaceError: The name is taken, or the source is unknown.
        """
        out = self._append(Fixed(name, source))
        self._place(name, module)
        return out

    def mixed(
        self,
        name: str,
        choice: str,
        candidates: Mapping[str, nn.Module],
        source: str,
        fed_zeros: Sequence[int] = (),
    ) -> str:
        """Append a step that adds up the candidates of a choice, weighted by the mixture.

        Args:
            name: Name of the new value, and path of the modules.
            choice: Name of the choice.
            candidates: One module for each candidate, in the choice's order.
            source: Name of the value that they are applied to.
            fed_zeros: Indices of candidates that can be computed on zeros (``forward(x, blocked=True)``).

        Raises:
            SpaceError: The choice or the source is unknown, the candidates are others, or the name is taken.
        """
        if tuple(candidates) != self._choice(name, choice).candidates:
            raise SpaceError(f"{name} must have the candidates of {choice}, in that order.")
        out = self._append(Mixed(name, source, choice, tuple(fed_zeros)))
        try:
            self._place(name, nn.ModuleDict(candidates))
        except KeyError as error:
            raise SpaceError(f"a candidate of {choice} has a name that no module can have: {error.args[0]}.") from None
        return out

    def sum(self, name: str, sources: Sequence[str], choice: str | None = None) -> str:
        """Append a step that adds values; with a choice, its candidates are the values in this order."""
        if choice is not None and len(self._choice(name, choice).candidates) != len(sources):
            raise SpaceError(f"{name} must have one input for each candidate of {choice}.")
        return self._append(Sum(name, tuple(sources), choice))

    def concat(self, name: str, sources: Sequence[str]) -> str:
        """Append a step that concatenates values along the channels."""
        return self._append(Concat(name, tuple(sources)))

    def _choice(self, name: str, choice: str) -> Choice:
        if choice not in self.choices:
            raise SpaceError(f"{name} has an {describe_unknown_name('choice', choice, self.choices)}")
        return self.choices[choice]

    def _append(self, step: Step) -> str:
        sources = step.sources if isinstance(step, Sum | Concat) else (step.source,)
        for source in sources:
            if source not in self._values:
                raise SpaceError(f"{step.out} reads an {describe_unknown_name('value', source, self._values)}")
        if step.out in self._values:
            raise SpaceError(f"two values are named '{step.out}': give each step a name of its own.")
        self._values.add(step.out)
        self.program.append(step)
        return step.out

    def _place(self, name: str, module: nn.Module) -> None:
        *path, last = name.split(".")
        parent: nn.Module = self
        for part in path:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(last, module)

    def initial_mixture(self) -> Mixture:
        """Return the mixture in which nothing is decided."""
        return Mixture.initial(tuple(self.choices.values()))

    def list_live_steps(self, mixture: Mixture) -> list[tuple[Step, tuple[str, ...]]]:
        """Return the steps that the output depends on under a mixture, each with the names of the values it reads.

        Raises:
            SpaceError: The mixture belongs to another supernet.
        """
        mixture.check_choices(self.choices)
        needed, steps = {self.program[-1].out}, []
        for step in reversed(self.program):
            if step.out in needed:
                reads = _reads(step, mixture)
                needed.update(reads)
                steps.append((step, reads))
        return steps[::-1]

    def forward(self, images: Tensor, mixture: Mixture | None = None) -> Tensor:
        """Run the program and return its last value.

        Args:
            images: [B, C, H, W].
            mixture: Weights of all candidates; None means nothing decided. Candidates of weight 0, and values that
                only they read, are not computed. Gradients flow into its ``shares``.

        Returns:
            Logits [B, classes].

        Raises:
            SpaceError: The mixture belongs to another supernet, or leaves nothing to compute a value from.
        """
        (logits,) = self.compute_values(images, (self.program[-1].out,), mixture)
        return logits

    def compute_values(self, images: Tensor, names: Sequence[str], mixture: Mixture | None = None) -> list[Tensor]:
        """Run the program and return the values of those names, all of which the last value must depend on."""
        mixture = self.initial_mixture() if mixture is None else mixture
        steps = self.list_live_steps(mixture)
        last_read = {name: index for index, (_, reads) in enumerate(steps) for name in reads}
        values = {self.IMAGES: images}
        for index, (step, reads) in enumerate(steps):
            values[step.out] = self._run(step, [values[name] for name in reads], mixture)
            for name in set(reads):  # free values early: activations of a supernet are most of its memory
                if last_read[name] == index and name not in names:
                    del values[name]
        return [values[name] for name in names]

    def _run(self, step: Step, inputs: list[Tensor], mixture: Mixture) -> Tensor:
        if isinstance(step, Fixed):
            output: Tensor = self.get_submodule(step.out)(inputs[0])
            return output
        if isinstance(step, Concat):
            return torch.cat(inputs, dim=1)
        if isinstance(step, Mixed):
            return _weighted_sum(step.out, self._candidates(step, inputs[0], mixture))
        row = _list_weights(step.choice, mixture) if step.choice else (1.0,) * len(inputs)
        return _weighted_sum(step.out, zip(inputs, (weight for weight in row if weight is not None), strict=True))

    def _candidates(self, step: Mixed, source: Tensor, mixture: Mixture) -> Iterator[tuple[Tensor, Weight]]:
        modules = self.get_submodule(step.out).children()
        row = _list_weights(step.choice, mixture)
        for index, (module, weight) in enumerate(zip(modules, row, strict=True)):
            if weight is not None:
                yield module(source), weight
            elif mixture.feed_zeros and index in step.fed_zeros:
                module(source, blocked=True)


def _list_weights(choice: str, mixture: Mixture) -> list[Weight | None]:
    """Return the weight of each candidate; None for those that the mixture removes."""
    row = mixture.weights[choice]
    # Whether a candidate is computed never depends on a tensor: reading it would make the host wait for the device.
    weights: Sequence[Weight] = mixture.shares[choice].unbind() if choice in mixture.shares else row
    return [weight if kept else None for kept, weight in zip(row, weights, strict=True)]


def _reads(step: Step, mixture: Mixture) -> tuple[str, ...]:
    if isinstance(step, Fixed | Mixed):
        return (step.source,)
    if isinstance(step, Concat) or step.choice is None:
        return step.sources
    row = mixture.weights[step.choice]
    return tuple(source for source, weight in zip(step.sources, row, strict=True) if weight)


def _weighted_sum(name: str, terms: Iterable[tuple[Tensor, Weight]]) -> Tensor:
    total: Tensor | None = None
    # Whether total was allocated here and may be added to in place. A candidate's own output may not: skip_connect
    # returns its input, which other steps read.
    owned = False
    for tensor, weight in terms:
        if total is None:
            is_one = not isinstance(weight, Tensor) and weight == 1
            total, owned = (tensor, False) if is_one else (tensor * weight, True)
        elif tensor.shape != total.shape:
            raise unequal_shapes_error(name, total.shape, tensor.shape)
        elif isinstance(weight, Tensor):
            total = total.addcmul_(tensor, weight) if owned else total.addcmul(tensor, weight)
            owned = True
        else:
            total = total.add_(tensor, alpha=weight) if owned else total.add(tensor, alpha=weight)
            owned = True
    if total is None:
        raise nothing_left_error(name)
    return total


def nothing_left_error(name: str) -> SpaceError:
    """Return the error for a mixture in which everything that a value is computed from weighs 0."""
    return SpaceError(f"the mixture removes everything that '{name}' could be computed from.")


def unequal_shapes_error(name: str, one: Sequence[int], other: Sequence[int]) -> SpaceError:
    """Return the error for a sum of values whose shapes differ."""
    return SpaceError(
        f"'{name}' adds values of different shapes, {list(one)} and {list(other)}: all "
        "candidates of a choice must give the same number of channels, height and width."
    )
