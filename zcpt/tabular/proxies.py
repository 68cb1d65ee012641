"""Rank correlation of proxies: scores of discrete networks against their trained accuracies."""

from __future__ import annotations

import csv
import io
import logging
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from zcpt.batches import Batch, Batches, check_batch_sizes, check_class_count, compute_fingerprint
from zcpt.devices import resolve_device
from zcpt.errors import ConfigError, ProxyError
from zcpt.files import read_json, write_atomically
from zcpt.journal import Journal, Record
from zcpt.options import check_types, format_flag, option, pluralize
from zcpt.progress import show_progress
from zcpt.proxies import Aggregate, ArchitectureProxy, Criterion, Proxy, get_components, get_criterion
from zcpt.ray_workers import check_devices, open_pool
from zcpt.scoring import IndexedArchitecture, NetworkScorer
from zcpt.seeding import derive_seed
from zcpt.space import NetworkConfig
from zcpt.tabular._benchmark import TabularBenchmark
from zcpt.tabular._folder import CONFIG, RESULT, describe_environment, open_folder, write_json
from zcpt.tabular.measures import compare_rankings
from zcpt.workers import Pool, WorkerPool

_log = logging.getLogger(__name__)
_JOURNAL_FILE = "scores"
SCORES_FILE = "scores.csv"


@dataclass(frozen=True)
class ProxyOptions:
    """Settings of a measurement of proxies; ConfigError if one is invalid."""

    accuracy_on: str = option(
        "",
        "data set of the table whose accuracies count",
        shown="that of --dataset if the table has it, else its first",
    )
    metric: str = option(
        "", "which accuracies: test, valid, best-test, test-12 ...", shown="test if the table has it, else its first"
    )
    samples: int = option(1000, "how many architectures are drawn from the table; 0 takes all")
    batch_size: int = option(64, "images in the mini-batch, which is the same one for all networks")
    weights: Literal["shared", "own"] = option("shared", "whether all networks draw their weights from one seed")
    seed: int = option(0, "seed of the sample, the weights, the mini-batch and the intervals")
    resamples: int = option(1000, "draws of the bootstrap that gives the 95 % intervals")
    channels: int = option(0, "width of the networks", shown="that of the networks that were trained")
    layers: int = option(0, "depth of the networks", shown="that of the networks that were trained")

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("samples", "seed", "resamples", "channels", "layers"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{format_flag(name)} {getattr(self, name)} must not be negative.")
        if self.batch_size < 1:
            raise ConfigError(f"--batch-size {self.batch_size} is too small: it must be at least 1.")


def measure_proxies(
    table: TabularBenchmark,
    batches: Batches,
    proxies: Sequence[str | Criterion],
    folder: str | Path,
    options: ProxyOptions | None = None,
    *,
    device: str | torch.device = "cpu",
    workers: int = 0,
    ray: str | None = None,
) -> dict[str, Any]:
    """Score architectures as freshly initialised networks, and compare the ranking with that by trained accuracy.

    Args:
        table: Architectures and their accuracies.
        batches: Source of the mini-batch.
        proxies: Proxies and aggregates, or their names. The values of an aggregate are ranks among the architectures
            of the sample.
        folder: Folder of the journal and the result. That of the same measurement is resumed. If it has other proxies,
            these are added to it: networks are scored by the new ones only, and the result has all.
        options: Settings on which the result depends.
        device: Device on which networks are scored.
        workers: Processes that share the work; 0 is one for each core, or a single one if the device is no CPU; with
            ``ray`` one for each CPU, or GPU, of the cluster.
        ray: Address of a Ray cluster, 'auto' for the one that runs on this machine.

    Returns:
        The content of ``result.json``.

    Raises:
        ZcptError: An argument is invalid.
    """
    options, folder, device = options or ProxyOptions(), Path(folder), resolve_device(device)
    criteria = _check_proxies(proxies, options, folder)
    batch = _draw_batch(batches, options)
    network_config = _make_network_config(table, batches, batch, options)
    data_set, options = _choose_accuracies(table, batches, options)
    accuracies = table.get_accuracies(data_set, options.metric)
    sample = draw_sample(accuracies, options)
    parts = tuple({part.name: part for criterion in criteria for part in get_components(criterion)}.values())
    protocol: dict[str, Any] = {
        "benchmark": "proxies",
        "space": table.space.name,
        "table": table.describe(data_set, options.metric),
        "proxies": [criterion.name for criterion in criteria],
        "trainings": {part.name: dict(part.about) for part in parts if isinstance(part, ArchitectureProxy)},
        "options": asdict(options),
        "networks": asdict(network_config),
        "images": {**batches.about, "fingerprint": compute_fingerprint(batch)},
    }
    own = options.weights == "own"
    scorer = NetworkScorer(table.space, network_config, parts, batch, options.seed, own, str(device))
    with _open_pool(workers, ray, device) as pool, ExitStack() as stack:
        protocol |= describe_environment(device, pool)
        journal = stack.enter_context(open_folder(folder, protocol, growing=["proxies", "trainings"]))
        by_index = _score_missing(scorer, [(i, table.architectures[i]) for i in sample], journal, pool)
        records = _add_aggregates([by_index[index] for index in sample], criteria)
        result = {"protocol": protocol, **_evaluate_proxies(criteria, records, accuracies[sample], options)}
        write_atomically(folder / SCORES_FILE, _format_scores(records, accuracies[sample], protocol["proxies"]))
        write_json(folder / RESULT, result)
    return result


def _check_proxies(proxies: Sequence[str | Criterion], options: ProxyOptions, folder: Path) -> tuple[Criterion, ...]:
    """Return the criteria that the folder has already, and those to add, in this order.

    Raises:
        ConfigError: A name is given twice, or the folder has a proxy that is not registered.
        ProxyError: A name is unknown, or a proxy needs a larger mini-batch.
    """
    requested = [get_criterion(proxy) if isinstance(proxy, str) else proxy for proxy in proxies]
    names = [criterion.name for criterion in requested]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--proxies must name different proxies, such as naswot,naswot-official, not {names}.")
    by_name = {criterion.name: criterion for criterion in requested}
    criteria = [
        by_name.pop(name) if name in by_name else _get_measured(name, folder) for name in read_measured_proxies(folder)
    ]
    criteria += by_name.values()
    for criterion in criteria:
        if options.batch_size < criterion.min_batch:
            raise ProxyError(
                f"--batch-size {options.batch_size} is too small: proxy '{criterion.name}' needs at least "
                f"{criterion.min_batch}."
            )
    return tuple(criteria)


def read_measured_proxies(folder: Path) -> list[str]:
    """Return the names of the proxies that a folder has scores of; an empty list if it holds no such measurement."""
    if not (folder / CONFIG).exists():
        return []
    # A folder of another benchmark is refused, with its name, when it is opened.
    names = read_json(folder / CONFIG, ["benchmark"]).get("proxies", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{folder / CONFIG} is damaged: 'proxies' is no list of names. Give another --out.")
    return names


def _get_measured(name: str, folder: Path) -> Criterion:
    try:
        return get_criterion(name)
    except ProxyError:
        raise ConfigError(
            f"{folder} has scores of '{name}', which is no registered proxy: import the module that registers it, or "
            "give another --out."
        ) from None


def _choose_accuracies(table: TabularBenchmark, batches: Batches, options: ProxyOptions) -> tuple[str, ProxyOptions]:
    """Return the data set whose accuracies count, and the options with the name of the accuracies."""
    data_set = choose_data_set(table, batches, options.accuracy_on)
    return data_set, replace(options, metric=table.choose_metric(data_set, options.metric))


def _draw_batch(batches: Batches, options: ProxyOptions) -> Batch:
    check_batch_sizes(batches, {"--batch-size": options.batch_size})
    check_class_count(batches)
    return batches.draw(options.batch_size, derive_seed(options.seed, "batch"))


def _make_network_config(
    table: TabularBenchmark, batches: Batches, batch: Batch, options: ProxyOptions
) -> NetworkConfig:
    """Return the configuration of networks for these images, by default as large as the trained ones."""
    _, channels, height, width = batch.images.shape
    network_config = NetworkConfig(
        options.channels or table.size.channels,
        options.layers or table.size.layers,
        batches.num_classes,
        channels,
        (height, width),
    )
    table.space.check_network_config(network_config)
    return network_config


def _open_pool(workers: int, ray: str | None, device: torch.device) -> Pool:
    """Return the processes that score; 0 stands for the default of the device or of the cluster."""
    if workers < 0:
        raise ConfigError(f"--workers {workers} must not be negative.")
    if ray is None:
        return WorkerPool(workers or ((os.cpu_count() or 1) if device.type == "cpu" else 1), "scores networks")
    check_devices([device])
    return open_pool(workers or None, "scores networks", ray=ray, devices=[device])


def choose_data_set(table: TabularBenchmark, batches: Batches, requested: str) -> str:
    """Return the data set whose accuracies count: the requested one, that of the images, or the table's first."""
    image_data_set = str(batches.about.get("dataset", ""))
    return requested or (image_data_set if image_data_set in table.data_sets else table.data_sets[0])


def draw_sample(accuracies: NDArray[np.float64], options: ProxyOptions) -> list[int]:
    """Draw the indices of the architectures that are scored; ``samples=0`` takes all that have an accuracy."""
    listed = np.flatnonzero(~np.isnan(accuracies))
    if options.samples in (0, len(listed)):
        return [int(index) for index in listed]
    if options.samples > len(listed):
        raise ConfigError(f"--samples {options.samples} is more than the {len(listed)} architectures of the table.")
    generator = torch.Generator().manual_seed(derive_seed(options.seed, "sample"))
    permutation = torch.randperm(len(listed), generator=generator)
    return [int(listed[i]) for i in permutation[: options.samples].tolist()]


def _score_missing(
    scorer: NetworkScorer, items: Sequence[IndexedArchitecture], journal: Journal, pool: Pool
) -> dict[int, Record]:
    """Return the record of each architecture by its index, after computing the scores that the journal lacks.

    An architecture has several lines in the journal if proxies were added later.
    """
    records: dict[int, Record] = {}
    for record in journal.records(_JOURNAL_FILE):
        _merge(records, record)
    groups: dict[tuple[Proxy, ...], list[IndexedArchitecture]] = {}
    for item in items:
        record = records.get(item[0], {"scores": {}, "failures": {}})
        missing = [p for p in scorer.proxies if p.name not in record["scores"] and p.name not in record["failures"]]
        if missing:
            groups.setdefault(tuple(missing), []).append(item)
    remaining = sum(map(len, groups.values()))
    with show_progress(title="networks", total=len(items), initial=len(items) - remaining) as bar:
        for proxies, group in groups.items():
            _log.info(f"scoring {pluralize(len(group), 'network')} by {', '.join(proxy.name for proxy in proxies)}")
            # Closed at once also after an error, so that no process is busy any more.
            with closing(pool.run(replace(scorer, proxies=proxies).score_network, group)) as scored:
                for record in scored:
                    journal.append(_JOURNAL_FILE, record)
                    _merge(records, record)
                    bar.update()
    return records


def _merge(records: dict[int, Record], record: Record) -> None:
    """Add the scores of a line to those of the same architecture."""
    merged = records.setdefault(record["index"], {**record, "scores": {}, "seconds": {}, "failures": {}})
    for name in ("scores", "seconds", "failures"):
        merged[name].update(record[name])


def _add_aggregates(records: Sequence[Record], criteria: Sequence[Criterion]) -> list[Record]:
    """Return the records of all networks with the values of aggregates among the scores.

    They are not in the journal: an aggregate ranks all networks of the sample, so it can only be computed at the end.
    """
    extended = [{**record, "scores": dict(record["scores"]), "seconds": dict(record["seconds"])} for record in records]
    for criterion in criteria:
        if isinstance(criterion, Aggregate):
            names = [part.name for part in criterion.components]
            scores = {name: [record["scores"].get(name, math.nan) for record in records] for name in names}
            for record, value in zip(extended, criterion.compute_values(scores), strict=True):
                record["scores"][criterion.name] = value
                record["seconds"][criterion.name] = sum(record["seconds"].get(name, 0.0) for name in names)
    return extended


def _evaluate_proxies(
    criteria: Sequence[Criterion], records: Sequence[Record], accuracies: NDArray[np.float64], options: ProxyOptions
) -> dict[str, Any]:
    """Return the measures of each proxy, and the networks that it failed to score."""
    results: dict[str, Any] = {}
    failures: list[dict[str, Any]] = []
    for criterion in criteria:
        name, sign = criterion.name, 1 if criterion.higher_is_better else -1
        scores = np.array([sign * record["scores"].get(name, math.nan) for record in records])
        finite = np.isfinite(scores)
        seconds = [record["seconds"][name] for record in records if name in record["seconds"]]
        results[name] = {
            "higher_is_better": criterion.higher_is_better,
            "networks": int(finite.sum()),
            "failures": int((~finite).sum()),
            "seconds": median(seconds) if seconds else math.nan,
            **compare_rankings(
                scores[finite], accuracies[finite], options.resamples, derive_seed(options.seed, "bootstrap")
            ),
        }
        by_reason: dict[str, list[str]] = {}
        for record in records:
            if name in record["failures"]:
                by_reason.setdefault(record["failures"][name], []).append(record["architecture"])
        failures += [
            {"proxy": name, "reason": reason, "count": len(texts), "first": texts[0]}
            for reason, texts in by_reason.items()
        ]
    return {"results": results, "failures": failures, "best_drawn": float(accuracies.max())}


def _format_scores(records: Sequence[Mapping[str, Any]], accuracies: NDArray[np.float64], names: Sequence[str]) -> str:
    """Return the CSV text of all scores."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "architecture", "accuracy", *names])
    for record, accuracy in zip(records, accuracies.tolist(), strict=True):
        scores = (record["scores"].get(name, "") for name in names)
        writer.writerow([record["index"], record["architecture"], accuracy, *scores])
    return text.getvalue()
