"""Chain spaces: networks that are a sequence of layers, each with its own choice of an operation."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from mobilenet_space.blocks import (
    IDENTITY,
    OPERATIONS,
    Activation,
    ConvNorm,
    Layer,
    MBConv,
    layer_block,
    operation_block,
)
from zcpt.architecture import Architecture
from zcpt.cost import Block, classifier_block
from zcpt.errors import SpaceError
from zcpt.space import CellGraph, NetworkConfig, SearchSpace
from zcpt.staged_network import StagedNetwork, run_checkpointed
from zcpt.supernet import Supernet
from zcpt.variation import draw_index, draw_weighted_index


@dataclass(frozen=True)
class Stage:
    """Consecutive layers of the same width; only the first one has the stride."""

    channels: int
    layers: int
    stride: int


@dataclass(frozen=True)
class Skeleton:
    """Channels, strides and sizes of all layers of a network, without their operations."""

    stem: Layer
    """3x3 convolution."""
    fixed_layers: tuple[Layer, ...]
    """Depthwise-separable layers (MBConv without expansion) that no choice decides on."""
    layers: tuple[Layer, ...]
    """Layers with a choice, one for each choice."""
    features: int
    """Channels of the 1x1 convolution before the global average pooling."""

    @property
    def last(self) -> Layer:
        """The 1x1 convolution before the global average pooling."""
        return self.layers[-1].build_next(self.features)


def layer_name(index: int) -> str:
    """Return the name of the choice of a layer's operation; layers are counted from 0."""
    return f"layer{index:02d}"


def build_stage_layers(previous: Layer, stages: Sequence[Stage]) -> tuple[Layer, ...]:
    """Return the layers of ``stages``; the first of them reads the output of ``previous``."""
    layers = []
    for stage in stages:
        for index in range(stage.layers):
            previous = previous.build_next(stage.channels, 1 if index else stage.stride)
            layers.append(previous)
    return tuple(layers)


def _list_stem_blocks(skeleton: Skeleton, activation: Activation) -> Iterator[Block]:
    yield _conv_block(skeleton.stem, 3, activation)
    for layer in skeleton.fixed_layers:
        yield layer_block("mb_k3_e1", layer, MBConv.cost(layer, 3, 1), partial(MBConv, layer, 3, 1, activation, False))


def _conv_block(layer: Layer, kernel: int, activation: Activation) -> Block:
    cost = ConvNorm.cost(layer.in_channels, layer.out_channels, kernel, layer.output_size)
    build = partial(ConvNorm, layer.in_channels, layer.out_channels, kernel, layer.stride, activation=activation)
    return layer_block(f"conv_{kernel}x{kernel}", layer, cost, build)


def _build_stem(skeleton: Skeleton, activation: Activation) -> nn.Sequential:
    return nn.Sequential(*(part.build() for part in _list_stem_blocks(skeleton, activation)))


def _build_head(skeleton: Skeleton, activation: Activation) -> nn.Sequential:
    return nn.Sequential(_conv_block(skeleton.last, 1, activation).build(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class ChainNetwork(StagedNetwork):
    """Discrete network of a chain space."""

    def __init__(self, space: ChainSpace, architecture: Architecture, config: NetworkConfig, auxiliary: bool) -> None:
        super().__init__()
        skeleton = space.skeleton(config)
        self.stem = _build_stem(skeleton, space.activation)
        self.layers = nn.ModuleList(
            OPERATIONS[architecture[choice.name]].build(layer, space.activation, True)
            for choice, layer in zip(space.choices, skeleton.layers, strict=True)
        )
        self.head = nn.Sequential(_conv_block(skeleton.last, 1, space.activation).build())
        before = (skeleton.stem, *skeleton.fixed_layers)
        levels = [("stem", before[-1].out_channels, math.prod(layer.stride for layer in before))]
        for index, layer in enumerate(skeleton.layers):
            levels.append((f"layers.{index}", layer.out_channels, levels[-1][2] * layer.stride))
        # Two thirds into the network, as in DARTS.
        auxiliary_after = 1 + 2 * len(skeleton.layers) // 3
        self._add_head(levels, config.num_classes, auxiliary_after, auxiliary, features=skeleton.features)
        self.set_dropout(space.dropout)

    def forward_blocks(self, images: Tensor, kept: list[int]) -> tuple[Tensor, list[Tensor]]:
        x = self.stem(images)
        outputs: list[Tensor] = [x] if 0 in kept else []
        for index, layer in enumerate(self.layers, 1):
            x = run_checkpointed(layer, x) if self.grad_checkpointing else layer(x)
            if index in kept:
                outputs.append(x)
        return self.head(x), outputs


@lru_cache(maxsize=16)
def _get_layers(space: ChainSpace, config: NetworkConfig) -> dict[str, Layer]:
    return dict(zip((choice.name for choice in space.choices), space.skeleton(config).layers, strict=True))


class ChainSpace(SearchSpace):
    """Base class of chain spaces: stem, layers, head. Every layer has one choice, so the number of layers is fixed."""

    layer_unit = "layers"
    stages: ClassVar[tuple[Stage, ...]]
    """Stages at the published width, for images of the published size."""
    activation: ClassVar[type[nn.Module]]
    dropout: ClassVar[float] = 0.0
    """Dropout of the features of discrete networks; the supernet has none."""
    fed_zeros: ClassVar[tuple[int, ...]] = ()
    """Candidates that the published code computes on zeros while their weight is 0 (see ``Mixture.feed_zeros``)."""

    @abstractmethod
    def skeleton(self, config: NetworkConfig) -> Skeleton:
        """Return the layers of networks of a config."""

    def check_network_config(self, config: NetworkConfig) -> None:
        if config.layers != len(self.choices):
            raise SpaceError(
                f"networks of space '{self.name}' have {len(self.choices)} layers, not {config.layers}: "
                f"give {len(self.choices)} or leave the number of layers out."
            )

    def build_supernet(self, config: NetworkConfig) -> Supernet:
        self.check_network_config(config)
        skeleton = self.skeleton(config)
        net = Supernet(self.choices)
        x = net.fixed("stem", _build_stem(skeleton, self.activation), Supernet.IMAGES)
        for choice, layer in zip(self.choices, skeleton.layers, strict=True):
            candidates = {name: OPERATIONS[name].build(layer, self.activation, False) for name in choice.candidates}
            x = net.mixed(choice.name, choice.name, candidates, x, self.fed_zeros)
        x = net.fixed("head", _build_head(skeleton, self.activation), x)
        net.fixed("classifier", nn.Linear(skeleton.features, config.num_classes), x)
        return net

    def build_network(
        self, architecture: Architecture, config: NetworkConfig, *, auxiliary: bool = False
    ) -> ChainNetwork:
        self.check(architecture)
        self.check_network_config(config)
        return ChainNetwork(self, architecture, config, auxiliary)

    def fixed_blocks(self, config: NetworkConfig) -> Iterator[Block]:
        skeleton = self.skeleton(config)
        yield from _list_stem_blocks(skeleton, self.activation)
        yield _conv_block(skeleton.last, 1, self.activation)
        yield classifier_block(skeleton.features, config.num_classes, skeleton.last.output_size)

    def chosen_blocks(self, choice: str, candidate: str, config: NetworkConfig) -> Iterator[Block]:
        yield operation_block(candidate, _get_layers(self, config)[choice], self.activation)

    def canonicalize(self, architecture: Architecture) -> Architecture:
        """Return the architecture of the same network that has the identities at the end of each stage.

        All layers of a stage but the first have the same shape, so the position of an identity does not matter:
        (conv3, identity, conv5) is the same network as (conv3, conv5, identity). Two architectures have the same
        network exactly if their canonical architectures are equal. A search validates each of these once.
        """
        self.check(architecture)
        operations: list[str] = []
        for first, end in self._list_stage_spans():
            # The first layer stays: it changes the shape, so its operation cannot change places with another.
            rest = [architecture[layer_name(index)] for index in range(first + 1, end)]
            operations += [architecture[layer_name(first)], *sorted(rest, key=lambda name: name == IDENTITY)]
        return self._build_architecture(operations)

    def sample_architecture(self, generator: torch.Generator) -> Architecture:
        """Draw a canonical architecture uniformly, so that each network is as likely as any other."""
        operations: list[str] = []
        for first, end in self._list_stage_spans():
            choices = self.choices[first:end]
            others = [[name for name in choice.selectable if name != IDENTITY] for choice in choices[1:]]
            # The number of layers that are no identities: there are more ways to choose many operations than few.
            counts = [math.prod(map(len, others[:length])) for length in range(end - first)]
            if all(IDENTITY not in choice.selectable for choice in choices[1:]):
                counts[:-1] = [0] * (len(counts) - 1)
            length = draw_weighted_index(counts, generator)
            drawn = [names[draw_index(len(names), generator)] for names in (choices[0].selectable, *others[:length])]
            operations += drawn + [IDENTITY] * (end - first - len(drawn))
        return self._build_architecture(operations)

    def list_neighbors(self, architecture: Architecture) -> list[Architecture]:
        """Return the canonical architectures with another operation in one layer.

        An identity may stand in any layer of a stage but the first, so an operation may be inserted between any two,
        where the stage has room, and any may be removed.
        """
        own = self.canonicalize(architecture)
        operations = [own[choice.name] for choice in self.choices]
        neighbors = []
        for first, end in self._list_stage_spans():
            for stage in self._list_stage_edits(first, operations[first:end]):
                neighbors.append(self._build_architecture([*operations[:first], *stage, *operations[end:]]))
        return neighbors

    def _list_stage_edits(self, first: int, stage: Sequence[str]) -> list[list[str]]:
        """Return the canonical operations of a stage after one operation is exchanged, inserted or removed."""
        length = sum(name != IDENTITY for name in stage[1:]) + 1
        edits = [[name, *stage[1:]] for name in self.choices[first].selectable]
        for position in range(1, len(stage)):
            for name in self.choices[first + position].selectable:
                if name == IDENTITY:
                    edits.append([*stage[:position], *stage[position + 1 :], IDENTITY])
                elif position < length:
                    edits.append([*stage[:position], name, *stage[position + 1 :]])
                if name != IDENTITY and position <= length < len(stage):
                    edits.append([*stage[:position], name, *stage[position:-1]])
        return [list(edit) for edit in dict.fromkeys(map(tuple, edits)) if edit != tuple(stage)]

    def cells(self, architecture: Architecture) -> tuple[CellGraph, ...]:
        """Return one graph for each stage: its layers from left to right."""
        self.check(architecture)
        graphs = []
        for number, (first, end) in enumerate(self._list_stage_spans()):
            nodes = (layer_name(first - 1) if first else "stem", *map(layer_name, range(first, end)))
            arrows = ((source, node, architecture[node]) for source, node in pairwise(nodes))
            graphs.append(CellGraph(f"stage {number}", nodes, tuple(arrows)))
        return tuple(graphs)

    def _build_architecture(self, operations: Sequence[str]) -> Architecture:
        names = (choice.name for choice in self.choices)
        return Architecture(self.name, {name: (kept,) for name, kept in zip(names, operations, strict=True)})

    def _list_stage_spans(self) -> Iterator[tuple[int, int]]:
        """Yield for each stage the index of its first layer, and of the first layer of the next stage."""
        end = 0
        for stage in self.stages:
            first, end = end, end + stage.layers
            yield first, end
