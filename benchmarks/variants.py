"""The searches that are measured, and how many networks each of them scores."""

from __future__ import annotations

from typing import Any

from train.data import ImageData
from zcpt.search import ORDERS, SearchConfig, configure, count_evaluations
from zcpt.space import NetworkConfig, SearchSpace

PAPER: dict[str, Any] = {"preset": "paper"}
SHORT: dict[str, Any] = {"validation_batches": 10}
SEARCHES: dict[str, dict[str, Any]] = {
    "default": {},
    "V=10": SHORT,
    "V=10, one set of weights": {**SHORT, "supernet_weights": "run"},
    "V=10, a batch for each step": {**SHORT, "scoring_batch": "step"},
    "V=10, batch of 128": {**SHORT, "batch_size": 128},
    "V=10, official counting": {**SHORT, "proxy": "naswot-official"},
    "V=10, official counting, batch of 256": {**SHORT, "proxy": "naswot-official", "batch_size": 256},
    "V=10, one validation init": {**SHORT, "validation_inits": 1},
    "preset paper": PAPER,
    "fixed order, N=1": {"order": "fixed", "proposals": 1},
    "preset paper, fixed order, N=1": {**PAPER, "order": "fixed", "proposals": 1},
}
BY_ORDER: dict[str, dict[str, Any]] = {f"{order} order, N=1": {"order": order, "proposals": 1} for order in ORDERS}
VARIANTS = {**SEARCHES, **BY_ORDER}
AGREEMENTS: dict[str, dict[str, Any]] = {
    "default": {},
    "batch of 256": {"batch_size": 256},
    "preset paper": PAPER,
}


def settings(space: SearchSpace, options: dict[str, Any], seed: int) -> SearchConfig:
    """What a variant means on a space: on NAS-Bench-1Shot1 a search keeps to the cells that the table has."""
    return configure(space, **options, seed=seed, valid_only=space.name.startswith("nasbench1shot1"))


def shape(config: SearchConfig, data: ImageData) -> NetworkConfig:
    """The shape of the networks that a search scores."""
    channels, height, width = data.image_shape
    return NetworkConfig(config.channels, config.layers, len(data.classes), channels, (height, width))


def networks_scored(space: SearchSpace, config: SearchConfig, candidates: int) -> tuple[int, int]:
    """The evaluations of stage 1, and those of stage 2 with that many distinct proposals."""
    each, _ = count_evaluations(space.choices, config.order, config.joint)
    return config.proposals * each, config.validation_batches * candidates if candidates > 1 else 0
