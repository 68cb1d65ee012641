"""Planning: check all arguments of a multi-trial search before anything is measured or written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from zcpt.architecture import Architecture
from zcpt.batches import Batch, Batches, as_batches, check_batch_sizes, check_class_count, compute_fingerprint
from zcpt.devices import resolve_device, use_standard_settings
from zcpt.errors import ConfigError
from zcpt.items import describe_value
from zcpt.proxies import get_components
from zcpt.ray_workers import check_devices, open_pool
from zcpt.scoring import NetworkScorer
from zcpt.search import BudgetChecker
from zcpt.seeding import derive_seed
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.trials.algorithm import Settings
from zcpt.trials.candidates import Candidates
from zcpt.trials.config import TrialsConfig
from zcpt.trials.scores import NetworkScores, ScoreSource
from zcpt.values import StagedValue, Value
from zcpt.versions import get_versions
from zcpt.workers import Pool

PROXY = "proxy"
"""Value that is the score by the proxy itself."""


@dataclass(frozen=True)
class TrialsPlan:
    """A multi-trial search that is ready to run."""

    space: SearchSpace
    value: Value | str
    """What is measured; ``PROXY`` is the score by the proxy."""
    config: TrialsConfig
    settings: Settings
    budget_checker: BudgetChecker
    """Check of the architectures against the budgets."""
    candidates: Candidates
    scores: ScoreSource | None
    """Where proxy scores come from; None without a proxy."""
    workers: int | None
    ray: str | None
    """Address of a Ray cluster; None measures on this machine."""
    document: Mapping[str, Any]
    """Content of ``config.json``."""
    network_config: NetworkConfig
    """Configuration of the networks that are scored."""

    def open_pool(self) -> Pool:
        """Return the processes that measure architectures and score networks."""
        devices = [self.document["device"], getattr(self.value, "device", "cpu")]
        return open_pool(self.workers, "measures architectures", ray=self.ray, devices=devices)

    def describe_value(self) -> str:
        """Return the name of what is measured, for messages."""
        return f"proxy '{self.config.proxy}'" if isinstance(self.value, str) else self.value.name


@use_standard_settings()
def plan_trials(
    space: SearchSpace,
    value: Value | str,
    config: TrialsConfig,
    settings: Settings,
    *,
    batches: object = None,
    scores: ScoreSource | None = None,
    architectures: Sequence[Architecture] | None = None,
    device: str | torch.device = "cpu",
    workers: int | None = None,
    ray: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> TrialsPlan:
    """Check a multi-trial search without writing anything.

    ``zcpt.run_trials`` documents arguments and errors; ``about`` has further entries of ``config.json``.
    """
    _check_value(value, config)
    _check_stages(value, config, settings)
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers {workers} is too small: it must be at least 1.")
    resolved = resolve_device(device)
    if ray is not None:
        check_devices([resolved])
    source = None if batches is None else as_batches(batches)
    batch = None if source is None else _draw_batch(source, config)
    network_config = _make_network_config(source, batch, config)
    space.check_network_config(network_config)
    if config.proxy and scores is None:
        if batch is None:
            raise ConfigError(
                f"proxy '{config.proxy}' scores networks on images, and there are none: give images, or a table of "
                "scores (--scores FILE)."
            )
        scores = _build_network_scores(space, config, network_config, batch, resolved)
    checker = BudgetChecker.from_config(space, config.make_search_config(space), network_config)
    document = {
        **_describe(space, value, config, settings, network_config),
        "scores": None if not config.proxy or scores is None else dict(scores.describe()),
        "architectures": _describe_list(space, architectures),
        "device": str(resolved),
        "data": {} if source is None else dict(source.about),
        "fingerprint": "" if batch is None else compute_fingerprint(batch),
        **(about or {}),
    }
    return TrialsPlan(
        space,
        value,
        config,
        settings,
        checker,
        Candidates(space, checker, architectures),
        scores if config.proxy else None,
        workers,
        ray,
        document,
        network_config,
    )


def _describe(
    space: SearchSpace, value: Value | str, config: TrialsConfig, settings: Settings, network_config: NetworkConfig
) -> dict[str, Any]:
    """Return the entries of ``config.json`` that say what is run."""
    return {
        "space": space.name,
        "trials": asdict(config),
        "algorithm": asdict(settings),
        "value": {"name": value} if isinstance(value, str) else {"name": value.name, **value.describe()},
        "images": {
            "size": list(network_config.image_size),
            "channels": network_config.in_channels,
            "classes": network_config.num_classes,
        },
        "versions": get_versions(),
    }


def _check_value(value: object, config: TrialsConfig) -> None:
    if isinstance(value, str):
        if value != PROXY:
            raise ConfigError(f"the value is 'proxy' or an object that measures architectures, not '{value}'.")
        if not config.proxy:
            raise ConfigError("--value proxy needs the proxy: add --proxy, such as naswot.")
    elif not callable(getattr(value, "measure", None)) or isinstance(value, type):
        raise ConfigError(
            f"the value must have the methods of zcpt.trials.Value, and {describe_value(value)} has no 'measure'."
        )


def _check_stages(value: Value | str, config: TrialsConfig, settings: Settings) -> None:
    if settings.trains_in_stages and not isinstance(value, StagedValue):
        raise ConfigError(
            f"algorithm '{config.algorithm}' trains networks in stages: give --value train:RECIPE, or a value with a "
            "method measure_share; or another --algorithm."
        )


def _draw_batch(source: Batches, config: TrialsConfig) -> Batch:
    if config.proxy:
        check_batch_sizes(source, {"--batch-size": config.batch_size})
    check_class_count(source)
    return source.draw(min(config.batch_size, len(source)), derive_seed(config.seed, "batch"))


def _make_network_config(source: Batches | None, batch: Batch | None, config: TrialsConfig) -> NetworkConfig:
    """Return the configuration of the networks that are scored; without images it has those of CIFAR-10."""
    if source is None or batch is None:
        return NetworkConfig(config.channels, config.layers)
    _, channels, height, width = batch.images.shape
    return NetworkConfig(config.channels, config.layers, source.num_classes, channels, (height, width))


def _build_network_scores(
    space: SearchSpace, config: TrialsConfig, network_config: NetworkConfig, batch: Batch, device: torch.device
) -> NetworkScores:
    criterion = config.criterion
    assert criterion is not None
    components = get_components(criterion)
    return NetworkScores(NetworkScorer(space, network_config, components, batch, config.seed, False, str(device)))


def _describe_list(space: SearchSpace, architectures: Sequence[Architecture] | None) -> dict[str, Any] | None:
    """Return the number of architectures that are allowed, and a hash of them; None if all of the space are."""
    if architectures is None:
        return None
    text = "\n".join(map(space.format, architectures))
    return {"number": len(architectures), "content": hashlib.sha256(text.encode()).hexdigest()[:16]}
