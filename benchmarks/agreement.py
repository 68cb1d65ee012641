"""How well the first importances rank operations, by Spearman's correlation with trained accuracies."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

import torch
from scipy.stats import spearmanr

import zcpt
from benchmarks.tables import Table, Trained
from benchmarks.variants import shape
from train.data import ImageData, scoring_batches
from zcpt.devices import place, place_batch
from zcpt.mixture import Mixture
from zcpt.search.propose import Seeds
from zcpt.seeding import derive, seeded
from zcpt.space import Choice


def agreement(table: Table, config: zcpt.SearchConfig, data: ImageData, device: str) -> dict[str, float]:
    """Mean over the choices of operations: with the best training, and with the mean accuracy, of all architectures
    that have the operation there."""
    proxy, seeds, space = zcpt.get_proxy(config.proxy), Seeds.derived(config.seed), table.space
    with seeded(derive(seeds.weights, 0)):
        net = space.build_supernet(shape(config, data))
    place(net, torch.device(device))
    with seeded(derive(seeds.alpha, 0)):
        start = Mixture.start(space.choices, config.alpha_noise)
    drawn = scoring_batches(data, config.seed).draw(config.batch_size, derive(seeds.batch, 0))
    batch = place_batch(drawn, torch.device(device))
    correlations: dict[str, list[float]] = {"best": [], "mean": []}
    for choice in (choice for choice in space.choices if choice.phase == 0):
        removed = [start.without(choice.name, c) for c in choice.candidates]
        importance = [-s for s in zcpt.evaluate(net, proxy, removed, batch).tolist()]
        having = list(_having(table, choice))
        truths = {
            "best": [max(trained.best for trained in group) for group in having],
            "mean": [statistics.mean(trained.mean for trained in group) for group in having],
        }
        for name, truth in truths.items():
            correlations[name].append(float(spearmanr(importance, truth).statistic))
    return {name: statistics.mean(values) for name, values in correlations.items()}


def _having(table: Table, choice: Choice) -> Iterator[list[Trained]]:
    for candidate in choice.candidates:
        yield [each for found, each in table.trained.items() if found.kept.get(choice.name) == (candidate,)]
