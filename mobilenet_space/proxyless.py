"""The MobileNet-like space of the Zero-Cost-PT experiments: the one of ProxylessNAS (Cai et al., ICLR 2019)."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import ClassVar

from torch import nn

from mobilenet_space.blocks import IDENTITY, MB_CONVS, Layer
from mobilenet_space.chain import ChainSpace, Skeleton, Stage, build_stage_layers, layer_name
from zcpt.architecture import Architecture, Choice
from zcpt.errors import NotationError, SpaceError, describe_unknown_name
from zcpt.notation import clean_text
from zcpt.space import NetworkConfig, PublishedSettings, WidthDepth
from zcpt.supernet import Supernet

CANDIDATES = (*MB_CONVS, IDENTITY)
"""In the order of the published code; the identity is the last one."""
STEM_CHANNELS = 40
"""Channels of the stem at the published width."""
FIRST_CHANNELS = 24
"""Channels of the layer between the stem and the first stage, at the published width."""
HEAD_CHANNELS = 1728
"""Channels before the global average pooling at the published width."""
# Widths of the network for GPUs that ProxylessNAS published.
STAGES = (
    Stage(32, 4, 2),
    Stage(56, 4, 2),
    Stage(112, 4, 2),
    Stage(128, 4, 1),
    Stage(256, 4, 2),
    Stage(432, 1, 1),
)
IMAGENET_FROM = 128
"""Smallest height and width, in pixels, of images that the stem and the first stage halve."""
WORDS = {name: "skip" if name == IDENTITY else name.removeprefix("mb_") for name in CANDIDATES}
"""Words for the candidates in the text notation."""


def _build_choices() -> Iterator[Choice]:
    index = 0
    for stage in STAGES:
        for position in range(stage.layers):
            # The first layer of a stage changes the shape, so it cannot be skipped. All weights are 1, because the
            # published code adds up the candidates of a layer without weights.
            yield Choice(layer_name(index), CANDIDATES if position else CANDIDATES[:-1], start="one")
            index += 1


def _scale_width(published: int, channels: int, stem_channels: int) -> int:
    """Return a published width scaled in proportion to the stem's, rounded to a multiple of eight as in MobileNets."""
    # Half of eight is added, then the rest cut off. In integers, so that no float decides between two multiples.
    return max(8, (published * channels + 4 * stem_channels) // (8 * stem_channels) * 8)


def _draw_published_weights(net: nn.Module) -> None:
    """Draw the weights of convolutions, also depthwise ones, from N(0, 2 / (kernel area * output channels))."""
    # ProxylessNAS' ``he_fout``. It ignores groups, so depthwise weights are smaller than by He's rule.
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=math.sqrt(2 / (math.prod(module.kernel_size) * module.out_channels)))


class Proxyless(ChainSpace):
    """Chains of 21 layers: one of six MBConvs each, or an identity in layers that do not begin a stage.

    ``channels`` are those of the stem; the other widths are the published ones in proportion, rounded to
    multiples of eight.
    """

    name = "proxyless"
    summary = "ProxylessNAS-like chain of 21 layers, 6 MBConvs or a skip each: about 2.2e17 networks"
    search_size = WidthDepth(STEM_CHANNELS, 21)
    train_size = WidthDepth(STEM_CHANNELS, 21)
    small_size = WidthDepth(16, 21)
    published = PublishedSettings(batch_size=64, alpha_draw="run", validation_batch_size=256)
    choices = tuple(_build_choices())
    stages: ClassVar[tuple[Stage, ...]] = STAGES
    stem_channels: ClassVar[int] = STEM_CHANNELS
    first_channels: ClassVar[int] = FIRST_CHANNELS
    head_channels: ClassVar[int] = HEAD_CHANNELS
    activation = nn.ReLU6
    dropout = 0.2

    def skeleton(self, config: NetworkConfig) -> Skeleton:
        def scale(published: int) -> int:
            return _scale_width(published, config.channels, self.stem_channels)

        stem_stride, first_stride = (2, STAGES[0].stride) if min(config.image_size) >= IMAGENET_FROM else (1, 1)
        strides = (first_stride, *(stage.stride for stage in STAGES[1:]))
        stem = Layer(config.in_channels, config.channels, stem_stride, config.image_size)
        first = stem.build_next(scale(self.first_channels))
        stages = [
            Stage(scale(stage.channels), stage.layers, stride)
            for stage, stride in zip(self.stages, strides, strict=True)
        ]
        return Skeleton(stem, (first,), build_stage_layers(first, stages), scale(self.head_channels))

    def build_supernet(self, config: NetworkConfig) -> Supernet:
        net = super().build_supernet(config)
        # Only in the supernet: the published discrete networks have PyTorch's initialisation.
        _draw_published_weights(net)
        return net

    def parse(self, text: str) -> Architecture:
        """Read 21 words, ``k3_e6`` or ``skip``, or the 21 numbers of the published code (-1 is ``skip``)."""
        text = clean_text(text)
        words = [word.strip("'\" \n") for word in text.strip("[]() ").split(",")] if "," in text else text.split()
        if len(words) != len(self.choices):
            raise NotationError(
                f"an architecture of space 'proxyless' is {len(self.choices)} words such as 'k5_e3' and 'skip', "
                f"one for each layer, not {len(words)}."
            )
        operations = [_parse_operation(word) for word in words]
        for choice, word, operation in zip(self.choices, words, operations, strict=True):
            if operation not in choice.candidates:
                raise SpaceError(f"{choice.name} begins a stage and cannot be '{word}': give it one of the MBConvs.")
        return self._build_architecture(operations)

    def format(self, architecture: Architecture) -> str:
        self.check(architecture)
        return " ".join(WORDS[architecture[choice.name]] for choice in self.choices)


def _parse_operation(word: str) -> str:
    # The published code numbers the MBConvs from 0 and writes -1 for a skipped layer.
    numbers = {str(index): name for index, name in enumerate(CANDIDATES[:-1])} | {"-1": IDENTITY}
    operations = {word: name for name, word in WORDS.items()} | numbers
    if word not in operations:
        is_word = re.fullmatch(r"-?\d{1,3}|skip|k\d+_e\d+", word)
        raise (SpaceError if is_word else NotationError)(describe_unknown_name("operation", word, operations))
    return operations[word]
