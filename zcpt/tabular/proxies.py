"""How well proxies rank networks: scores of discrete networks beside their trained accuracies."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from zcpt.batches import Batch, Batches, compute_fingerprint
from zcpt.devices import resolve_device
from zcpt.errors import ConfigError, DataError, ProxyError
from zcpt.files import write_atomically
from zcpt.journal import Journal, Record
from zcpt.options import check_types, format_flag, option
from zcpt.proxies import Aggregate, Criterion, get_components, get_criterion
from zcpt.seeding import derive_seed
from zcpt.space import NetworkConfig
from zcpt.tabular._folder import RESULT, opened, surroundings, write_json
from zcpt.tabular._table import Table
from zcpt.tabular._workers import Job, Task, records
from zcpt.tabular.measures import agreement

_FILE = "scores"
SCORES = "scores.csv"


@dataclass(frozen=True)
class ProxyOptions:
    """Settings of a measurement of proxies; ConfigError if they cannot be used."""

    accuracy_on: str = option(
        "",
        "data set of the table whose accuracies count",
        shown="that of --dataset if the table has it, else its first",
    )
    metric: str = option("test", "which accuracies: test, valid, best-test, test-12 ...")
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
    table: Table,
    batches: Batches,
    proxies: Sequence[str | Criterion],
    folder: str | Path,
    options: ProxyOptions | None = None,
    *,
    device: str | torch.device = "cpu",
    workers: int = 0,
) -> dict[str, Any]:
    """Score architectures of a table as freshly initialised networks, and compare the ranking with the trained one.

    Args:
        table: The architectures and their accuracies.
        batches: Where the mini-batch comes from.
        proxies: Which proxies and aggregates, or their names. The values of an aggregate are places among the
            architectures of the sample.
        folder: Where the journal and the result go. A folder of the same measurement is gone on with.
        options: Everything that decides what comes out.
        device: Where networks are scored.
        workers: Processes that share the work; 0 is one for each core, or one in all where the device is no CPU.

    Returns:
        What ``result.json`` holds.

    Raises:
        ZcptError: Something given cannot be used.
    """
    options, folder, device = options or ProxyOptions(), Path(folder), resolve_device(device)
    chosen = _proxies(proxies, options)
    if options.batch_size > len(batches):
        raise DataError(f"--batch-size {options.batch_size} is more than the {len(batches)} images to draw from.")
    batch = batches.draw(options.batch_size, derive_seed(options.seed, "batch"))
    network_config = shape_of(table, batches, batch, options.channels, options.layers)
    data_set = data_set_of(table, batches, options.accuracy_on)
    sample = drawn(table.accuracies(data_set, options.metric), options)
    workers = _checked(workers, device)
    document = {
        "benchmark": "proxies",
        "space": table.space.name,
        "table": table.document(data_set, options.metric),
        "proxies": [proxy.name for proxy in chosen],
        "options": asdict(options),
        "networks": asdict(network_config),
        "images": {**batches.about, "fingerprint": compute_fingerprint(batch)},
        **surroundings(device, workers),
    }
    parts = tuple({part.name: part for criterion in chosen for part in get_components(criterion)}.values())
    job = Job(table.space, network_config, parts, batch, options.seed, options.weights == "own", str(device))
    with opened(folder, document) as journal:
        known = _scored(job, [(index, table.architectures[index]) for index in sample], journal, workers)
        found = _with_aggregates([known[index] for index in sample], chosen)
        accuracies = table.accuracies(data_set, options.metric)[sample]
        result = {"protocol": document, **_judged(chosen, found, accuracies, options)}
        write_atomically(folder / SCORES, _scores(found, accuracies, document["proxies"]))
        write_json(folder / RESULT, result)
    return result


def _scored(job: Job, tasks: Sequence[Task], journal: Journal, workers: int) -> dict[int, dict[str, Any]]:
    """The records of these architectures, by index; those that the journal lacks are computed and appended."""
    known = {record["index"]: record for record in journal.records(_FILE)}
    missing = [task for task in tasks if task[0] not in known]
    with tqdm(desc="networks", total=len(tasks), initial=len(tasks) - len(missing), disable=None) as bar:
        for record in records(job, missing, workers):
            journal.append(_FILE, record)
            known[record["index"]] = record
            bar.update()
    return known


def shape_of(table: Table, batches: Batches, batch: Batch, channels: int, layers: int) -> NetworkConfig:
    """Return the configuration of networks for these images; 0 stands for the width or depth of the trained ones."""
    _, depth, height, width = batch.images.shape
    size = table.size
    network_config = NetworkConfig(
        channels or size.channels, layers or size.layers, batches.num_classes, depth, (height, width)
    )
    table.space.check_network_config(network_config)
    return network_config


def data_set_of(table: Table, batches: Batches, given: str) -> str:
    """The data set of the table whose accuracies count: the given one, else that of the images, else the first."""
    images = str(batches.about.get("dataset", ""))
    return given or (images if images in table.data_sets else table.data_sets[0])


def drawn(accuracies: np.ndarray[Any, np.dtype[np.float64]], options: ProxyOptions) -> list[int]:
    """Places in the table of the architectures that are scored: all that have an accuracy, or a random part."""
    known = np.flatnonzero(~np.isnan(accuracies))
    if options.samples in (0, len(known)):
        return [int(index) for index in known]
    if options.samples > len(known):
        raise ConfigError(f"--samples {options.samples} is more than the {len(known)} architectures of the table.")
    generator = torch.Generator().manual_seed(derive_seed(options.seed, "sample"))
    picked = torch.randperm(len(known), generator=generator)[: options.samples]
    return [int(known[i]) for i in picked.tolist()]


def _proxies(proxies: Sequence[str | Criterion], options: ProxyOptions) -> tuple[Criterion, ...]:
    chosen = tuple(get_criterion(each) if isinstance(each, str) else each for each in proxies)
    names = [criterion.name for criterion in chosen]
    if not names or len(set(names)) < len(names):
        raise ConfigError(f"--proxies must name different proxies, such as naswot,naswot-official, not {names}.")
    for criterion in chosen:
        if options.batch_size < criterion.min_batch:
            raise ProxyError(
                f"--batch-size {options.batch_size} is too small: proxy '{criterion.name}' needs at least "
                f"{criterion.min_batch}."
            )
    return chosen


def _with_aggregates(found: Sequence[Record], chosen: Sequence[Criterion]) -> list[Record]:
    """The records of all networks, with the values of aggregates among the scores."""
    extended = [{**record, "scores": dict(record["scores"]), "seconds": dict(record["seconds"])} for record in found]
    for criterion in chosen:
        if isinstance(criterion, Aggregate):
            names = [part.name for part in criterion.components]
            scores = {name: [record["scores"].get(name, math.nan) for record in found] for name in names}
            for record, value in zip(extended, criterion.compute_values(scores), strict=True):
                record["scores"][criterion.name] = value
                record["seconds"][criterion.name] = sum(record["seconds"].get(name, 0.0) for name in names)
    return extended


def _checked(workers: int, device: torch.device) -> int:
    if workers < 0:
        raise ConfigError(f"--workers {workers} must not be negative.")
    return workers or ((os.cpu_count() or 1) if device.type == "cpu" else 1)


def _judged(
    proxies: Sequence[Criterion],
    found: Sequence[Record],
    accuracies: np.ndarray[Any, np.dtype[np.float64]],
    options: ProxyOptions,
) -> dict[str, Any]:
    results: dict[str, Any] = {}
    failures: dict[tuple[str, str], list[str]] = {}
    for proxy in proxies:
        sign = 1 if proxy.higher_is_better else -1
        values = np.array([sign * record["scores"].get(proxy.name, math.nan) for record in found])
        finite = np.isfinite(values)
        seconds = [record["seconds"][proxy.name] for record in found if proxy.name in record["seconds"]]
        results[proxy.name] = {
            "higher_is_better": proxy.higher_is_better,
            "networks": int(finite.sum()),
            "failures": int((~finite).sum()),
            "seconds": median(seconds) if seconds else math.nan,
            **agreement(values[finite], accuracies[finite], options.resamples, derive_seed(options.seed, "bootstrap")),
        }
        for record in found:
            if proxy.name in record["failures"]:
                failures.setdefault((proxy.name, record["failures"][proxy.name]), []).append(record["architecture"])
    listed = [
        {"proxy": name, "reason": reason, "count": len(texts), "first": texts[0]}
        for (name, reason), texts in failures.items()
    ]
    return {"results": results, "failures": listed, "best_drawn": float(accuracies.max())}


def _scores(
    found: Sequence[Mapping[str, Any]], accuracies: np.ndarray[Any, np.dtype[np.float64]], names: Sequence[str]
) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "architecture", "accuracy", *names])
    for record, accuracy in zip(found, accuracies.tolist(), strict=True):
        writer.writerow(
            [record["index"], record["architecture"], accuracy, *(record["scores"].get(name, "") for name in names)]
        )
    return text.getvalue()
