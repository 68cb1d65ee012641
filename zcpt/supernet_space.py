"""Base class of spaces that only define their supernet: network, cost and notation are derived from its program."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial, reduce
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.fx import Graph, GraphModule, Interpreter

from zcpt.architecture import Architecture
from zcpt.cost import Block, BlockPrice, addition_block, concatenation_block, count_parameters, measure_cost
from zcpt.errors import NotationError, SpaceError
from zcpt.layers import AuxiliaryHead, DropPathNetwork, add_drop_path, build_classifier
from zcpt.mixture import Mixture
from zcpt.notation import clean_text
from zcpt.printing import shorten
from zcpt.space import CellGraph, CheapestFinder, NetworkConfig, PublishedSettings, SearchSpace
from zcpt.staged_network import run_checkpointed
from zcpt.supernet import Concat, Fixed, Mixed, Step, Sum, Supernet

_DROPOUT = "dropout_of_features"
"""Name of the dropout before the classifier of discrete networks. It has no weights."""


class SupernetSpace(SearchSpace):
    """Base class of a space of your own: set ``choices`` and ``search_size``, and implement ``build_supernet``.

    The rest is derived from the supernet:

    - The discrete network of an architecture is the part of the supernet that it keeps, with fresh weights. Drop path
      follows a chosen operation wherever its output is only added to something else.
    - Costs are measured on the modules.
    - The text notation is ``choice=candidate, choice=candidate``; several kept candidates are ``choice=one+two``.

    Every method may be overridden.
    """

    layer_unit: ClassVar[str] = "layers"
    published: ClassVar[PublishedSettings] = PublishedSettings(batch_size=64, alpha_draw="run")

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # A space with one size uses it for every purpose.
        for name in ("train_size", "small_size"):
            if hasattr(cls, "search_size") and not hasattr(cls, name):
                setattr(cls, name, cls.search_size)

    def check_network_config(self, config: NetworkConfig) -> None:
        """Raise SpaceError if the supernet of a config cannot be run, lacks a choice, or shares a module."""
        _analyze_supernet(self, config)

    def build_network(
        self, architecture: Architecture, config: NetworkConfig, *, auxiliary: bool = False
    ) -> DropPathNetwork:
        self.check(architecture)
        self.check_network_config(config)
        auxiliary_input = _find_auxiliary_input(self, architecture, config) if auxiliary else ""
        net, shapes = self.build_supernet(config), _analyze_supernet(self, config).shapes
        body = _extract_kept(net, _decide_all(net, architecture))
        return _SupernetPart(body, config.num_classes, shapes, auxiliary_input)

    def blocks(self, architecture: Architecture, config: NetworkConfig) -> Iterator[Block]:
        self.check(architecture)
        self.check_network_config(config)
        analysis = _analyze_supernet(self, config)
        for step, _ in analysis.net.list_live_steps(_decide_all(analysis.net, architecture)):
            if isinstance(step, Mixed):
                yield from (analysis.blocks[f"{step.out}.{name}"] for name in architecture.kept[step.choice])
            yield from analysis.list_fixed_blocks(step)

    def fixed_blocks(self, config: NetworkConfig) -> Iterator[Block]:
        analysis = _analyze_supernet(self, config)
        return chain.from_iterable(map(analysis.list_fixed_blocks, analysis.net.program))

    def chosen_blocks(self, choice: str, candidate: str, config: NetworkConfig) -> Iterator[Block]:
        analysis = _analyze_supernet(self, config)
        steps = (step for step in analysis.net.program if isinstance(step, Mixed) and step.choice == choice)
        return (analysis.blocks[f"{step.out}.{candidate}"] for step in steps)

    def build_cheapest_finder(
        self, config: NetworkConfig, price: BlockPrice, valid_only: bool = False
    ) -> CheapestFinder:
        # A step that only a removed input needs is not computed, so a candidate's price depends on other choices.
        if any(isinstance(step, Sum) and step.choice for step in _analyze_supernet(self, config).net.program):
            raise SpaceError(
                f"space '{self.name}' does not support budgets: its cost depends on which inputs are kept. "
                "Leave the budget out, or override SearchSpace.build_cheapest_finder."
            )
        return super().build_cheapest_finder(config, price, valid_only)

    def parse(self, text: str) -> Architecture:
        """Read ``choice=candidate, choice=candidate``."""
        text = clean_text(text)
        kept: dict[str, tuple[str, ...]] = {}
        for part in re.split(r",\s+", text):
            name, sign, candidates = part.partition("=")
            if not sign or name in kept:
                raise self._build_form_error(text)
            kept[name] = tuple(candidates.split("+"))
        if not kept.keys() & {choice.name for choice in self.choices}:
            raise self._build_form_error(text)
        architecture = Architecture(self.name, kept)
        self.check(architecture)
        return architecture

    def _build_form_error(self, text: str) -> NotationError:
        example = ", ".join(f"{choice.name}={'+'.join(choice.selectable[: choice.keep])}" for choice in self.choices)
        return NotationError(f"'{shorten(text)}' is not of the form {shorten(example, 200)}.")

    def format(self, architecture: Architecture) -> str:
        """Write ``choice=candidate, choice=candidate``."""
        self.check(architecture)
        return ", ".join(f"{choice.name}={'+'.join(architecture.kept[choice.name])}" for choice in self.choices)

    def cells(self, architecture: Architecture) -> tuple[CellGraph, ...]:
        """Return no graphs: pictures list the kept candidates instead."""
        return ()


def _decide_all(net: Supernet, architecture: Architecture) -> Mixture:
    """Return the mixture in which every choice is decided as in an architecture."""
    mixture = net.initial_mixture()
    for choice, kept in architecture.kept.items():
        mixture = mixture.select(choice, kept)
    return mixture


def _extract_kept(net: Supernet, mixture: Mixture) -> Supernet:
    """Return the steps that a decided mixture computes, as a supernet without choices."""
    body, live = Supernet(()), net.list_live_steps(mixture)
    # Values that some step reads without adding them to others. Drop path would leave nothing of the image there.
    not_added = {out for step, reads in live for out in reads if not isinstance(step, Sum) or len(reads) == 1}
    for step, reads in live:
        if isinstance(step, Fixed):
            body.fixed(step.out, net.get_submodule(step.out), step.source)
        elif isinstance(step, Mixed):
            weights = zip(net.get_submodule(step.out).named_children(), mixture.weights[step.choice], strict=True)
            kept = [(name, module) for (name, module), weight in weights if weight]
            # Several kept candidates are added to each other, so each of them can be dropped.
            if step.out not in not_added or len(kept) > 1:
                kept = [(name, add_drop_path(module)) for name, module in kept]
            body.sum(step.out, [body.fixed(f"{step.out}.{name}", module, step.source) for name, module in kept])
        elif isinstance(step, Concat):
            body.concat(step.out, reads)
        else:
            body.sum(step.out, reads)
    return body


def _build_graph_module(body: Supernet, names: Sequence[str], head: Mapping[str, Sequence[str]]) -> GraphModule:
    """Return a supernet without choices as a module that computes the values of those names.

    Its code is generated from the program, as if it were written by hand: exports and torch.fx read it, and cannot read
    the loop over a program.

    Args:
        body: Supernet without choices, which has all modules.
        names: Names of the values.
        head: Paths of several modules in a row that compute a step, instead of the module of its name.
    """
    graph = Graph()
    values = {Supernet.IMAGES: graph.placeholder("images")}
    for step in body.program:
        if isinstance(step, Fixed | Mixed):
            value = values[step.source]
            for name in head.get(step.out, [step.out]):
                value = graph.call_module(name, (value,))
            values[step.out] = value
            continue
        sources = [values[source] for source in step.sources]
        if isinstance(step, Concat):
            values[step.out] = graph.call_function(torch.cat, (sources, 1))
        else:
            values[step.out] = reduce(lambda a, b: graph.call_function(operator.add, (a, b)), sources)
    graph.output(tuple(values[name] for name in names))
    return GraphModule(body, graph)


def _list_layers(path: str, module: nn.Module) -> Iterator[str]:
    """Yield the paths of the layers that a module runs one after the other: its own, unless it is a sequence."""
    if type(module) is not nn.Sequential:
        yield path
        return
    for name, child in module._modules.items():
        yield from _list_layers(f"{path}.{name}", child)


class _CheckpointedRun(Interpreter):
    """Run of a graph that stores no maps inside its modules; the backward pass computes them again."""

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        return run_checkpointed(self.fetch_attr(target), *args)


class _SupernetPart(DropPathNetwork):
    """Discrete network that runs the kept part of a supernet.

    Args:
        body: The kept part, a supernet without choices.
        classes: Number of classes.
        shapes: Shape of every value of the supernet for one image, by name.
        auxiliary_input: Name of the maps that the auxiliary head reads; an empty name adds no head.
    """

    __constants__ = ("grad_checkpointing",)  # as in ``StagedNetwork``

    def __init__(self, body: Supernet, classes: int, shapes: Mapping[str, torch.Size], auxiliary_input: str) -> None:
        super().__init__()
        logits = body.program[-1].out
        self.auxiliary_input = auxiliary_input
        self.grad_checkpointing = False
        maps, steps = _find_head(body, shapes)
        linear = [name for name, module in body.named_modules() if isinstance(module, nn.Linear)]
        self.classifier_path = linear[-1] if linear and steps and linear[-1].startswith(steps[-1]) else ""
        head = {step: list(_list_layers(step, body.get_submodule(step))) for step in steps}
        if self.classifier_path in head.get(steps[-1] if steps else "", []):
            body.add_module(_DROPOUT, nn.Dropout(0.0))
            head[steps[-1]].insert(head[steps[-1]].index(self.classifier_path), _DROPOUT)
        # The head reads the maps alone, so that it can be run on maps from elsewhere.
        values = [name for name in (logits, maps or logits, auxiliary_input) if name]
        self.body = _build_graph_module(body, values, head)
        for step in head:  # torch.fx leaves sequences whose layers it calls one by one as modules without a class
            self.body.set_submodule(step, body.get_submodule(step))
        self.head = [name for names in head.values() for name in names]
        self.num_classes = classes
        self.num_features = shapes[maps][1] if maps else 0
        self.auxiliary = AuxiliaryHead(shapes[auxiliary_input][1], classes) if auxiliary_input else None

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        values = _CheckpointedRun(self.body).run(images) if self.grad_checkpointing else self.body(images)
        logits: Tensor = values[0]
        if self.auxiliary is None or not self.training:
            return logits
        return logits, self.auxiliary(values[2])

    def forward_features(self, images: Tensor) -> Tensor:
        if not self.head:
            raise self._build_missing_error("forward_features")
        maps: Tensor = self.body(images)[1]
        return maps

    def forward_head(self, maps: Tensor, pre_logits: bool = False) -> Tensor:
        if not self.head:
            raise self._build_missing_error("forward_head")
        inputs: list[Tensor] = []
        classifier = self.get_classifier() if pre_logits else nn.Identity()
        with classifier.register_forward_pre_hook(lambda module, given: inputs.append(given[0])):
            for name in self.head:
                maps = self.body.get_submodule(name)(maps)
        return inputs[0] if pre_logits else maps

    def get_classifier(self) -> nn.Module:
        if not self.classifier_path:
            raise self._build_missing_error("get_classifier")
        return self.body.get_submodule(self.classifier_path)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        if global_pool not in (None, "avg"):
            raise self._build_missing_error(f"global_pool={global_pool!r}")
        classifier: Any = self.get_classifier()
        if isinstance(classifier, nn.Linear):
            self.head_hidden_size = classifier.in_features
        new = build_classifier(self.head_hidden_size, num_classes, next(self.parameters()))
        self.body.set_submodule(self.classifier_path, new)
        self.num_classes = num_classes
        if self.auxiliary is not None:
            self.auxiliary.reset_classifier(num_classes)

    def set_dropout(self, probability: float) -> None:
        if _DROPOUT in self.head:
            self.body.get_submodule(_DROPOUT).p = probability  # type: ignore[assignment]
        else:
            super().set_dropout(probability)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable

    def prune_intermediate_layers(self, *args: Any, **options: Any) -> list[int]:
        """Raise SpaceError: timm calls this method for ``features_only``, which needs blocks in a row."""
        raise self._build_missing_error("features_only")


def _find_head(body: Supernet, shapes: Mapping[str, torch.Size]) -> tuple[str, list[str]]:
    """Return the name of the last maps, and of the modules behind them; nothing if more than modules follow them."""
    steps = {step.out: step for step in body.program}
    name, head = body.program[-1].out, list[str]()
    while name in shapes and len(shapes[name]) != 4:
        step = steps[name]
        if not isinstance(step, Fixed):
            break
        head.insert(0, name)
        name = step.source
    is_map = name in shapes and len(shapes[name]) == 4 and name != Supernet.IMAGES
    return (name, head) if is_map and head else ("", [])


@dataclass(frozen=True)
class _SupernetAnalysis:
    """Shapes and costs in a supernet, measured on torch's device 'meta', which computes shapes only."""

    net: Supernet
    shapes: Mapping[str, torch.Size]
    """Shape of every value for one image, by name."""
    blocks: Mapping[str, Block]
    """Blocks by the path of their module."""

    def list_fixed_blocks(self, step: Step) -> list[Block]:
        """Return the blocks of a step that do not depend on what a choice keeps."""
        if isinstance(step, Fixed):
            return [self.blocks[step.out]]
        _, channels, *height_width = self.shapes[step.out]
        size = (height_width[0], height_width[1]) if len(height_width) == 2 else (1, 1)
        if isinstance(step, Concat):
            parts = len(step.sources)
            return [concatenation_block(-(-channels // parts), parts, size)]  # about equal parts
        terms = len(step.sources) if isinstance(step, Sum) else 1
        if step.choice is not None:
            terms = self.net.choices[step.choice].keep
        return [addition_block(channels, size)] * (terms - 1)


@lru_cache(maxsize=16)
def _analyze_supernet(space: SearchSpace, config: NetworkConfig) -> _SupernetAnalysis:
    """Build a supernet on the device 'meta', check it, and measure its blocks."""
    with torch.device("meta"), torch.no_grad():
        net = space.build_supernet(config)
        if not isinstance(net, Supernet):
            raise SpaceError(f"build_supernet of space '{space.name}' must return the Supernet, not {net!r}.")
        _check_program(space, net)
        shapes = _infer_shapes(space, net, config)
    blocks = {}
    for step in net.program:
        if isinstance(step, Fixed | Mixed):
            module = net.get_submodule(step.out)
            parts = [(step.out, module)]
            if isinstance(step, Mixed):
                parts = [(f"{step.out}.{name}", part) for name, part in module.named_children()]
            for path, part in parts:
                blocks[path] = _measure_block(space, config, path, part, shapes[step.source], shapes[step.out])
    # Each block counts its own parameters, so a shared module would be counted twice.
    if sum(block.cost.params for block in blocks.values()) != count_parameters(net):
        raise SpaceError(f"the supernet of space '{space.name}' uses a module twice: give each step its own.")
    return _SupernetAnalysis(net, shapes, blocks)


def _check_program(space: SearchSpace, net: Supernet) -> None:
    unused = {*net.choices} - {step.choice for step in net.program if isinstance(step, Mixed | Sum)}
    if unused:
        raise SpaceError(f"the supernet of space '{space.name}' has no step for its choice '{min(unused)}'.")
    unread = {step.out for step in net.program} - {step.out for step, _ in net.list_live_steps(net.initial_mixture())}
    if unread:
        raise SpaceError(f"the last value of the supernet of space '{space.name}' does not depend on '{min(unread)}'.")


def _infer_shapes(space: SearchSpace, net: Supernet, config: NetworkConfig) -> dict[str, torch.Size]:
    names = (Supernet.IMAGES, *(step.out for step in net.program))
    try:
        values = net.eval().compute_values(torch.empty(1, config.in_channels, *config.image_size), names)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise SpaceError(
            f"the supernet of space '{space.name}' cannot be run on {config.in_channels}x{config.image_size[0]}x"
            f"{config.image_size[1]} images: {reason}."
        ) from error
    return {name: value.shape for name, value in zip(names, values, strict=True)}


def _measure_block(
    space: SearchSpace, config: NetworkConfig, path: str, module: nn.Module, source: torch.Size, out: torch.Size
) -> Block:
    _, channels, *height_width = source
    is_flat = not height_width  # the module reads vectors, as a linear layer does
    stride = 1 if is_flat or len(out) != 4 else -(-height_width[0] // out[2])
    cost = measure_cost(lambda: module, *source[1:])
    input_size = (1, 1) if is_flat else (height_width[0], height_width[1])
    build = partial(_build_module, space, config, path, is_flat)
    return Block(path, channels, out[1], stride, input_size, cost, build)


def _build_module(space: SearchSpace, config: NetworkConfig, path: str, is_flat: bool) -> nn.Module:
    # Latency is measured on maps [B, C, H, W], so a module that reads vectors gets 1x1 maps, flattened.
    module = space.build_supernet(config).get_submodule(path)
    return nn.Sequential(nn.Flatten(), module) if is_flat else module


def _find_auxiliary_input(space: SearchSpace, architecture: Architecture, config: NetworkConfig) -> str:
    """Return the name of the feature maps two thirds into the network, as in DARTS."""
    analysis = _analyze_supernet(space, config)
    live = [step.out for step, _ in analysis.net.list_live_steps(_decide_all(analysis.net, architecture))]
    maps = [name for name in live if len(analysis.shapes[name]) == 4]
    if not maps:
        raise SpaceError(f"networks of space '{space.name}' have no feature maps for an auxiliary head: leave it out.")
    return maps[2 * len(maps) // 3]
