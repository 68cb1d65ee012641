"""How well the first importances rank operations, by Spearman's correlation with trained accuracies."""

from __future__ import annotations

import torch

import zcpt
from train.data import ImageData, build_scoring_batches
from zcpt.tabular import Table
from zcpt.tabular.operations import average_accuracy, best_accuracy, compare, scored


def agreement(table: Table, config: zcpt.SearchConfig, data: ImageData, device: str) -> dict[str, float]:
    """Mean over the choices of operations: with the best training, and with the mean accuracy, of all architectures
    that have the operation there."""
    batches = build_scoring_batches(data, config.seed)
    found = scored("zc_pt", table.space, batches, config, torch.device(device))
    references = {"best": best_accuracy(table, "cifar10", "best-test"), "mean": average_accuracy(table, "cifar10")}
    return {name: compare(found, reference)["spearman"] for name, reference in references.items()}
