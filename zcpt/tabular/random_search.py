"""Random search with as many evaluations as a search: the baseline that a search has to beat."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from zcpt.batches import Batches
from zcpt.errors import ConfigError
from zcpt.journal import Journal, Record
from zcpt.progress import show_progress
from zcpt.proxies import Aggregate
from zcpt.search import (
    FreshSupernets,
    SearchConfig,
    SearchContext,
    Validator,
    count_evaluations,
    find_best,
    plan_search,
)
from zcpt.seeding import derive_seed
from zcpt.space import SearchSpace
from zcpt.tabular._benchmark import TabularBenchmark
from zcpt.tabular.measures import spearman


def count_networks_scored(space: SearchSpace, config: SearchConfig, candidates: int) -> dict[str, int]:
    """Return the number of evaluations of each stage of a search.

    Args:
        space: The search space.
        config: Settings of the search.
        candidates: Distinct networks among the proposals. Stage 2 does not run for a single one.
    """
    per_proposal, _ = count_evaluations(space.choices, config.order, config.joint)
    validation = config.validation_batches * candidates if candidates > 1 else 0
    return {"proposals": config.proposals * per_proposal, "validation": validation}


def check_random_search(config: SearchConfig) -> None:
    """Raise ConfigError if random search cannot be compared with a search of these settings."""
    criterion = config.criterion("validation")
    if isinstance(criterion, Aggregate):
        # The values of an aggregate are ranks among candidates, and here networks are scored one by one.
        raise ConfigError(f"--random-search needs a proxy, and '{criterion.name}' is an aggregate of several.")
    if config.max_params or config.max_macs or config.max_latency:
        raise ConfigError("--random-search draws from the whole table: leave out the budgets.")


def search_randomly(
    table: TabularBenchmark,
    accuracies: NDArray[np.float64],
    batches: Batches,
    config: SearchConfig,
    device: torch.device,
    candidates: int,
) -> Record:
    """Draw architectures from the table uniformly, and select one by the proxy of stage 2, in two ways.

    The first way scores each architecture once, all on one batch at one initialisation, and takes the best score. The
    second one scores only as many as stage 1 of the search does, and validates the N best of them as in stage 2.

    Args:
        table: Architectures and their accuracies.
        accuracies: Accuracies [N] of the table. Architectures without one are not drawn.
        batches: Source of mini-batches of the search.
        config: Settings of the search.
        device: Device on which networks are scored.
        candidates: Distinct networks among the proposals of the search.

    Returns:
        ``indices`` of the drawn architectures with their ``scores``, and the indices of the two that are selected, as
        ``best`` and ``validated``.
    """
    started = time.perf_counter()
    count = count_networks_scored(table.space, config, candidates)
    listed = np.flatnonzero(~np.isnan(accuracies))
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "random search"))
    permutation = torch.randperm(len(listed), generator=generator)[: sum(count.values())]
    indices = [int(listed[i]) for i in permutation.tolist()]
    single_batch_config = replace(config, validation_batches=1, validation_inits=1)
    single_scores = _score_networks(table, indices, batches, single_batch_config, device)
    sign = 1 if config.criterion("validation").higher_is_better else -1
    oriented = [sign * score if math.isfinite(score) else -math.inf for (score,) in single_scores]
    ranking = sorted(range(min(count["proposals"], len(indices))), key=lambda i: oriented[i], reverse=True)
    finalists = [indices[i] for i in ranking[: config.proposals]]
    winner = 0
    if len(finalists) > 1:
        winner = find_best(_score_networks(table, finalists, batches, config, device), config)
    return {
        "seed": config.seed,
        "indices": indices,
        "scores": [score for (score,) in single_scores],
        "best": indices[find_best(single_scores, single_batch_config)],
        "validated": finalists[winner],
        "seconds": time.perf_counter() - started,
    }


def _score_networks(
    table: TabularBenchmark, indices: Sequence[int], batches: Batches, config: SearchConfig, device: torch.device
) -> list[list[float]]:
    """Return the scores of stage 2 on each of the V batches."""
    plan = plan_search(table.space, batches, config, device=device)
    context = SearchContext(
        space=table.space,
        config=config,
        batches=plan.batches,
        supernets=FreshSupernets(table.space, plan.network_config, config, device),
        network_config=plan.network_config,
        budget_checker=plan.budget_checker,
        device=device,
    )
    # One by one, so that hundreds of networks are not in memory at once. Batches and initialisations depend only on the
    # seed, so the scores are those of a common validation. Each network needs a journal of its own, since a validation
    # resumes from the records in its journal.
    return [
        Validator(replace(context, journal=Journal())).score([table.architectures[index]])[0]
        for index in show_progress(indices, "random search")
    ]


def evaluate_random_search(record: Mapping[str, Any], accuracies: NDArray[np.float64]) -> dict[str, Any]:
    """Return the accuracies of the architectures that random search selected, and that of the best one it drew."""
    drawn = accuracies[record["indices"]]
    finite = np.isfinite(np.array(record["scores"], dtype=np.float64))
    return {
        "seed": record["seed"],
        "evaluations": len(drawn),
        "accuracy": float(accuracies[record["best"]]),
        "validated": float(accuracies[record["validated"]]),
        "best_drawn": float(drawn.max()),
        "spearman": spearman(np.array(record["scores"])[finite], drawn[finite]),
        "seconds": record["seconds"],
    }
