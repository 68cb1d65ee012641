"""NAS-Bench-Macro: eight layers with three operations each (Su et al., CVPR 2021)."""

from __future__ import annotations

import re

from torch import nn

from mobilenet_space.blocks import IDENTITY, Layer
from mobilenet_space.chain import ChainSpace, Skeleton, Stage, build_stage_layers, layer_name
from zcpt.architecture import Architecture, Choice
from zcpt.errors import NotationError
from zcpt.notation import clean_text
from zcpt.printing import shorten
from zcpt.space import NetworkConfig, PublishedSettings, WidthDepth

CANDIDATES = (IDENTITY, "mb_k3_e3", "mb_k5_e6")
"""In the order of the benchmark's digits."""
STEM_CHANNELS = 32
"""Channels of the stem at the published width; all other widths are multiples of it."""
HEAD_CHANNELS = 1280
"""Channels of the last 1x1 convolution at the published width."""
STAGES = (Stage(64, 2, 2), Stage(128, 3, 2), Stage(256, 3, 2))
LAYERS = sum(stage.layers for stage in STAGES)


class NasBenchMacro(ChainSpace):
    """Chains of eight layers: 6,561 digit strings for 3,969 distinct networks, all trained and published.

    ``channels`` are those of the stem; all other widths are the published multiples of it.
    """

    name = "nasbench-macro"
    summary = "chain of 8 layers, 3 operations each: 6,561 networks (3,969 distinct) with published accuracies"
    search_size = WidthDepth(STEM_CHANNELS, LAYERS)
    train_size = WidthDepth(STEM_CHANNELS, LAYERS)
    small_size = WidthDepth(16, LAYERS)
    # The published search has no random alpha here: undecided candidates have weight 1/3 each, exactly.
    published = PublishedSettings(batch_size=256, alpha_draw="run", alpha_noise=0.0)
    choices = tuple(Choice(layer_name(index), CANDIDATES) for index in range(LAYERS))
    stages = STAGES
    activation = nn.ReLU
    # The published code feeds zeros to the identity as well. It has no ReLU whose signs could be scored.
    fed_zeros = (1, 2)

    def skeleton(self, config: NetworkConfig) -> Skeleton:
        stem = Layer(config.in_channels, config.channels, 1, config.image_size)
        stages = [Stage(s.channels // STEM_CHANNELS * config.channels, s.layers, s.stride) for s in STAGES]
        return Skeleton(stem, (), build_stage_layers(stem, stages), HEAD_CHANNELS // STEM_CHANNELS * config.channels)

    def parse(self, text: str) -> Architecture:
        """Read the benchmark's eight digits, for example ``22212220``, also as the list of its numbers."""
        text = clean_text(text)
        digits = re.sub(r"[\s,]+", "", text.strip("[]() ")) if "," in text else text
        # The published table writes an m before the digits.
        if not re.fullmatch(f"m?[012]{{{LAYERS}}}", digits):
            meanings = ", ".join(f"{digit} for {name}" for digit, name in enumerate(CANDIDATES))
            raise NotationError(f"'{shorten(text)}' is not of the form 22212220: eight digits, {meanings}.")
        return self._build_architecture([CANDIDATES[int(digit)] for digit in digits[-LAYERS:]])

    def format(self, architecture: Architecture) -> str:
        self.check(architecture)
        return "".join(str(CANDIDATES.index(architecture[choice.name])) for choice in self.choices)
