"""Accuracy of the architectures that searches find: one search for each seed, looked up in a benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zcpt.batches import Batches, compute_fingerprint
from zcpt.devices import resolve_device
from zcpt.errors import ConfigError
from zcpt.journal import Journal, Record
from zcpt.search import (
    Callback,
    Finalist,
    SearchConfig,
    SearchResult,
    add_listeners,
    check_finalists,
    configure,
    describe_finalist_value,
    search,
)
from zcpt.seeding import derive_seed
from zcpt.tabular._benchmark import TabularBenchmark
from zcpt.tabular._folder import CONFIG, RESULT, describe_environment, open_folder, write_json
from zcpt.tabular.measures import compute_mean_interval
from zcpt.tabular.random_search import (
    check_random_search,
    count_networks_scored,
    evaluate_random_search,
    search_randomly,
)
from zcpt.tabular.variants import read_variant_settings
from zcpt.values import Value

_JOURNAL_FILE, _RANDOM_FILE = "searches", "random_searches"


def configure_search(table: TabularBenchmark, seed: int, preset: str | None = None, **options: Any) -> SearchConfig:
    """Return the settings of one search.

    If the published list of a space leaves architectures out, the search is limited to those listed: others have no
    accuracy to look up.
    """
    defaults = {"valid_only": table.space.has_invalid_architectures}
    return configure(table.space, preset, **{**defaults, **options}, seed=seed)


def measure_searches(
    table: TabularBenchmark,
    batches: Callable[[int], Batches],
    folder: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2, 3),
    data_set: str = "cifar10",
    metric: str = "test",
    device: str | torch.device = "cpu",
    preset: str | None = None,
    variant: str = "",
    random_search: bool = False,
    finalist_value: Callable[[int], Value] | None = None,
    callbacks: Sequence[Callback] = (),
    listeners: Sequence[Callback] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Search once for each seed, and look up the accuracy of the architecture that each search finds.

    Args:
        table: Architectures and their accuracies.
        batches: Function from a seed to the source of mini-batches.
        folder: Folder of the run folders and the result. That of the same measurement is resumed. Seeds can be added to
            a finished one, after those that it has.
        seeds: Seeds of the searches.
        data_set: Data set of the table.
        metric: Metric of the table.
        device: Device on which networks are scored.
        preset: Preset, as for ``zcpt.search``.
        variant: Name of these settings in tables.
        random_search: Also run random search with as many evaluations. A finished measurement can be extended by it.
        finalist_value: Function from a seed to what measures its finalists, if there are any (``finalists=5``): short
            trainings, or accuracies of the table that stand in for them. A finished measurement can be extended by it.
        callbacks: Callbacks of every search; ``listeners`` is their old name.
        options: Fields of ``SearchConfig`` except ``seed``.

    Returns:
        The content of ``result.json``. Seconds are those of scoring, from the journals of the searches.

    Raises:
        ZcptError: An argument is invalid.
    """
    callbacks, folder, device = add_listeners(callbacks, listeners), Path(folder), resolve_device(device)
    configs = {seed: configure_search(table, seed, preset, **options) for seed in seeds}
    if random_search:
        check_random_search(configs[seeds[0]])
    values = _make_finalist_values(finalist_value, configs, variant)
    measurement = _Measurement(table, table.get_accuracies(data_set, metric), batches, configs, device, values)
    protocol = {
        **measurement.describe(table.describe(data_set, metric), seeds, variant),
        **describe_environment(device),
    }
    with open_folder(folder, protocol, growing=["seeds", "finalists"]) as journal:
        records = measurement.search(folder, journal, callbacks)
        rows = [_look_up(table, records[seed], configs[seed], data_set, metric) for seed in seeds]
        result = {"protocol": protocol, "searches": rows, "results": _summarize(rows)}
        if random_rows := measurement.search_randomly(records, journal, random_search):
            result["random_search"] = random_rows
        write_json(folder / RESULT, result)
    return result


def _make_finalist_values(
    make: Callable[[int], Value] | None, configs: Mapping[int, SearchConfig], variant: str
) -> dict[int, Value]:
    """Return what measures the finalists of each seed; nothing for a variant without finalists."""
    first = next(iter(configs))
    has_finalists = make is not None and (configs[first].finalists or not variant)
    values = {seed: make(seed) for seed in configs} if make is not None and has_finalists else {}
    check_finalists(configs[first], values.get(first))
    return values


@dataclass(frozen=True)
class _Measurement:
    """Searches with several seeds on one benchmark, and random searches beside them."""

    table: TabularBenchmark
    accuracies: NDArray[np.float64]
    batches: Callable[[int], Batches]
    configs: Mapping[int, SearchConfig]
    """Settings by seed."""
    device: torch.device
    finalist_values: Mapping[int, Value] = field(default_factory=dict)
    """What measures the finalists of each seed; empty without finalists."""

    def describe(self, table: dict[str, Any], seeds: Sequence[int], variant: str) -> dict[str, Any]:
        """Return the protocol of the measurement, except its environment; ``table`` describes the benchmark."""
        first = seeds[0]
        protocol: dict[str, Any] = {
            "benchmark": "search",
            "space": self.table.space.name,
            "table": table,
            "seeds": list(seeds),
            "search": {k: value for k, value in asdict(self.configs[first]).items() if k not in ("seed", "finalists")},
            "images": self.describe_images(first),
            "finalists": {},
        }
        if first in self.finalist_values:
            by = describe_finalist_value(self.finalist_values[first])
            protocol["finalists"] = {"number": self.configs[first].finalists, **(by or {})}
        return {**protocol, "variant": variant} if variant else protocol

    def describe_images(self, seed: int) -> dict[str, Any]:
        """Return the description of the images, with the fingerprint of a mini-batch to distinguish data sets."""
        batches = self.batches(seed)
        size = min(self.configs[seed].batch_size, len(batches))
        fingerprint = compute_fingerprint(batches.draw(size, derive_seed(seed, "fingerprint")))
        return {**batches.about, "fingerprint": fingerprint}

    def search(self, folder: Path, journal: Journal, callbacks: Sequence[Callback]) -> dict[int, Record]:
        """Return the record of the search of each seed, after running those that the journal lacks."""
        records = {record["seed"]: record for record in journal.records(_JOURNAL_FILE)}
        for seed, config in self.configs.items():
            value = self.finalist_values.get(seed)
            # A search without finalists is resumed with them: it goes on after its stage 2.
            if seed not in records or (value is not None and "finalists" not in records[seed]):
                run_dir = folder / f"seed_{seed}"
                result = search(
                    self.table.space,
                    self.batches(seed),
                    run_dir=run_dir,
                    resume=run_dir.exists(),
                    device=self.device,
                    callbacks=callbacks,
                    finalist_value=value,
                    **asdict(config),
                )
                # A candidate stands for all proposals that build the same network.
                proposals = {n: self.table.space.format(c.architecture) for c in result.candidates for n in c.proposals}
                records[seed] = {
                    "seed": seed,
                    "architecture": self.table.space.format(result.architecture),
                    "proposals": [proposals[n] for n in sorted(proposals)],
                    "seconds": sum_seconds(run_dir),
                }
                if value is not None:
                    records[seed] |= self._describe_finalists(result)
                journal.append(_JOURNAL_FILE, records[seed])
        return records

    def _describe_finalists(self, result: SearchResult) -> Record:
        """Return the finalists for a record, in the order of validation: its choice comes first."""
        only = [Finalist(result.architecture, math.nan)]  # a search whose proposals are all the same has none
        finalists = [
            {
                "architecture": self.table.space.format(finalist.architecture),
                "value": finalist.value,
                "seconds": finalist.seconds,
                "failure": finalist.failure,
            }
            for finalist in result.finalists or only
        ]
        return {"finalists": finalists}

    def search_randomly(
        self, searches: Mapping[int, Record], journal: Journal, run_missing: bool
    ) -> list[dict[str, Any]]:
        """Return the result of random search for each seed; an empty list if some are missing and not to be run."""
        records = {record["seed"]: record for record in journal.records(_RANDOM_FILE)}
        for seed, config in self.configs.items():
            if run_missing and seed not in records:
                candidates = _count_candidates(searches[seed])
                records[seed] = search_randomly(
                    self.table, self.accuracies, self.batches(seed), config, self.device, candidates
                )
                journal.append(_RANDOM_FILE, records[seed])
        if set(records) < set(self.configs):
            return []
        return [evaluate_random_search(records[seed], self.accuracies) for seed in self.configs]


def measure_variants(
    table: TabularBenchmark,
    batches: Callable[[int], Batches],
    folder: str | Path,
    variants: Mapping[str, Mapping[str, Any]],
    **shared: Any,
) -> dict[str, dict[str, Any]]:
    """Measure several variants of a search, each in a folder of its own.

    Args:
        table: Architectures and their accuracies.
        batches: Function from a seed to the source of mini-batches.
        folder: Folder of the variants' folders, which are named after them.
        variants: Name -> keyword arguments of ``measure_searches``; see ``read_variants``.
        shared: Keyword arguments of all variants; those of a variant override them.

    Returns:
        The content of ``result.json`` of each variant.

    Raises:
        ConfigError: The folder is that of a single measurement.
        ZcptError: An argument is invalid.
    """
    folder = Path(folder)
    if (folder / CONFIG).exists():
        raise ConfigError(f"{folder} belongs to a single measurement: give the variants another --out.")
    return {
        name: measure_searches(table, batches, folder / name, variant=name, **{**shared, **options})
        for name, options in variants.items()
    }


def read_variants(path: Path, table: TabularBenchmark) -> dict[str, dict[str, Any]]:
    """Read variants of a search from a YAML file: name -> settings of a search, and ``preset``.

    A file of two variants::

        default:
        fixed-n1: {order: fixed, proposals: 1}

    Raises:
        ConfigError: The file is missing, is no YAML, or a name or a setting is invalid.
    """
    variants = read_variant_settings(path, {f.name: f.metadata["read"] for f in fields(SearchConfig)})
    for name, settings in variants.items():
        try:
            configure_search(table, 0, **settings)
        except ConfigError as error:
            raise ConfigError(f"{path}, variant '{name}': {error}") from None
    return variants


def sum_seconds(run_dir: Path) -> float:
    """Return the seconds that a search spent on scoring, from the lines of its journal."""
    journal = Journal(run_dir / "journal")
    names = [path.stem for path in sorted((run_dir / "journal").glob("*.jsonl"))]
    return math.fsum(record["seconds"] for name in names for record in journal.records(name))


def _count_candidates(record: Mapping[str, Any]) -> int:
    """Return the number of distinct networks among the proposals, which is what stage 2 compares."""
    # A record has, for each proposal, the architecture that stands for all that build the same network.
    return len(set(record["proposals"]))


def _look_up(
    table: TabularBenchmark, record: Record, config: SearchConfig, data_set: str, metric: str
) -> dict[str, Any]:
    """Return a record with accuracies instead of proposals, the rank of the architecture and the evaluations."""

    def look_up(text: str) -> float | None:
        return table.lookup(table.space.parse(text), data_set, metric)

    accuracy = look_up(record["architecture"])
    finalists = [{**one, "accuracy": look_up(one["architecture"])} for one in record.get("finalists", ())]
    by_validation = {"finalists": finalists, "validated": finalists[0]["accuracy"]} if finalists else {}
    return {
        **record,
        "proposals": [look_up(text) for text in record["proposals"]],
        "accuracy": accuracy,
        **by_validation,
        "rank": None if accuracy is None else table.rank(accuracy, data_set, metric),
        "evaluations": count_networks_scored(table.space, config, _count_candidates(record)),
    }


def _summarize(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return means over the seeds; architectures that the table lacks do not count."""
    listed = [row["accuracy"] for row in rows if row["accuracy"] is not None]
    proposals = [accuracy for row in rows for accuracy in row["proposals"] if accuracy is not None]
    paired = [row for row in rows if row["accuracy"] is not None and row.get("validated") is not None]
    finalists = {
        "validated": compute_mean_interval([row["validated"] for row in paired]),
        "gain": compute_mean_interval([row["accuracy"] - row["validated"] for row in paired]),
        "finalist_seconds": compute_mean_interval(
            [math.fsum(one["seconds"] for one in row["finalists"]) for row in paired]
        )["mean"],
    }
    return {
        **(finalists if paired else {}),
        "accuracy": compute_mean_interval(listed),
        "not_in_table": len(rows) - len(listed),
        "proposals": compute_mean_interval(proposals)["mean"],
        "seconds": compute_mean_interval([row["seconds"] for row in rows])["mean"],
    }
