"""Settings of a multi-trial search."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields, replace
from typing import Any

from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.options import check_types, format_flag, option
from zcpt.proxies import Criterion, get_criterion, resolve_auto
from zcpt.search import SearchConfig, configure
from zcpt.space import SearchSpace
from zcpt.trials.algorithm import ALGORITHMS, Settings, build_settings


def _inherit(name: str) -> Any:
    """Return a field with the default, the help and the reader that it has in a search."""
    inherited = SearchConfig.__dataclass_fields__[name]
    return field(default=inherited.default, metadata=inherited.metadata)


_BUDGETS = (
    "max_params", "max_macs", "max_latency", "latency_table", "valid_only", "train_channels", "train_layers",
    "train_image_size", "train_classes",
)  # fmt: skip
"""Settings of the budgets, which are those of ``zcpt search``."""


@dataclass(frozen=True)
class TrialsConfig:
    """Settings that all algorithms share. Each field is an argument of ``zcpt.run_trials`` and a flag of the command.

    Raises:
        ConfigError: A value is out of range, or two values contradict each other.
        ProxyError: The proxy is unknown.
    """

    algorithm: str = option("evolution", "rule for the architecture that is measured next ('zcpt list algorithms')")
    trials: int = option(100, "number of architectures that are measured")
    trial_batch: int = option(
        1, "trials that are chosen before the values of any of them are known, to run side by side"
    )
    proxy: str = option("", "zero-cost proxy or aggregate for --warmup, --move and --value proxy")
    warmup: int = option(0, "M, random architectures that the proxy scores before the first trial")
    batch_size: int = option(64, "images in the mini-batch on which the proxy scores networks")
    channels: int = option(16, "width of the networks that the proxy scores", shown="that of a search in this space")
    layers: int = option(8, "depth of these networks, as the space counts it", shown="that of a search in this space")
    seed: int = option(0, "seed of all random numbers")
    max_params: float = _inherit("max_params")
    max_macs: float = _inherit("max_macs")
    max_latency: float = _inherit("max_latency")
    latency_table: str = _inherit("latency_table")
    valid_only: bool = _inherit("valid_only")
    train_channels: int = _inherit("train_channels")
    train_layers: int = _inherit("train_layers")
    train_image_size: int = _inherit("train_image_size")
    train_classes: int = _inherit("train_classes")

    def __post_init__(self) -> None:
        if isinstance(self.latency_table, os.PathLike):
            object.__setattr__(self, "latency_table", os.fspath(self.latency_table))
        check_types(self)
        ALGORITHMS[self.algorithm]  # raises ConfigError for an unknown name
        if self.proxy:
            object.__setattr__(self, "proxy", resolve_auto(self.proxy, "validation"))
        for name in ("trials", "trial_batch", "batch_size", "channels", "layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{format_flag(name)} {getattr(self, name)} is too small: it must be at least 1.")
        for name in ("warmup", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{format_flag(name)} {getattr(self, name)} must not be negative.")
        criterion = self.criterion
        if criterion and self.batch_size < criterion.min_batch:
            raise ConfigError(
                f"--batch-size {self.batch_size} is too small: proxy '{criterion.name}' needs at least "
                f"{criterion.min_batch}."
            )
        if self.warmup and not self.proxy:
            raise ConfigError("--warmup scores architectures by a proxy, and none is given: add --proxy, e.g. synflow.")

    @property
    def criterion(self) -> Criterion | None:
        """The proxy or aggregate; None if there is none."""
        return get_criterion(self.proxy) if self.proxy else None

    def make_search_config(self, space: SearchSpace) -> SearchConfig:
        """Return settings of a search with the same budgets, which check the architectures."""
        return configure(space, **{name: getattr(self, name) for name in _BUDGETS})


def configure_trials(space: SearchSpace, **options: Any) -> tuple[TrialsConfig, Settings]:
    """Return the settings for a space: those that all algorithms share, and those of the algorithm.

    Args:
        space: The search space, which has the default width and depth.
        options: Fields of ``TrialsConfig``, and of the settings of the algorithm.

    Raises:
        ConfigError: An option is unknown, or a value cannot be used.
        ProxyError: The proxy is unknown.
    """
    shared = [setting.name for setting in fields(TrialsConfig)]
    defaults = {
        "channels": space.search_size.channels,
        "layers": space.search_size.layers,
        "train_channels": space.train_size.channels,
        "train_layers": space.train_size.layers,
    }
    config = TrialsConfig(**{**defaults, **{name: value for name, value in options.items() if name in shared}})
    own = {name: value for name, value in options.items() if name not in shared}
    known = [setting.name for setting in fields(ALGORITHMS[config.algorithm].settings_class)]
    for name in own:
        if name not in known:
            raise ConfigError(
                describe_unknown_name(f"option of trials by algorithm '{config.algorithm}'", name, [*shared, *known])
            )
    config.make_search_config(space)  # raises ConfigError for a budget that cannot be used
    return config, build_settings(config.algorithm, **own)


def grow(config: TrialsConfig, trials: int) -> TrialsConfig:
    """Return the settings with another number of trials."""
    return replace(config, trials=trials)
