"""Everything that decides what a search does."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any, Literal

from zcpt.errors import ConfigError, describe_unknown_name
from zcpt.options import check_types, format_flag, option, parse_number
from zcpt.proxies import Aggregate, Criterion, Use, get_components, get_criterion, resolve_auto
from zcpt.scoring.criterion import check_scores_operations
from zcpt.scoring.evaluator import resolve_engine
from zcpt.search.orders import ORDERS, get_order
from zcpt.space import SearchSpace

_BATCH_SIZES: dict[Use, str] = {"operations": "batch_size", "validation": "validation_batch_size"}


@dataclass(frozen=True)
class SearchConfig:
    """Settings of a search; ConfigError or ProxyError if they cannot be used."""

    proxy: str = option(
        "naswot",
        "zero-cost proxy that scores networks; several together such as log_rank:naswot+synflow ('zcpt list "
        "aggregates'); or auto, what was measured to be best",
    )
    validation_proxy: str = option(
        "", "another proxy that stage 2 compares the proposals by, whole networks", shown="that of --proxy"
    )
    order: str = option("random", f"order in which edges are decided: {', '.join(ORDERS)}")
    joint: bool = option(False, "let all cell types share one order, rather than decide an edge of each at every step")
    proposals: int = option(10, "N, how many architectures stage 1 proposes")
    validation_batches: int = option(100, "V, on how many mini-batches stage 2 compares them")
    validation_inits: int = option(10, "R, how many initialisations stage 2 compares them at: batch v uses v mod R")
    batch_size: int = option(64, "images in a mini-batch of stage 1")
    validation_batch_size: int = option(128, "images in a mini-batch of stage 2")
    channels: int = option(16, "width of the supernet: channels of its first cells", shown="the space's, 16 in darts")
    layers: int = option(8, "depth of the supernet, as the space counts it", shown="the space's, 8 in darts")
    seed: int = option(0, "seed of all weights, orders and batches; one number for the whole run")
    scoring_batch: Literal["step", "proposal"] = option("proposal", "what one mini-batch of stage 1 serves")
    supernet_weights: Literal["proposal", "run"] = option("proposal", "what one draw of supernet weights serves")
    struck_inputs: Literal["absent", "present"] = option(
        "absent", "whether inputs that a node has lost are absent while its other inputs are compared"
    )
    non_finite: Literal["last", "compare"] = option(
        "last",
        "rank scores that are not finite last, or compare them as numbers (a singular kernel then wins)",
    )
    engine: Literal["auto", "plain", "fast"] = option(
        "auto", "how scores are computed; 'auto' is 'fast' where the proxy allows it, and the scores are the same"
    )
    precision: Literal["float32", "bf16"] = option("float32", "what networks are computed in while they are scored")
    max_memory: float = option(
        0.0,
        "bytes that scoring may take beside networks and batches, such as 500M or 2G; 0 sets no limit",
        parse_number,
    )
    alpha_noise: float = option(0.0, "standard deviation of the architecture parameters whose softmax are the weights")
    alpha_draw: Literal["proposal", "run"] = option("proposal", "what one draw of architecture parameters serves")
    max_params: float = option(
        0.0, "most parameters of the network to be trained, such as 3.3M; 0 sets no limit", parse_number
    )
    max_macs: float = option(
        0.0, "most multiply-accumulates for one image, such as 600M; 0 sets no limit", parse_number
    )
    max_latency: float = option(0.0, "most milliseconds by --latency-table; 0 sets no limit")
    latency_table: str = option("", "file that 'zcpt latency' wrote, for --max-latency")
    valid_only: bool = option(False, "propose only what the published list of the space has, where it leaves some out")
    train_channels: int = option(
        36, "width of the network to be trained, which budgets are about", shown="what 'zcpt train' takes"
    )
    train_layers: int = option(
        20, "depth of the network to be trained, as the space counts it", shown="what 'zcpt train' takes"
    )
    train_image_size: int = option(0, "pixels a side of its images; 0 means the size that the images have")
    train_classes: int = option(0, "classes that it tells apart; 0 means those that the images have")

    def __post_init__(self) -> None:
        if isinstance(self.latency_table, os.PathLike):
            object.__setattr__(self, "latency_table", os.fspath(self.latency_table))
        check_types(self)
        # What is written down is what 'auto' stood for.
        after = self.validation_proxy or ("auto" if self.proxy == "auto" else "")
        object.__setattr__(self, "proxy", resolve_auto(self.proxy, "operations"))
        object.__setattr__(self, "validation_proxy", resolve_auto(after, "validation"))
        get_order(self.order)
        self._check_operations()
        for use, name in _BATCH_SIZES.items():
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
        self.engines()
        not_negative = ("seed", "max_memory", "alpha_noise", "max_params", "max_macs", "max_latency")
        for name in (*not_negative, "train_image_size", "train_classes"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{format_flag(name)} {getattr(self, name)} must not be negative.")
        if bool(self.max_latency) != bool(self.latency_table):
            raise ConfigError(
                "--max-latency MS and --latency-table FILE go together: 'zcpt latency --out FILE' measures a table."
            )

    def _check_operations(self) -> None:
        """ProxyError or ConfigError where the proxy cannot score the operations of a supernet, or not in that order."""
        criterion = self.criterion("operations")
        check_scores_operations(criterion, "Give another --proxy; as --validation-proxy it can compare whole networks.")
        if isinstance(criterion, Aggregate) and get_order(self.order).rank is not None:
            raise ConfigError(
                f"--order {self.order} compares operations of different edges, and '{criterion.name}' only ranks those "
                "of one edge: give --order random, fixed or reverse, or a single proxy."
            )

    def criterion(self, use: Use) -> Criterion:
        """What scores operations, or the discrete networks of stage 2: a proxy, or an aggregate of several."""
        name = self.validation_proxy if use == "validation" else ""
        return get_criterion(name or self.proxy)

    def engines(self) -> str:
        """The engines that score with these proxies, such as 'fast', or 'fast and plain'.

        Raises:
            ConfigError: One of them cannot do what the settings ask for.
        """
        parts = [part for use in _BATCH_SIZES for part in get_components(self.criterion(use))]
        return " and ".join(sorted({resolve_engine(self.engine, part, self.max_memory) for part in parts}))


def paper(space: SearchSpace) -> dict[str, Any]:
    """The published procedure as it is.

    The counting of its code, one set of weights for all proposals, validation summed over one initialisation,
    its batch sizes on that space; a kernel that is singular is compared as the number that it is.
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
        "struck_inputs": "present",
        "non_finite": "compare",
        "alpha_noise": space.published.alpha_noise,
        "alpha_draw": space.published.alpha_draw,
    }


PRESETS = {"paper": paper}


def configure(space: SearchSpace, /, preset: str | None = None, **options: Any) -> SearchConfig:
    """The settings for a space: its own width and depth, below a preset, below the options given."""
    if preset is not None and preset not in PRESETS:
        raise ConfigError(describe_unknown_name("preset", preset, PRESETS, "zcpt list presets"))
    known = [f.name for f in fields(SearchConfig)]
    for name in options:
        if name not in known:
            raise ConfigError(describe_unknown_name("option of search", name, known))
    size = {"channels": space.search_size.channels, "layers": space.search_size.layers}
    size |= {"train_channels": space.train_size.channels, "train_layers": space.train_size.layers}
    config = SearchConfig(**{**size, **(PRESETS[preset](space) if preset else {}), **options})
    if config.valid_only and not space.has_invalid_architectures:
        raise ConfigError(f"space '{space.name}' has no published list that leaves some out: leave out --valid-only.")
    return config
