"""Spaces that need no more than their supernet: network, cost and notation follow from its program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zcpt.architecture import Architecture
from zcpt.cost import Block, BlockPrice, count_parameters, measure_cost
from zcpt.errors import SpaceError
from zcpt.layers import AuxiliaryHead, DropPathNetwork, add_drop_path
from zcpt.mixture import Mixture
from zcpt.space import CellGraph, CheapestFinder, NetworkConfig, PublishedSettings, SearchSpace
from zcpt.supernet import Concat, Fixed, Mixed, Sum, Supernet


class SupernetSpace(SearchSpace):
    """A space of your own: say its choices, its ``search_size`` and how its supernet is built.

    The network of an architecture is what of the supernet it keeps, with weights of its own, and drop path behind what
    was chosen wherever that is only added to something else. Costs are counted on the modules. An architecture is
    written ``choice=candidate, choice=candidate``; of several kept candidates, ``choice=one+other``. Whatever suits a
    space better, it may override.
    """

    layer_unit: ClassVar[str] = "layers"
    published: ClassVar[PublishedSettings] = PublishedSettings(batch_size=64, alpha_draw="run")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # One size is meant for all that is built.
        for name in ("train_size", "small_size"):
            if hasattr(cls, "search_size") and not hasattr(cls, name):
                setattr(cls, name, cls.search_size)

    def check_network_config(self, config: NetworkConfig) -> None:
        """SpaceError unless the supernet of that config runs, has every choice, and no module serves twice."""
        _trace(self, config)

    def build_network(
        self, architecture: Architecture, config: NetworkConfig, *, auxiliary: bool = False
    ) -> DropPathNetwork:
        self.check(architecture)
        self.check_network_config(config)
        tapped = _auxiliary_input(self, architecture, config) if auxiliary else None
        net = self.build_supernet(config)
        return _Network(_kept(net, _decided(net, architecture)), config.num_classes, tapped)

    def blocks(self, architecture: Architecture, config: NetworkConfig) -> Iterator[Block]:
        self.check(architecture)
        self.check_network_config(config)
        traced = _trace(self, config)
        for step, _ in traced.net.list_live_steps(_decided(traced.net, architecture)):
            if isinstance(step, Mixed):
                yield from (traced.blocks[f"{step.out}.{name}"] for name in architecture.kept[step.choice])
            elif isinstance(step, Fixed):
                yield traced.blocks[step.out]

    def fixed_blocks(self, config: NetworkConfig) -> Iterator[Block]:
        traced = _trace(self, config)
        return (traced.blocks[step.out] for step in traced.net.program if isinstance(step, Fixed))

    def chosen_blocks(self, choice: str, candidate: str, config: NetworkConfig) -> Iterator[Block]:
        traced = _trace(self, config)
        steps = (step for step in traced.net.program if isinstance(step, Mixed) and step.choice == choice)
        return (traced.blocks[f"{step.out}.{candidate}"] for step in steps)

    def build_cheapest_finder(
        self, config: NetworkConfig, price: BlockPrice, valid_only: bool = False
    ) -> CheapestFinder:
        if any(isinstance(step, Sum) and step.choice for step in _trace(self, config).net.program):
            raise SpaceError(
                f"space '{self.name}' cannot keep budgets: what it computes depends on the inputs that it keeps. "
                "Leave the budget out, or override SearchSpace.build_cheapest_finder."
            )
        return super().build_cheapest_finder(config, price, valid_only)

    def parse(self, text: str) -> Architecture:
        """Read ``choice=candidate, choice=candidate``."""
        kept: dict[str, tuple[str, ...]] = {}
        for part in text.strip().split(", "):
            name, sign, candidates = part.partition("=")
            if not sign or name in kept:
                example = ", ".join(f"{c.name}={'+'.join(c.selectable[: c.keep])}" for c in self.choices)
                raise SpaceError(f"'{text.strip()}' is not of the form {example}.")
            kept[name] = tuple(candidates.split("+"))
        architecture = Architecture(self.name, kept)
        self.check(architecture)
        return architecture

    def format(self, architecture: Architecture) -> str:
        """Write ``choice=candidate, choice=candidate``."""
        self.check(architecture)
        return ", ".join(f"{choice.name}={'+'.join(architecture.kept[choice.name])}" for choice in self.choices)

    def cells(self, architecture: Architecture) -> tuple[CellGraph, ...]:
        """None: pictures list what was kept."""
        return ()


def _decided(net: Supernet, architecture: Architecture) -> Mixture:
    mixture = net.initial_mixture()
    for choice, kept in architecture.kept.items():
        mixture = mixture.select(choice, kept)
    return mixture


def _kept(net: Supernet, mixture: Mixture) -> Supernet:
    """What is computed under a mixture in which everything is decided: a supernet without choices."""
    body, live = Supernet(()), net.list_live_steps(mixture)
    # Dropping what is not added to anything would leave nothing of an image.
    alone = {out for step, reads in live for out in reads if not isinstance(step, Sum) or len(reads) == 1}
    for step, reads in live:
        if isinstance(step, Fixed):
            body.fixed(step.out, net.get_submodule(step.out), step.source)
        elif isinstance(step, Mixed):
            weights = zip(net.get_submodule(step.out).named_children(), mixture.weights[step.choice], strict=True)
            kept = [(name, module) for (name, module), weight in weights if weight]
            if step.out not in alone or len(kept) > 1:
                kept = [(name, add_drop_path(module)) for name, module in kept]
            body.sum(step.out, [body.fixed(f"{step.out}.{name}", module, step.source) for name, module in kept])
        elif isinstance(step, Concat):
            body.concat(step.out, reads)
        else:
            body.sum(step.out, reads)
    return body


class _Network(DropPathNetwork):
    def __init__(self, body: Supernet, classes: int, tapped: tuple[str, int] | None) -> None:
        super().__init__()
        self.body = body
        self.tapped, channels = tapped or ("", 0)
        self.auxiliary = AuxiliaryHead(channels, classes) if tapped else None

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.auxiliary is None or not self.training:
            logits: Tensor = self.body(images)
            return logits
        logits, features = self.body.compute_values(images, (self.body.program[-1].out, self.tapped))
        return logits, self.auxiliary(features)


@dataclass(frozen=True)
class _Traced:
    """A supernet on torch's device 'meta', where nothing is computed, and what runs through it."""

    net: Supernet
    shapes: Mapping[str, torch.Size]
    """Of every value, for one image."""
    blocks: Mapping[str, Block]
    """By the module's path."""


@lru_cache(maxsize=16)
def _trace(space: SearchSpace, config: NetworkConfig) -> _Traced:
    with torch.device("meta"), torch.no_grad():
        net = space.build_supernet(config)
        if not isinstance(net, Supernet):
            raise SpaceError(f"build_supernet of space '{space.name}' must return the Supernet, not {net!r}.")
        unused = {*net.choices} - {step.choice for step in net.program if isinstance(step, Mixed | Sum)}
        if unused:
            raise SpaceError(f"the supernet of space '{space.name}' has no step for its choice '{min(unused)}'.")
        names = (Supernet.IMAGES, *(step.out for step in net.program))
        unread = {*names[1:]} - {step.out for step, _ in net.list_live_steps(net.initial_mixture())}
        if unread:
            raise SpaceError(
                f"the last value of the supernet of space '{space.name}' does not depend on '{min(unread)}'."
            )
        try:
            values = net.eval().compute_values(torch.empty(1, config.in_channels, *config.image_size), names)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise SpaceError(
                f"the supernet of space '{space.name}' cannot be run on {config.in_channels}x{config.image_size[0]}x"
                f"{config.image_size[1]} images: {reason}."
            ) from error
    shapes = {name: value.shape for name, value in zip(names, values, strict=True)}
    blocks = {}
    for step in net.program:
        if isinstance(step, Fixed | Mixed):
            module = net.get_submodule(step.out)
            parts = [(step.out, module)]
            if isinstance(step, Mixed):
                parts = [(f"{step.out}.{name}", part) for name, part in module.named_children()]
            for path, part in parts:
                blocks[path] = _block(space, config, path, part, shapes[step.source], shapes[step.out])
    if sum(block.cost.params for block in blocks.values()) != count_parameters(net):
        raise SpaceError(f"a module serves twice in the supernet of space '{space.name}': give each step its own.")
    return _Traced(net, shapes, blocks)


def _block(
    space: SearchSpace, config: NetworkConfig, path: str, module: nn.Module, source: torch.Size, out: torch.Size
) -> Block:
    _, inputs, *entering = source
    stride = -(-entering[0] // out[2]) if entering and len(out) == 4 else 1
    cost = measure_cost(lambda: module, *source[1:])
    size = (entering[0], entering[1]) if entering else (1, 1)
    return Block(path, inputs, out[1], stride, size, cost, partial(_module, space, config, path, not entering))


def _module(space: SearchSpace, config: NetworkConfig, path: str, flat: bool) -> nn.Module:
    """The module of a block; where it reads vectors, maps of one pixel are made vectors for it."""
    module = space.build_supernet(config).get_submodule(path)
    return nn.Sequential(nn.Flatten(), module) if flat else module


def _auxiliary_input(space: SearchSpace, architecture: Architecture, config: NetworkConfig) -> tuple[str, int]:
    """The feature maps two thirds into the network, where DARTS has its auxiliary head, and their channels."""
    traced = _trace(space, config)
    live = [step.out for step, _ in traced.net.list_live_steps(_decided(traced.net, architecture))]
    maps = [name for name in live if len(traced.shapes[name]) == 4]
    if not maps:
        raise SpaceError(f"networks of space '{space.name}' have no feature maps for an auxiliary head: do without it.")
    name = maps[2 * len(maps) // 3]
    return name, traced.shapes[name][1]
