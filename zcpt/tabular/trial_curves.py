"""Curves of trials over many seeds: the accuracy of the best architecture found after each trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zcpt.errors import ConfigError
from zcpt.journal import Record
from zcpt.progress import show_progress
from zcpt.ray_workers import open_pool
from zcpt.tabular._benchmark import TabularBenchmark
from zcpt.tabular._folder import RESULT, describe_environment, open_folder, write_json
from zcpt.tabular.measures import compute_mean_interval
from zcpt.tabular.trials import TableValue
from zcpt.tabular.variants import read_variant_settings
from zcpt.trials import ScoreTable, TrialsConfig, configure_trials, run_trials

_JOURNAL_FILE = "trials"
_DIGITS = 2
"""Digits of the accuracies in a curve."""
NEAR = 0.1
"""Distance in percent points from what a perfect search finds, within which a search counts as successful."""
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class _Task:
    """Trials of one variant with one seed."""

    variant: str
    seed: int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class _Measurement:
    """What all runs have in common; sent to each process once."""

    value: TableValue
    score_tables: Mapping[str, ScoreTable]
    """Scores by the name of the proxy."""
    table_only: bool

    def run(self, task: _Task) -> Record:
        """Run the trials of a task, and return their line of the journal."""
        space = self.value.table.space
        result = run_trials(
            space,
            self.value,
            scores=self.score_tables.get(str(task.settings.get("proxy", ""))),
            architectures=self.value.list_measured() if self.table_only else None,
            seed=task.seed,
            **task.settings,
        )
        metric = self.value.metric
        return {
            "variant": task.variant,
            "seed": task.seed,
            "architecture": space.format(result.architecture),
            "values": [trial.value for trial in result.trials],
            "reported": [trial.report.get(metric, math.nan) for trial in result.trials],
        }


def measure_trials(
    value: TableValue,
    folder: str | Path,
    variants: Mapping[str, Mapping[str, Any]],
    *,
    scores: str | Path | None = None,
    seeds: Sequence[int] = tuple(range(10)),
    table_only: bool = False,
    target: float | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> dict[str, Any]:
    """Run trials with many seeds, look up the accuracies, and summarise them as curves.

    Two readings of a curve are made. The honest one is the reported accuracy, mostly that of the test images, of the
    architecture whose guiding accuracy is the best so far. The optimistic one is the highest reported accuracy so far,
    which nobody can choose by; "Zero-Cost Proxies for Lightweight NAS" draws that one.

    Args:
        value: The table, with the accuracies that guide and those that are reported.
        folder: Folder of the journal and the result. That of the same measurement is resumed; variants and seeds can be
            added after those that it has.
        variants: Name -> settings of trials, as for ``zcpt.run_trials``; the first one of an algorithm is its baseline.
        scores: Scores of proxies by ``zcpt benchmark proxies``, for variants that have a proxy.
        seeds: Seeds of the runs.
        table_only: Take architectures of the table only.
        target: Reported accuracy that counts as success, also another one later; None is 0.1 below a perfect search's.
        workers: Processes that run seeds side by side; by default 1, with ``ray`` as many as the cluster has CPUs.
        ray: Address of a Ray cluster that runs seeds, 'auto' for the one of this machine.

    Returns:
        The content of ``result.json``.
    """
    folder = Path(folder)
    tables = _load_scores(value.table, variants, scores)
    target = find_best_reported(value) - NEAR if target is None else target
    about = _describe(value, variants, tables)
    protocol = {**about, "seeds": list(seeds), "table_only": table_only}
    measurement = _Measurement(value, tables, table_only)
    tasks = [_Task(name, seed, settings) for name, settings in variants.items() for seed in seeds]
    with open_pool(workers, "runs trials", ray=ray) as pool, ExitStack() as stack:
        protocol |= describe_environment(torch.device("cpu"), pool)
        journal = stack.enter_context(open_folder(folder, protocol, growing=["seeds", "variants", "scores"]))
        records = {(record["variant"], record["seed"]): record for record in journal.records(_JOURNAL_FILE)}
        missing = [task for task in tasks if (task.variant, task.seed) not in records]
        with (
            show_progress(title="runs", total=len(tasks), initial=len(tasks) - len(missing)) as bar,
            closing(pool.run(measurement.run, missing)) as finished,
        ):
            for record in finished:
                journal.append(_JOURNAL_FILE, record)
                records[record["variant"], record["seed"]] = record
                bar.update()
        protocol["target"] = target  # not before: another one can be asked for without new runs
        by_variant = {name: [records[name, seed] for seed in seeds] for name in variants}
        result = {"protocol": protocol, "results": summarize_runs(by_variant, _list_algorithms(protocol), target)}
        write_json(folder / RESULT, result)
    return result


def _describe(
    value: TableValue, variants: Mapping[str, Mapping[str, Any]], tables: Mapping[str, ScoreTable]
) -> dict[str, Any]:
    """Return the entries of the protocol that say what is measured."""
    return {
        "benchmark": "trials",
        "space": value.table.space.name,
        "table": value.table.describe(value.data_set, value.metric),
        "guide": {"metric": value.guide, "content": value.describe()["content"]},
        "scores": {name: dict(table.describe()) for name, table in tables.items()},
        "variants": {name: _resolve_settings(value.table, settings) for name, settings in variants.items()},
    }


def _list_algorithms(protocol: Mapping[str, Any]) -> dict[str, str]:
    """Return the algorithm of each variant."""
    return {name: settings["algorithm"] for name, settings in protocol["variants"].items()}


def _load_scores(
    table: TabularBenchmark, variants: Mapping[str, Mapping[str, Any]], scores: str | Path | None
) -> dict[str, ScoreTable]:
    """Return the scores of each proxy that a variant has; ConfigError if there is no file of them."""
    if not variants:
        raise ConfigError("there are no variants to measure: give at least one.")
    configs = [configure_trials(table.space, **settings)[0] for settings in variants.values()]
    proxies = {str(settings["proxy"]): config for settings, config in zip(variants.values(), configs, strict=True)
               if settings.get("proxy")}  # fmt: skip
    if proxies and scores is None:
        raise ConfigError(
            f"proxy '{next(iter(proxies))}' needs scores: give --scores with a folder of 'zcpt benchmark proxies'."
        )
    tables = {}
    for name, config in proxies.items():
        assert config.criterion is not None
        assert scores is not None
        tables[name] = ScoreTable(scores, table.space, config.criterion)
    return tables


def _resolve_settings(table: TabularBenchmark, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return all settings of a variant, without the seed."""
    config, own = configure_trials(table.space, **settings)
    return {name: value for name, value in {**asdict(config), **asdict(own)}.items() if name != "seed"}


def find_best_reported(value: TableValue) -> float:
    """Return the reported accuracy of the architecture with the best guiding one, which a perfect search finds.

    The highest reported accuracy may be that of another architecture, at which no search can stop for a reason.
    """
    guide, reported = (value.table.get_accuracies(value.data_set, name) for name in (value.guide, value.metric))
    return float(reported[np.nanargmax(np.where(np.isnan(reported), math.nan, guide))])


def summarize_runs(
    runs: Mapping[str, Sequence[Record]], algorithms: Mapping[str, str], target: float
) -> dict[str, Any]:
    """Return the curves of each variant, and how many trials it needs for a reported accuracy.

    Args:
        runs: Lines of the journal by variant, in the order of the seeds.
        algorithms: Algorithm of each variant; the first variant of an algorithm is the baseline of its others.
        target: Reported accuracy to reach.
    """
    results: dict[str, Any] = {}
    baselines: dict[str, tuple[str, list[int]]] = {}
    for name, records in runs.items():
        trials = min(len(record["values"]) for record in records)
        values = np.array([record["values"][:trials] for record in records], dtype=np.float64)
        reported = np.array([record["reported"][:trials] for record in records], dtype=np.float64)
        honest, optimistic = follow_best(values, reported), np.fmax.accumulate(reported, axis=1)
        needed = count_trials(honest, target)
        # A run that never succeeds counts as if the next trial would: what is saved is then rather understated.
        counts = [trials + 1 if count is None else count for count in needed]
        results[name] = {
            "final": compute_mean_interval([float(value) for value in honest[:, -1] if math.isfinite(value)]),
            "curve": _summarize_curves(honest),
            "optimistic": _summarize_curves(optimistic),
            "reached": {kind: count_trials(curves.mean(axis=0)[None], target)[0]
                        for kind, curves in (("curve", honest), ("optimistic", optimistic))},
            "trials_needed": needed,
            "successful": sum(count is not None for count in needed) / len(needed),
            "mean_trials": compute_mean_interval([float(count) for count in counts]),
        }  # fmt: skip
        baseline, before = baselines.setdefault(algorithms[name], (name, counts))
        if baseline != name:
            results[name]["saved"] = {"baseline": baseline, **_compare_counts(before, counts)}
    return results


def _compare_counts(before: Sequence[int], now: Sequence[int]) -> dict[str, Any]:
    """Return the trials that are saved, with equal seeds, and how many times fewer trials there are in the mean."""
    saved = compute_mean_interval([float(a - b) for a, b in zip(before, now, strict=True)])
    return {**saved, "ratio": sum(before) / sum(now)}


def follow_best(values: Matrix, reported: Matrix) -> Matrix:
    """Return for each run and trial the reported number of the best value so far.

    Args:
        values: Values [S, T]; higher is better, and those that are not finite have failed.
        reported: Reported numbers [S, T].

    Returns:
        Reported numbers [S, T] of the first trial of the best value; nan until a trial has not failed.
    """
    followed = np.full(values.shape, math.nan)
    rows = np.arange(len(values))
    best = np.zeros(len(values), dtype=np.int64)
    guide = np.where(np.isfinite(values), values, -math.inf)
    for trial in range(values.shape[1]):
        best = np.where(guide[:, trial] > guide[rows, best], trial, best)
        followed[:, trial] = np.where(np.isfinite(guide[rows, best]), reported[rows, best], math.nan)
    return followed


def count_trials(followed: Matrix, target: float) -> list[int | None]:
    """Return for each run the number of trials until its curve is at the target; None if it never is."""
    return [int(np.argmax(row >= target)) + 1 if (row >= target).any() else None for row in followed]


def _summarize_curves(curves: Matrix) -> dict[str, list[float]]:
    """Return mean, median and quartiles over the runs after each trial; nan before the first success of all runs."""
    measures: dict[str, Callable[..., Matrix]] = {
        "mean": np.mean,
        "median": np.median,
        "low": lambda rows, axis: np.quantile(rows, 0.25, axis=axis),
        "high": lambda rows, axis: np.quantile(rows, 0.75, axis=axis),
    }
    return {name: np.round(measure(curves, axis=0), _DIGITS).tolist() for name, measure in measures.items()}


def read_trial_variants(path: Path, table: TabularBenchmark) -> dict[str, dict[str, Any]]:
    """Read variants of trials from a YAML file: name -> settings. The first of an algorithm is its baseline.

    A file of two variants::

        evolution:
        evolution+move: {move: true, proxy: synflow}

    Raises:
        ConfigError: The file is missing, is no YAML, or a name or a setting is invalid.
    """
    readers = {setting.name: setting.metadata["read"] for setting in fields(TrialsConfig)}
    variants = read_variant_settings(path, readers)
    for name, settings in variants.items():
        try:
            configure_trials(table.space, **settings)
        except ConfigError as error:
            raise ConfigError(f"{path}, variant '{name}': {error}") from None
    return variants
