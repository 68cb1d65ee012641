"""Rank correlation of operation scores with the accuracies of trained architectures, edge by edge."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zcpt.architecture import Architecture, Choice
from zcpt.baselines import OperationScore, get_operation_score, score_operations
from zcpt.batches import Batch, Batches
from zcpt.devices import move_batch
from zcpt.errors import ConfigError
from zcpt.files import parse_json, read_text
from zcpt.journal import Journal, Record
from zcpt.mixture import Mixture
from zcpt.progress import show_progress
from zcpt.search import FreshSupernets, SearchConfig, SearchSeeds
from zcpt.seeding import derive_seed
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.supernet import Scorable
from zcpt.tabular._benchmark import TabularBenchmark
from zcpt.tabular._folder import RESULT, describe_environment, open_folder, write_json
from zcpt.tabular.measures import compute_mean_interval, kendall, spearman

OperationValues = Mapping[str, Sequence[float]]
"""Choice -> a number for each of its selectable candidates; larger = keep."""
OperationFunction = Callable[[int], OperationValues]
"""Function from a seed to the values of the operations in the undecided supernet."""
_JOURNAL_FILE = "operations"


def get_operation_choices(space: SearchSpace) -> tuple[Choice, ...]:
    """Return the choices of operations: those of the first phase."""
    return tuple(choice for choice in space.choices if choice.phase == 0)


def compute_best_accuracies(table: TabularBenchmark, data_set: str, metric: str = "test") -> dict[str, list[float]]:
    """Return best-acc of each candidate: the highest accuracy of the architectures that keep it; nan if none does."""
    return _aggregate_accuracies(table, table.get_accuracies(data_set, metric), max)


def compute_mean_accuracies(table: TabularBenchmark, data_set: str, metric: str = "test") -> dict[str, list[float]]:
    """Return avg-acc of each candidate: the mean accuracy of the architectures that keep it; nan if none does."""
    return _aggregate_accuracies(table, table.get_accuracies(data_set, metric), mean)


REFERENCES: dict[str, Callable[[TabularBenchmark, str, str], dict[str, list[float]]]] = {
    "best-acc": compute_best_accuracies,
    "avg-acc": compute_mean_accuracies,
}


def _aggregate_accuracies(
    table: TabularBenchmark, column: NDArray[np.float64], aggregate: Callable[[list[float]], float]
) -> dict[str, list[float]]:
    """Return the aggregate over the architectures that keep a candidate, for each candidate of each choice."""
    accuracies: dict[tuple[str, str], list[float]] = {}
    for architecture, accuracy in zip(table.architectures, column.tolist(), strict=True):
        if not math.isnan(accuracy):
            for choice, kept in architecture.kept.items():
                for candidate in kept:
                    accuracies.setdefault((choice, candidate), []).append(accuracy)
    return {
        choice.name: [
            aggregate(accuracies[choice.name, candidate]) if (choice.name, candidate) in accuracies else math.nan
            for candidate in choice.selectable
        ]
        for choice in get_operation_choices(table.space)
    }


def score_undecided_supernet(
    method: str, space: SearchSpace, batches: Batches, config: SearchConfig, device: torch.device
) -> dict[str, list[float]]:
    """Return the importance of every operation in the undecided supernet, on one mini-batch.

    Supernet, mixture and mini-batch are those of the first proposal of a search with these settings. For ``zc_pt`` the
    importances are also those of the search.

    Args:
        method: Name of one of ``zcpt.baselines``.
        space: The search space.
        batches: Source of the mini-batch.
        config: Settings of the search.
        device: Device of the supernet.
    """
    batch = _draw_first_batch(batches, config)
    _, channels, height, width = batch.images.shape
    network_config = NetworkConfig(config.channels, config.layers, batches.num_classes, channels, (height, width))
    space.check_network_config(network_config)
    supernets = FreshSupernets(space, network_config, config, device)
    return score_operations(
        method,
        supernets.build_supernet(0),
        supernets.move_batch(batch),
        config.proxy if get_operation_score(method).proxies == "any" else None,
        choices=get_operation_choices(space),
        mixture=supernets.draw_initial_mixture(0),
        seed=config.seed,
    )


def score_trained_supernet(
    score: OperationScore,
    net: Scorable,
    mixture: Mixture,
    batches: Batches,
    validation: Sequence[Batch],
    config: SearchConfig,
    device: torch.device,
) -> dict[str, list[float]]:
    """Return the importance of every operation in a trained supernet before any decision.

    Args:
        score: One of ``zcpt.baselines``.
        net: The supernet.
        mixture: Mixture of the trained shares.
        batches: Source of the mini-batch on which proxies are computed, that of ``score_undecided_supernet``.
        validation: Batches on which accuracies are measured.
        config: Settings of a search.
        device: Device of the supernet.
    """
    takes_proxy = score.proxies == "any"
    return score_operations(
        score,
        net,
        move_batch(_draw_first_batch(batches, config), device) if takes_proxy else validation,
        config.proxy if takes_proxy else None,
        choices=[choice for choice in mixture.choices.values() if choice.phase == 0],
        mixture=mixture,
        seed=config.seed,
    )


def _draw_first_batch(batches: Batches, config: SearchConfig) -> Batch:
    return batches.draw(config.batch_size, derive_seed(SearchSeeds.from_seed(config.seed).batch, 0))


def read_operation_values(path: Path, space: SearchSpace) -> dict[str, OperationFunction]:
    """Read operation scores that other code has computed.

    Args:
        path: JSON file: name -> choice -> a number for each candidate, larger = keep.
        space: The space of these choices.

    Raises:
        ConfigError: The file is missing, is no JSON, or does not have the choices of the space.
    """
    document = parse_json(read_text(path, "give --scores a JSON file of operation scores"), path)
    if not isinstance(document, dict) or not document:
        raise ConfigError(f"{path} must map names of scores to scores.")
    for name, values in document.items():
        _check_values(space, name, values, f"{path}: ")
    return {name: partial(_ignore_seed, values) for name, values in document.items()}


def _ignore_seed(values: OperationValues, seed: int) -> OperationValues:
    return values


def _check_values(space: SearchSpace, name: str, values: Any, where: str = "") -> None:
    candidates = {choice.name: choice.selectable for choice in get_operation_choices(space)}
    if not isinstance(values, Mapping) or set(values) != set(candidates):
        raise ConfigError(f"{where}'{name}' must have scores for exactly these choices: {', '.join(candidates)}.")
    for choice, row in values.items():
        are_numbers = isinstance(row, Sequence) and all(_is_number(value) for value in row)
        if not are_numbers or len(row) != len(candidates[choice]):
            raise ConfigError(
                f"{where}'{name}' must have a number for each candidate of {choice}: {candidates[choice]}."
            )
        if all(map(math.isnan, row)):
            raise ConfigError(f"{where}'{name}' has no number for any candidate of {choice}: give at least one.")


def _is_number(value: object) -> bool:
    """Return whether the value is a number that a float can hold; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        float(value)
    except OverflowError:
        return False
    return True


def compare_values(values: OperationValues, reference: OperationValues) -> dict[str, Any]:
    """Return ``spearman`` and ``kendall``, averaged over the choices, and Spearman's correlation ``by_choice``.

    Candidates for which one of the two is nan are left out; -inf ranks last. A choice without a correlation is nan and
    does not count in the mean.
    """
    by_choice: dict[str, dict[str, float]] = {"spearman": {}, "kendall": {}}
    for choice, row in reference.items():
        pairs = [(a, b) for a, b in zip(values[choice], row, strict=True) if not (math.isnan(a) or math.isnan(b))]
        a, b = zip(*pairs, strict=True) if pairs else ((), ())
        by_choice["spearman"][choice] = spearman(a, b)
        by_choice["kendall"][choice] = kendall(a, b)
    means = {name: _average_known(correlations.values()) for name, correlations in by_choice.items()}
    return {**means, "by_choice": by_choice["spearman"]}


def measure_operations(
    table: TabularBenchmark,
    scores: Mapping[str, OperationFunction],
    folder: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    data_set: str = "cifar10",
    metric: str = "test",
    about: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Compare scores of operations with best-acc and avg-acc, and look up the architecture of the best operations.

    Args:
        table: Architectures and their accuracies.
        scores: Functions by the name of their score, which must not be that of a reference. Each is called once for
            every seed.
        folder: Folder of the journal and the result. That of the same measurement is resumed. Scores and seeds can be
            added to a finished one, after those that it has.
        seeds: Seeds of the scores.
        data_set: Data set of the table.
        metric: Metric of the table.
        about: Description of how the scores are computed, for the result. A folder with another one is refused.
        device: Device on which they are computed, for the result.

    Returns:
        The content of ``result.json``.

    Raises:
        ConfigError: There is no score, or one is named like a reference or lacks a number for a candidate.
    """
    if not scores or set(scores) & set(REFERENCES):
        raise ConfigError(f"scores of operations must have names other than {', '.join(REFERENCES)}, not {[*scores]}.")
    folder, space = Path(folder), table.space
    references = {name: compute(table, data_set, metric) for name, compute in REFERENCES.items()}
    protocol = {
        "benchmark": "operations",
        "space": space.name,
        "table": table.describe(data_set, metric),
        "scores": list(scores),
        "seeds": list(seeds),
        "about": dict(about or {}),
        **describe_environment(torch.device(device)),
    }
    with open_folder(folder, protocol, growing=["scores", "seeds", "about"]) as journal:
        records = _score_missing(scores, seeds, space, journal)
        # The references are evaluated like scores: avg-acc's agreement with best-acc gives a scale for the others.
        records |= {(name, None): {"values": values, "seconds": math.nan} for name, values in references.items()}
        results = {}
        for name in [*scores, *references]:
            score_records = [records[name, seed] for seed in (seeds if name in scores else [None])]
            results[name] = _evaluate_score(table, score_records, references, data_set, metric)
        candidates = {choice.name: list(choice.selectable) for choice in get_operation_choices(space)}
        result = {"protocol": protocol, "candidates": candidates, "references": references, "results": results}
        write_json(folder / RESULT, result)
    return result


def _score_missing(
    scores: Mapping[str, OperationFunction], seeds: Sequence[int], space: SearchSpace, journal: Journal
) -> dict[tuple[str, int | None], Record]:
    """Return the record of every score and seed, after computing those that the journal lacks."""
    records: dict[tuple[str, int | None], Record] = {
        (record["score"], record["seed"]): record for record in journal.records(_JOURNAL_FILE)
    }
    missing = [(name, seed) for name in scores for seed in seeds if (name, seed) not in records]
    for name, seed in show_progress(missing, "scores of operations"):
        started = time.perf_counter()
        values = scores[name](seed)
        _check_values(space, name, values)
        seconds = time.perf_counter() - started
        rows = {choice: list(row) for choice, row in values.items()}
        records[name, seed] = {"score": name, "seed": seed, "values": rows, "seconds": seconds}
        journal.append(_JOURNAL_FILE, records[name, seed])
    return records


def _evaluate_score(
    table: TabularBenchmark,
    records: Sequence[Mapping[str, Any]],
    references: Mapping[str, OperationValues],
    data_set: str,
    metric: str,
) -> dict[str, Any]:
    """Return how well a score, computed with several seeds, agrees with each reference, and what it selects."""
    agreements: dict[str, Any] = {}
    for name, reference in references.items():
        comparisons = [compare_values(record["values"], reference) for record in records]
        agreements[name] = {
            "spearman": compute_mean_interval([comparison["spearman"] for comparison in comparisons]),
            "kendall": compute_mean_interval([comparison["kendall"] for comparison in comparisons]),
            "by_seed": [comparison["spearman"] for comparison in comparisons],
            "by_choice": {
                choice: _average_known(comparison["by_choice"][choice] for comparison in comparisons)
                for choice in reference
            },
        }
    values = {
        choice: [_average_known(row) for row in zip(*(record["values"][choice] for record in records), strict=True)]
        for choice in records[0]["values"]
    }
    return {
        "agreement": agreements,
        "values": values,
        "chosen": [_look_up_best(table, record["values"], data_set, metric) for record in records],
        "seconds": _average_known(record["seconds"] for record in records),
    }


def _look_up_best(
    table: TabularBenchmark, values: OperationValues, data_set: str, metric: str
) -> dict[str, Any] | None:
    """Look up the architecture of the best candidate of every choice; None if not all choices are of operations.

    If candidates tie, the accuracy is the mean over all architectures of best candidates (at most 15,625 on the spaces
    that have a benchmark), and the architecture is the first of them.
    """
    space = table.space
    choices = get_operation_choices(space)
    if len(choices) < len(space.choices) or any(choice.keep > 1 for choice in choices):
        return None
    best = [[(choice.name, candidate) for candidate in _get_best_candidates(choice, values)] for choice in choices]
    tied = [
        Architecture(space.name, {choice: (candidate,) for choice, candidate in kept})
        for kept in itertools.product(*best)
    ]
    accuracies = [table.lookup(architecture, data_set, metric) for architecture in tied]
    listed = [accuracy for accuracy in accuracies if accuracy is not None]
    accuracy = sum(listed) / len(listed) if listed else None
    rank = None if accuracy is None else table.rank(accuracy, data_set, metric)
    return {"architecture": space.format(tied[0]), "accuracy": accuracy, "rank": rank, "equals": len(tied)}


def _get_best_candidates(choice: Choice, values: OperationValues) -> list[str]:
    row = np.asarray(values[choice.name], dtype=np.float64)
    return [name for name, value in zip(choice.selectable, row, strict=True) if value == np.nanmax(row)]


def _average_known(values: Iterable[float]) -> float:
    """Return the mean of the values that are not nan; nan if there is none."""
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def select_settings(config: SearchConfig) -> dict[str, Any]:
    """Return the settings of a search on which scores in the undecided supernet depend."""
    names = ("proxy", "batch_size", "channels", "layers", "alpha_noise")
    return {name: getattr(config, name) for name in names}
