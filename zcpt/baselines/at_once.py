"""Operation scores that look at each choice once, all others being as they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import nn
from tqdm import tqdm

from zcpt.architecture import Choice
from zcpt.baselines._registry import Importances, OperationScore, register_operation_score
from zcpt.batches import Batch
from zcpt.mixture import Mixture
from zcpt.proxies import Aggregate, Criterion
from zcpt.scoring import CriterionEvaluator, Table, compute_importances, importance
from zcpt.seeding import derive_seed


class _Changed(OperationScore):
    """Scores the supernet with one candidate of a choice changed, candidate by candidate."""

    @abstractmethod
    def changed(self, mixture: Mixture, choice: Choice, candidate: str) -> Mixture:
        """The mixture that speaks of a candidate."""

    @abstractmethod
    def compute_importances(self, criterion: Criterion, table: Table) -> list[float]:
        """Importances of the candidates of a choice, from the scores of the changed supernet."""

    def importances(
        self,
        net: nn.Module,
        mixture: Mixture,
        choices: Sequence[Choice],
        batches: Sequence[Batch],
        criterion: Criterion | None,
        seed: int,
    ) -> Importances:
        assert criterion is not None, "one whose 'proxies' is 'any' is given one"
        panel, found = CriterionEvaluator(net, criterion), {}
        for choice in tqdm(choices, self.name, leave=False, disable=None):
            mixtures = [self.changed(mixture, choice, candidate) for candidate in choice.selectable]
            found[choice.name] = self.compute_importances(criterion, averaged(panel, mixtures, batches))
        return found


@register_operation_score
class Perturbation(_Changed):
    """What removing the candidate from the supernet costs."""

    name = "zc_pt"
    paper = "Zero-Cost-PT, Xiang et al., AAAI 2023"

    def changed(self, mixture: Mixture, choice: Choice, candidate: str) -> Mixture:
        return mixture.without(choice.name, candidate)

    def compute_importances(self, criterion: Criterion, table: Table) -> list[float]:
        return compute_importances(criterion, table)[1]


@register_operation_score
class Discretisation(_Changed):
    """What the supernet is worth with the candidate alone on its edge."""

    name = "disc_zc"
    paper = "a comparison in Zero-Cost-PT, Xiang et al., AAAI 2023"

    def changed(self, mixture: Mixture, choice: Choice, candidate: str) -> Mixture:
        return mixture.select(choice.name, (candidate,))

    def compute_importances(self, criterion: Criterion, table: Table) -> list[float]:
        if isinstance(criterion, Aggregate):
            return importance(criterion.compute_values(table), higher_is_better=False)
        return importance(table[criterion.name], not criterion.higher_is_better)


@register_operation_score
class Random(OperationScore):
    """Numbers drawn from the seed, uniformly from 0 to 1; the same for a choice whichever others are scored."""

    name = "random"
    proxies: ClassVar[str] = "none"

    def importances(
        self,
        net: nn.Module,
        mixture: Mixture,
        choices: Sequence[Choice],
        batches: Sequence[Batch],
        criterion: Criterion | None,
        seed: int,
    ) -> Importances:
        found = {}
        for choice in choices:
            generator = torch.Generator().manual_seed(derive_seed(seed, "operations", choice.name))
            found[choice.name] = torch.rand(len(choice.selectable), generator=generator, dtype=torch.float64).tolist()
        return found


def averaged(
    panel: CriterionEvaluator, mixtures: Sequence[Mixture], batches: Sequence[Batch]
) -> dict[str, list[float]]:
    """Mean scores of mixtures over the batches, by proxy; one that is not finite leaves none."""
    tables = [panel.scores(mixtures, batch) for batch in batches]
    return {name: torch.tensor([t[name] for t in tables], dtype=torch.float64).mean(0).tolist() for name in tables[0]}
