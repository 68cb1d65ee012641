"""How well scores of operations agree with what trained architectures say of them, edge by edge."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from zcpt.architecture import Architecture, Choice
from zcpt.baselines import get_operation_score, score_operations
from zcpt.batches import Batches
from zcpt.errors import ConfigError
from zcpt.files import read_text
from zcpt.journal import Journal, Record
from zcpt.search import FreshSupernets, SearchConfig, SearchSeeds
from zcpt.seeding import derive_seed
from zcpt.space import NetworkConfig, SearchSpace
from zcpt.tabular._folder import RESULT, opened, surroundings, write_json
from zcpt.tabular._table import Table
from zcpt.tabular.measures import kendall, mean_interval, spearman

Values = Mapping[str, Sequence[float]]
"""For every choice a number for each of its candidates; larger = keep."""
OperationScore = Callable[[int], Values]
"""From a seed to scores of the operations of the undecided supernet."""
_FILE = "operations"


def operations_of(space: SearchSpace) -> tuple[Choice, ...]:
    """The choices of operations: those that are decided first."""
    return tuple(choice for choice in space.choices if choice.phase == 0)


def best_accuracy(table: Table, data_set: str, metric: str = "test") -> dict[str, list[float]]:
    """best-acc: the highest accuracy of all architectures with an operation there; nan where there is none."""
    return _over_those_with(table, table.accuracies(data_set, metric), max)


def average_accuracy(table: Table, data_set: str, metric: str = "test") -> dict[str, list[float]]:
    """avg-acc: the mean accuracy of all architectures with an operation there; nan where there is none."""
    return _over_those_with(table, table.accuracies(data_set, metric), mean)


REFERENCES: dict[str, Callable[[Table, str, str], dict[str, list[float]]]] = {
    "best-acc": best_accuracy,
    "avg-acc": average_accuracy,
}


def _over_those_with(
    table: Table, column: np.ndarray[Any, np.dtype[np.float64]], of: Callable[[list[float]], float]
) -> dict[str, list[float]]:
    having: dict[tuple[str, str], list[float]] = {}
    for architecture, accuracy in zip(table.architectures, column.tolist(), strict=True):
        if not math.isnan(accuracy):
            for choice, kept in architecture.kept.items():
                for candidate in kept:
                    having.setdefault((choice, candidate), []).append(accuracy)
    groups = {c.name: [having.get((c.name, name)) for name in c.selectable] for c in operations_of(table.space)}
    return {name: [math.nan if group is None else of(group) for group in row] for name, row in groups.items()}


def scored(
    method: str, space: SearchSpace, batches: Batches, config: SearchConfig, device: torch.device
) -> dict[str, list[float]]:
    """The importance of every operation in the undecided supernet, by one of ``zcpt.baselines``, on one mini-batch.

    Supernet, mixture and mini-batch are those of the first proposal of a search with these settings; of ``zc_pt`` the
    importances are, too.
    """
    seeds = SearchSeeds.from_seed(config.seed)
    batch = batches.draw(config.batch_size, derive_seed(seeds.batch, 0))
    _, channels, height, width = batch.images.shape
    network_config = NetworkConfig(config.channels, config.layers, batches.num_classes, channels, (height, width))
    space.check_network_config(network_config)
    origin = FreshSupernets(space, network_config, config, device)
    return score_operations(
        method,
        origin.supernet(0),
        origin.place(batch),
        config.proxy if get_operation_score(method).proxies == "any" else None,
        choices=operations_of(space),
        mixture=origin.start(0),
        seed=config.seed,
    )


def read_scores(path: Path, space: SearchSpace) -> dict[str, OperationScore]:
    """Scores that other code has computed: JSON, name -> choice -> a number for each candidate, larger = keep.

    Raises:
        ConfigError: The file is missing, no JSON, or does not have the choices of the space.
    """
    try:
        document = json.loads(read_text(path, "give --scores a JSON file of operation scores"))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}, line {error.lineno}: it is no JSON ({error.msg}).") from None
    if not isinstance(document, dict) or not document:
        raise ConfigError(f"{path} must map names of scores to scores.")
    for name, values in document.items():
        _check(space, name, values, f"{path}: ")
    return {name: partial(_given, values) for name, values in document.items()}


def _given(values: Values, seed: int) -> Values:
    return values


def _check(space: SearchSpace, name: str, values: Any, where: str = "") -> None:
    wanted = {choice.name: choice.selectable for choice in operations_of(space)}
    if not isinstance(values, Mapping) or set(values) != set(wanted):
        raise ConfigError(f"{where}'{name}' must have scores for just these choices: {', '.join(wanted)}.")
    for choice, row in values.items():
        numbers = isinstance(row, Sequence) and all(isinstance(value, int | float) for value in row)
        if not numbers or len(row) != len(wanted[choice]):
            raise ConfigError(f"{where}'{name}' must have a number for each candidate of {choice}: {wanted[choice]}.")
        if all(map(math.isnan, row)):
            raise ConfigError(f"{where}'{name}' has no number for any candidate of {choice}: give at least one.")


def compare(values: Values, reference: Values) -> dict[str, Any]:
    """Rank agreement choice by choice, and its mean: ``spearman`` and ``kendall``.

    Candidates of which one of the two knows nothing (nan) are left out; -inf ranks last. A choice where that leaves
    nothing to compare counts as nan, and not into the mean.
    """
    by_choice: dict[str, dict[str, float]] = {"spearman": {}, "kendall": {}}
    for choice, row in reference.items():
        pairs = [(a, b) for a, b in zip(values[choice], row, strict=True) if not (math.isnan(a) or math.isnan(b))]
        mine, theirs = zip(*pairs, strict=True) if pairs else ((), ())
        by_choice["spearman"][choice] = spearman(mine, theirs)
        by_choice["kendall"][choice] = kendall(mine, theirs)
    means = {name: _mean(found.values()) for name, found in by_choice.items()}
    return {**means, "by_choice": by_choice["spearman"]}


def measure_operations(
    table: Table,
    scores: Mapping[str, OperationScore],
    folder: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    data_set: str = "cifar10",
    metric: str = "test",
    about: Mapping[str, Any] | None = None,
    device: str | torch.device = "cpu",
) -> dict[str, Any]:
    """Compare scores of operations with best-acc and avg-acc, and look up what picking the best of each edge gives.

    Args:
        table: The architectures and their accuracies.
        scores: By name, which is not that of a reference; each is called once for every seed.
        folder: Where the journal and the result go. A folder of the same measurement is gone on with.
        seeds: Of the scores.
        data_set: Of the table.
        metric: Of the table.
        about: What the result notes of how the scores were made. A folder of other scores is refused where this
            differs.
        device: What the result notes of where they were made.

    Returns:
        What ``result.json`` holds.

    Raises:
        ConfigError: There is no score, or one is named like a reference or does not have a number for every candidate
            of every choice of operations.
    """
    if not scores or set(scores) & set(REFERENCES):
        raise ConfigError(f"scores of operations must have names other than {', '.join(REFERENCES)}, not {[*scores]}.")
    folder, space = Path(folder), table.space
    references = {name: of(table, data_set, metric) for name, of in REFERENCES.items()}
    document = {
        "benchmark": "operations",
        "space": space.name,
        "table": table.document(data_set, metric),
        "scores": list(scores),
        "seeds": list(seeds),
        "about": dict(about or {}),
        **surroundings(torch.device(device)),
    }
    with opened(folder, document) as journal:
        known = _computed(scores, seeds, space, journal)
        results = {
            name: _judged(table, [known[name, seed] for seed in seeds], references, data_set, metric) for name in scores
        }
        for name, values in references.items():
            record = {"seed": None, "values": values, "seconds": math.nan}
            results[name] = _judged(table, [record], references, data_set, metric)
        candidates = {choice.name: list(choice.selectable) for choice in operations_of(space)}
        result = {"protocol": document, "candidates": candidates, "references": references, "results": results}
        write_json(folder / RESULT, result)
    return result


def _computed(
    scores: Mapping[str, OperationScore], seeds: Sequence[int], space: SearchSpace, journal: Journal
) -> dict[tuple[str, int], Record]:
    """The values of every score for every seed; those that the journal lacks are computed and appended."""
    known = {(record["score"], record["seed"]): record for record in journal.records(_FILE)}
    todo = [(name, seed) for name in scores for seed in seeds if (name, seed) not in known]
    for name, seed in tqdm(todo, "scores of operations", disable=None):
        started = time.perf_counter()
        values = scores[name](seed)
        _check(space, name, values)
        rows, seconds = {choice: list(row) for choice, row in values.items()}, time.perf_counter() - started
        known[name, seed] = {"score": name, "seed": seed, "values": rows, "seconds": seconds}
        journal.append(_FILE, known[name, seed])
    return known


def _judged(
    table: Table, records: Sequence[Mapping[str, Any]], references: Mapping[str, Values], data_set: str, metric: str
) -> dict[str, Any]:
    agreements: dict[str, Any] = {}
    for name, reference in references.items():
        each = [compare(record["values"], reference) for record in records]
        agreements[name] = {
            "spearman": mean_interval([found["spearman"] for found in each]),
            "kendall": mean_interval([found["kendall"] for found in each]),
            "by_seed": [found["spearman"] for found in each],
            "by_choice": {choice: _mean(found["by_choice"][choice] for found in each) for choice in reference},
        }
    values = {
        choice: [_mean(row) for row in zip(*(record["values"][choice] for record in records), strict=True)]
        for choice in records[0]["values"]
    }
    chosen = [_chosen(table, record["values"], data_set, metric) for record in records]
    seconds = _mean(record["seconds"] for record in records)
    return {"agreement": agreements, "values": values, "chosen": chosen, "seconds": seconds}


def _chosen(table: Table, values: Values, data_set: str, metric: str) -> dict[str, Any] | None:
    """The architecture of the best candidate of every choice, where all choices are of operations.

    Where candidates are equally good the accuracy is the mean over all architectures that this leaves (on the spaces
    that have a benchmark at most 15,625), and the architecture the first one.
    """
    space = table.space
    choices = operations_of(space)
    if len(choices) < len(space.choices) or any(choice.keep > 1 for choice in choices):
        return None
    each = itertools.product(*([(choice.name, name) for name in _best(choice, values)] for choice in choices))
    equals = [Architecture(space.name, {choice: (name,) for choice, name in kept}) for kept in each]
    accuracies = [table.lookup(architecture, data_set, metric) for architecture in equals]
    known = [accuracy for accuracy in accuracies if accuracy is not None]
    accuracy = sum(known) / len(known) if known else None
    rank = None if accuracy is None else table.rank(accuracy, data_set, metric)
    return {"architecture": space.format(equals[0]), "accuracy": accuracy, "rank": rank, "equals": len(equals)}


def _best(choice: Choice, values: Values) -> list[str]:
    """The candidates of a choice with the highest number."""
    row = np.asarray(values[choice.name], dtype=np.float64)
    return [name for name, value in zip(choice.selectable, row, strict=True) if value == np.nanmax(row)]


def _mean(values: Iterable[float]) -> float:
    """The mean of what is a number."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def settings(config: SearchConfig) -> dict[str, Any]:
    """Of the settings of a search those that scores at iteration 0 depend on."""
    names = ("proxy", "batch_size", "channels", "layers", "alpha_noise")
    return {name: asdict(config)[name] for name in names}
