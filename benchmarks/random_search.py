"""Random search that scores as many networks as a search does, by the same proxy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

import zcpt
from benchmarks.variants import networks_scored, shape
from train.data import ImageData, build_scoring_batches
from zcpt.architecture import Architecture
from zcpt.devices import resolve_device
from zcpt.search import BudgetChecker, FreshSupernets, SearchContext, Validator
from zcpt.search import find_best as best
from zcpt.seeding import derive_seed
from zcpt.tabular import Table
from zcpt.tabular.measures import spearman


def random_search(
    table: Table, config: zcpt.SearchConfig, data: ImageData, device: str, candidates: int
) -> dict[str, Any]:
    """Draw architectures of the table evenly and compare them as a search compares its proposals, in two ways.

    ``accuracy``: each is scored once, all on one batch and at one initialisation, and the best score wins.
    ``validated``: only as many as stage 1 scored, and the N best of them are compared by stage 2.

    Args:
        table: What to draw from, and the accuracies.
        config: Of the search that this stands beside.
        data: What the search drew its batches from.
        device: Where networks are scored.
        candidates: How many distinct proposals the search had; it compared no others in its stage 2.
    """
    stage1, stage2 = networks_scored(table.space, config, candidates)
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "random search"))
    indices = torch.randperm(len(table), generator=generator)[: stage1 + stage2].tolist()
    drawn = [table.architectures[i] for i in indices]
    batches = build_scoring_batches(data, config.seed), resolve_device(device)

    def scores(config: zcpt.SearchConfig, architectures: Sequence[Architecture]) -> list[list[float]]:
        # One by one: seeds are the same for all of them, and some hundred networks need not be in memory at once.
        space, (source, place) = table.space, batches
        networks = shape(config, data)
        supernets = FreshSupernets(space, networks, config, place)
        context = SearchContext(space, config, source, supernets, networks, BudgetChecker(space, networks), place)
        return [Validator(context).score([a])[0] for a in architectures]

    once = replace(config, validation_batches=1, validation_inits=1)
    first = scores(once, drawn)
    ranked = sorted(zip(first[:stage1], drawn, strict=False), key=lambda pair: pair[0], reverse=True)
    final = [architecture for _, architecture in ranked[: config.proposals]]
    winner = best(scores(config, final), config) if len(final) > 1 else 0
    accuracies = table.accuracies("cifar10")[indices].tolist()
    return {
        "evaluations": stage1 + stage2,
        "accuracy": accuracies[best(first, once)],
        "validated": accuracies[drawn.index(final[winner])],
        "best drawn": max(accuracies),
        "spearman": spearman([score for (score,) in first], accuracies),
    }
