"""Settings of a search, its presets, and the seeds that follow from its seed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from zcpt.errors import ConfigError, ProxyError, describe_unknown_name
from zcpt.items import describe_value
from zcpt.options import check_types, format_flag, option, parse_number
from zcpt.printing import shorten
from zcpt.proxies import (
    Aggregate,
    Criterion,
    Proxy,
    Use,
    get_components,
    get_criterion,
    get_proxy,
    list_aggregates,
    list_proxies,
    resolve_auto,
)
from zcpt.scoring import CriterionEvaluator, check_scores_operations, resolve_engine
from zcpt.search.orders import ORDERS, get_order
from zcpt.seeding import derive_seed
from zcpt.space import SearchSpace
from zcpt.supernet import Scorable

BATCH_SIZES: dict[Use, str] = {"operations": "batch_size", "validation": "validation_batch_size"}
"""Setting of the batch size, by use of the criterion."""


@dataclass(frozen=True)
class SearchConfig:
    """Settings of a search. Each field is a keyword argument of ``zcpt.search`` and a flag of ``zcpt search``.

    Raises:
        ConfigError: A value is out of range, or two values contradict each other.
        ProxyError: The proxy is unknown, or cannot score operations.
    """

    proxy: str = option(
        "naswot",
        "zero-cost proxy that scores networks; or an aggregate of proxies, such as log_rank:naswot+synflow ('zcpt list "
        "aggregates'); or auto, the best one measured",
    )
    validation_proxy: str = option(
        "", "another proxy for stage 2, which compares the proposals as whole networks", shown="that of --proxy"
    )
    order: str = option("random", f"order in which edges are decided: {', '.join(ORDERS)}")
    joint: bool = option(False, "one order for all cell types together, instead of one edge of each at every step")
    proposals: int = option(10, "N, number of architectures that stage 1 proposes")
    validation_batches: int = option(100, "V, number of mini-batches on which stage 2 compares them")
    finalists: int = option(
        0,
        "K, number of the best proposals of stage 2 that are measured by --finalist-setting; the best value wins",
        shown="0, validation alone decides",
    )
    validation_inits: int = option(10, "R, number of initialisations in stage 2: batch v uses initialisation v mod R")
    batch_size: int = option(64, "images in a mini-batch of stage 1")
    validation_batch_size: int = option(128, "images in a mini-batch of stage 2")
    channels: int = option(16, "width of the supernet: channels of its first cells", shown="the space's, 16 in darts")
    layers: int = option(8, "depth of the supernet, as the space counts it", shown="the space's, 8 in darts")
    seed: int = option(0, "seed of all weights, orders and batches")
    scoring_batch: Literal["step", "proposal"] = option(
        "proposal", "draw a mini-batch of stage 1 for each proposal, or for each step"
    )
    supernet_weights: Literal["proposal", "run"] = option(
        "proposal", "draw supernet weights for each proposal, or once for the run"
    )
    removed_inputs: Literal["absent", "present"] = option(
        "absent", "while a node's inputs are compared, leave its dropped inputs out, or keep them in the mixture"
    )
    non_finite: Literal["last", "compare"] = option(
        "last",
        "rank non-finite scores last, or compare them as numbers (a singular kernel then wins)",
    )
    engine: Literal["auto", "plain", "fast"] = option(
        "auto", "how scores are computed: 'auto' takes 'fast' where the proxy allows it; both give the same scores"
    )
    precision: Literal["float32", "bf16"] = option("float32", "number format in which networks are scored")
    max_memory: float = option(
        0.0,
        "bytes that scoring may take besides networks and batches, such as 500M or 2G",
        parse_number,
        shown="0, no limit",
    )
    alpha_noise: float = option(
        0.0, "standard deviation of the architecture parameters; their softmax weights the candidates"
    )
    alpha_draw: Literal["proposal", "run"] = option(
        "proposal", "draw architecture parameters for each proposal, or once for the run"
    )
    max_params: float = option(0.0, "largest number of parameters, such as 3.3M", parse_number, shown="0, no limit")
    max_macs: float = option(
        0.0,
        "largest number of multiply-accumulates for one image, such as 600M",
        parse_number,
        shown="0, no limit",
    )
    max_latency: float = option(0.0, "largest latency in milliseconds by --latency-table", shown="0, no limit")
    latency_table: str = option("", "file written by 'zcpt latency', for --max-latency")
    valid_only: bool = option(False, "propose only architectures that the published list of the space contains")
    train_channels: int = option(
        36, "width of the network to be trained, which the budgets apply to", shown="the default of 'zcpt train'"
    )
    train_layers: int = option(
        20, "depth of the network to be trained, as the space counts it", shown="the default of 'zcpt train'"
    )
    train_image_size: int = option(0, "side of its images in pixels", shown="0, that of the images")
    train_classes: int = option(0, "number of its classes", shown="0, that of the images")

    def __new__(cls, *args: Any, **kwargs: Any) -> SearchConfig:
        for old, new in RENAMED_SETTINGS.items():
            if old in kwargs:
                raise ConfigError(f"SearchConfig({old}=...) is now called SearchConfig({new}=...): rename it.")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        if isinstance(self.latency_table, os.PathLike):
            object.__setattr__(self, "latency_table", os.fspath(self.latency_table))
        for name in ("proxy", "validation_proxy"):
            _check_is_name(format_flag(name), getattr(self, name))
        check_types(self)
        # 'auto' is resolved here, so that run folders record a proxy that later versions cannot interpret differently.
        validation = self.validation_proxy or ("auto" if self.proxy == "auto" else "")
        object.__setattr__(self, "proxy", resolve_auto(self.proxy, "operations"))
        object.__setattr__(self, "validation_proxy", resolve_auto(validation, "validation"))
        get_order(self.order)
        self._check_operations()
        for use, name in BATCH_SIZES.items():
            criterion = self.criterion(use)
            if getattr(self, name) < criterion.min_batch:
                raise ConfigError(
                    f"{format_flag(name)} {getattr(self, name)} is too small: proxy '{criterion.name}' compares "
                    f"images with each other and needs at least {criterion.min_batch}, such as {format_flag(name)} 64."
                )
        least_one = ("proposals", "validation_batches", "validation_inits", "channels", "layers")
        for name in (*least_one, "train_channels", "train_layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{format_flag(name)} {getattr(self, name)} is too small: it must be at least 1.")
        self.describe_engines()  # raises ConfigError for an engine that does not support the settings
        if self.finalists == 1:
            raise ConfigError("--finalists 1 leaves no choice: give 2 or more, or 0 to let validation alone decide.")
        not_negative = ("seed", "finalists", "max_memory", "alpha_noise", "max_params", "max_macs", "max_latency")
        for name in (*not_negative, "train_image_size", "train_classes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{format_flag(name)} {getattr(self, name)} must not be negative.")
        if bool(self.max_latency) != bool(self.latency_table):
            raise ConfigError(
                "--max-latency MS and --latency-table FILE go together: 'zcpt latency --out FILE' measures a table."
            )

    def _check_operations(self) -> None:
        """Raise ProxyError if the proxy cannot score operations, ConfigError if it cannot rank them in this order."""
        criterion = self.criterion("operations")
        check_scores_operations(criterion, "Give another --proxy; as --validation-proxy it can compare whole networks.")
        if isinstance(criterion, Aggregate) and get_order(self.order).rank is not None:
            raise ConfigError(
                f"--order {self.order} compares operations of different edges, and '{criterion.name}' only ranks those "
                "of one edge: give --order random, fixed or reverse, or a single proxy."
            )

    def criterion(self, use: Use) -> Criterion:
        """Return the proxy or aggregate that scores operations (stage 1) or discrete networks (stage 2)."""
        name = self.validation_proxy if use == "validation" else ""
        return get_criterion(name or self.proxy)

    def build_evaluator(self, net: Scorable, use: Use) -> CriterionEvaluator:
        """Build the evaluator of a network, with the criterion, engine, precision and memory limit of the settings."""
        return CriterionEvaluator(
            net,
            self.criterion(use),
            engine=self.engine,
            precision=self.precision,
            max_memory=self.max_memory,
        )

    def describe_engines(self) -> str:
        """Return the engines that score with these proxies, such as 'fast', or 'fast and plain'.

        Raises:
            ConfigError: An engine does not support the settings.
        """
        parts = [part for use in BATCH_SIZES for part in get_components(self.criterion(use))]
        return " and ".join(sorted({resolve_engine(self.engine, part, self.max_memory) for part in parts}))


def _check_is_name(flag: str, given: object) -> None:
    """Raise ProxyError for a proxy that is given as an object or a class, which no run folder could record."""
    if isinstance(given, str):
        return
    kind, name = (given if isinstance(given, type) else type(given)), getattr(given, "name", None)
    if isinstance(name, str) and issubclass(kind, Proxy):
        is_known, decorator = name in list_proxies() and type(get_proxy(name)) is kind, "register_proxy"
    elif isinstance(name, str) and issubclass(kind, Aggregate):
        is_known, decorator = name.partition(":")[0] in list_aggregates(), "register_aggregate"
    else:
        is_known, decorator, name = True, "", "naswot"
    register = "" if is_known else f"register its class by zcpt.{decorator}({kind.__name__}), and "
    example = "" if decorator else ", for example ('zcpt list proxies' lists all)"
    raise ProxyError(
        f"{flag} takes the name of a proxy, which the run folder records, not "
        f"{f'class {kind.__name__}' if isinstance(given, type) else describe_value(given)}: {register}give "
        f"{'its name ' if decorator else ''}'{shorten(name)}'{example}."
    )


def make_paper_settings(space: SearchSpace) -> dict[str, Any]:
    """Return the settings of the published procedure for a space.

    Unlike the defaults: ReLUs are counted as in the published code, with its batch sizes; all proposals have the same
    supernet weights, and every step has a new mini-batch; stage 2 uses one initialisation; inputs that a node has
    dropped stay in the mixture; the architecture parameters are noisy; and an infinite score, as of a singular kernel,
    is compared as a number.
    """
    return {
        "proxy": "naswot-official",
        "order": "random",
        "proposals": 10,
        "validation_batches": 100,
        "validation_inits": 1,
        "batch_size": space.published.batch_size,
        "validation_batch_size": space.published.validation_batch_size or space.published.batch_size,
        "scoring_batch": "step",
        "supernet_weights": "run",
        "removed_inputs": "present",
        "non_finite": "compare",
        "alpha_noise": space.published.alpha_noise,
        "alpha_draw": space.published.alpha_draw,
    }


@dataclass(frozen=True)
class Preset:
    """Named settings of a published procedure."""

    summary: str
    """One line for ``zcpt list``."""
    make_settings: Callable[[SearchSpace], dict[str, Any]]
    """Returns the fields of ``SearchConfig`` that differ from the defaults, for a space."""


PRESETS = {"paper": Preset("the published procedure of Zero-Cost-PT (arXiv 2106.06799)", make_paper_settings)}


def configure(
    space: SearchSpace, /, preset: str | None = None, *, base: SearchConfig | None = None, **options: Any
) -> SearchConfig:
    """Return the settings for a space.

    Args:
        space: The search space, which has the default width and depth.
        preset: Name of a preset; its values replace the defaults.
        base: Settings to start from, instead of defaults and a preset.
        options: Fields of ``SearchConfig``; they override the preset and ``base``.

    Raises:
        ConfigError: A preset or an option is unknown, or a value cannot be used.
        ProxyError: The proxy is unknown, or cannot score operations.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(describe_unknown_name("preset", preset, PRESETS, "zcpt list presets"))
    if base is not None and not isinstance(base, SearchConfig):
        raise ConfigError(f"config must be a zcpt.SearchConfig, not {base!r}: give options by name, as proposals=10.")
    if preset is not None and base is not None:
        raise ConfigError(f"preset '{preset}' and a whole configuration are given: pass only one of them.")
    for old, new in RENAMED_SETTINGS.items():
        if old in options:
            if new in options:
                raise ConfigError(f"{old} is the old name of {new}, and both are given: leave {old} out.")
            # Level 3: the user's call of zcpt.search.
            warnings.warn(f"the option '{old}' is now '{new}'", DeprecationWarning, stacklevel=3)
    options = upgrade_settings(options)
    setting_names = [f.name for f in fields(SearchConfig)]
    for name in options:
        if name not in setting_names:
            raise ConfigError(describe_unknown_name("option of search", name, setting_names))
    if base is not None:
        config = replace(base, **options)
    else:
        defaults = {
            "channels": space.search_size.channels,
            "layers": space.search_size.layers,
            "train_channels": space.train_size.channels,
            "train_layers": space.train_size.layers,
        }
        config = SearchConfig(**{**defaults, **(PRESETS[preset].make_settings(space) if preset else {}), **options})
    if config.valid_only and not space.has_invalid_architectures:
        raise ConfigError(
            f"space '{space.name}' has no published list that leaves architectures out: leave out --valid-only."
        )
    return config


RENAMED_SETTINGS = {"struck_inputs": "removed_inputs"}
"""Old name of a setting -> its name now."""


def upgrade_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Rename settings of an earlier version, from its run folders or from code, to the fields of ``SearchConfig``."""
    return {RENAMED_SETTINGS.get(name, name): value for name, value in settings.items()}


@dataclass(frozen=True)
class SearchSeeds:
    """Separate seeds for the purposes of a search, all derived from one seed."""

    weights: int
    alpha: int
    order: int
    batch: int
    init: int
    validation: int

    @classmethod
    def from_seed(cls, seed: int) -> SearchSeeds:
        """Derive the seeds of a search from its seed."""
        return cls(**{name: derive_seed(seed, name) for name in cls.__dataclass_fields__})
