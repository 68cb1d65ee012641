"""Planning: check all arguments of a search before anything is scored or written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from zcpt.batches import Batch, Batches, as_batches, check_batch_sizes, check_class_count, compute_fingerprint
from zcpt.devices import resolve_device, use_standard_settings
from zcpt.errors import DataError
from zcpt.options import format_flag
from zcpt.proxies import Use
from zcpt.search.budgets import BudgetChecker, build_budgets, build_trained_config, compute_checksums
from zcpt.search.config import BATCH_SIZES, SearchConfig, SearchSeeds
from zcpt.search.finalists import check_finalists, describe_finalist_value
from zcpt.search.run_folder import EarlierSearch, check_run_folder, use_own_latency_table
from zcpt.search.supernets import FreshSupernets, SupernetSource
from zcpt.seeding import derive_seed
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.values import Value
from zcpt.versions import get_versions

_SAMPLES, _SAMPLE_SIZE = 4, 64
"""Number and size of the batches of ``describe_sample``: small, because pictures may be large."""


@dataclass(frozen=True)
class SearchPlan:
    """A search that is ready to run."""

    space: SearchSpace
    config: SearchConfig
    batches: Batches
    network_config: NetworkConfig
    """Configuration of the supernet."""
    device: torch.device
    document: Mapping[str, Any]
    """Content of ``config.json``."""
    run_dir: Path | None
    resume: bool
    earlier: EarlierSearch = field(default_factory=EarlierSearch)
    """The search before it was resumed."""
    finalist_value: Value | None = None
    """What measures the finalists; None if there are none."""
    workers: int = 1
    """Processes that measure finalists side by side."""
    memory: int | None = None
    """Estimated bytes that scoring takes at once; None where there is no limit."""

    @cached_property
    def budget_checker(self) -> BudgetChecker:
        """Check of the proposals against the budgets; InfeasibleError if no architecture meets them."""
        return BudgetChecker.from_config(self.space, self.config, self.network_config)


@use_standard_settings()
def plan_search(
    space: SearchSpace,
    batches: object,
    config: SearchConfig,
    *,
    run_dir: Path | None = None,
    resume: bool = False,
    device: str | torch.device = "cpu",
    num_classes: int | None = None,
    finalist_value: Value | None = None,
    workers: int = 1,
) -> SearchPlan:
    """Check a search without writing anything; ``zcpt.search`` documents the arguments and errors."""
    check_finalists(config, finalist_value, workers)
    if run_dir and resume and not Path(config.latency_table).exists():
        config = use_own_latency_table(run_dir, config)
    source = as_batches(batches, num_classes)
    check_image_count(source, config)
    check_class_count(source)
    probe = source.draw(config.batch_size, seed=0)  # for the size of the images, and the fingerprint of their content
    network_config = build_network_config(config, probe, source.num_classes)
    space.check_network_config(network_config)
    device = resolve_device(device)
    memory = None
    if config.max_memory:
        memory = _estimate_memory(FreshSupernets(space, network_config, config, device), config, probe)
    trained_config = build_trained_config(config, network_config)
    space.check_network_config(trained_config)
    document = {
        **_describe(space, config, source, network_config, trained_config),
        "device": str(device),
        "fingerprint": compute_fingerprint(probe),
        "finalist_value": describe_finalist_value(finalist_value),
    }
    # Before the budgets are checked for feasibility: with another latency table that error would be misleading.
    earlier = check_run_folder(run_dir, document) if run_dir and resume else EarlierSearch()
    return SearchPlan(
        space,
        config,
        source,
        network_config,
        device,
        document,
        run_dir,
        resume,
        earlier,
        finalist_value,
        workers,
        memory,
    )


def _describe(
    space: SearchSpace,
    config: SearchConfig,
    source: Batches,
    network_config: NetworkConfig,
    trained_config: NetworkConfig,
) -> dict[str, Any]:
    """Return the entries of ``config.json`` that follow from settings and images."""
    return {
        "space": space.name,
        "search": asdict(config),
        "seeds": asdict(SearchSeeds.from_seed(config.seed)),
        "images": {
            "size": list(network_config.image_size),
            "channels": network_config.in_channels,
            "classes": network_config.num_classes,
        },
        "engine": config.describe_engines(),
        "versions": get_versions(),
        "data": dict(source.about),
        "sample": describe_sample(source),
        "budgets": compute_checksums(space, trained_config, build_budgets(space, config, trained_config)),
    }


def describe_sample(source: Batches) -> dict[str, Any]:
    """Return the number of images, and a fingerprint of at most 256 of them, beside that of one mini-batch."""
    size = min(_SAMPLE_SIZE, len(source))
    batches = (source.draw(size, derive_seed(number, "fingerprint")) for number in range(_SAMPLES))
    digest = hashlib.sha256("".join(map(compute_fingerprint, batches)).encode())
    return {"images": len(source), "fingerprint": digest.hexdigest()[:16]}


def build_network_config(config: SearchConfig, batch: Batch, num_classes: int) -> NetworkConfig:
    """Return the configuration of the supernet: width and depth of the settings, images as in the batch."""
    _, channels, height, width = batch.images.shape
    return NetworkConfig(config.channels, config.layers, num_classes, channels, (height, width))


def check_image_count(batches: Batches, config: SearchConfig) -> None:
    """Raise DataError if there are fewer images than the proxy needs or than a mini-batch holds."""
    uses: tuple[Use, ...] = ("operations", "validation") if config.proposals > 1 else ("operations",)
    sizes: dict[str, int] = {}
    for use in uses:
        criterion, name = config.criterion(use), BATCH_SIZES[use]
        if len(batches) < criterion.min_batch:
            raise DataError(
                f"there are {len(batches)} images to draw from, and proxy '{criterion.name}' needs at least "
                f"{criterion.min_batch}: give more training images."
            )
        sizes[format_flag(name)] = getattr(config, name)
    check_batch_sizes(batches, sizes)


def _estimate_memory(supernets: SupernetSource, config: SearchConfig, probe: Batch) -> int | None:
    """Return the bytes of the first decision; ConfigError if they exceed the limit."""
    # No later decision needs more: the supernet only loses candidates.
    mixture = supernets.draw_initial_mixture(0)
    choice = next(iter(mixture.choices.values()))
    perturbations = [mixture.without(choice.name, candidate) for candidate in choice.candidates]
    evaluator = config.build_evaluator(supernets.build_supernet(0), "operations")
    return evaluator.estimate_memory(perturbations, supernets.move_batch(probe))
