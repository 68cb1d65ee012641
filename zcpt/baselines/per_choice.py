"""Operation scores that rate the candidates of each choice while all other choices stay as they are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from tqdm import tqdm

from zcpt.architecture import Choice
from zcpt.baselines._registry import Importances, OperationScore, ScoringTask, register_operation_score
from zcpt.batches import Batch
from zcpt.mixture import Mixture
from zcpt.proxies import Aggregate, Criterion
from zcpt.scoring import ComponentScores, CriterionEvaluator, compute_importances, convert_to_importances
from zcpt.seeding import derive_seed


class _PerChoiceScore(OperationScore):
    """An operation score that changes one candidate of one choice at a time and scores the supernet."""

    @abstractmethod
    def change(self, mixture: Mixture, choice: Choice, candidate: str) -> Mixture:
        """Return the mixture whose score rates the candidate."""

    @abstractmethod
    def rate(self, criterion: Criterion, scores: ComponentScores) -> list[float]:
        """Compute the importances of a choice's candidates from the scores of the changed supernets."""

    def compute_importances(self, task: ScoringTask) -> Importances:
        assert task.criterion is not None, "there always is one where 'proxies' is 'any'"
        evaluator = CriterionEvaluator(task.net, task.criterion)
        importances = {}
        for choice in tqdm(task.choices, self.name, leave=False, disable=None):
            mixtures = [self.change(task.mixture, choice, candidate) for candidate in choice.selectable]
            scores = average_scores(evaluator, mixtures, task.batches)
            importances[choice.name] = self.rate(task.criterion, scores)
        return importances


@register_operation_score
class PerturbationScore(_PerChoiceScore):
    """Drop of the supernet's score when the candidate is removed."""

    name = "zc_pt"
    paper = "Zero-Cost-PT, Xiang et al., AAAI 2023"

    def change(self, mixture: Mixture, choice: Choice, candidate: str) -> Mixture:
        return mixture.without(choice.name, candidate)

    def rate(self, criterion: Criterion, scores: ComponentScores) -> list[float]:
        return compute_importances(criterion, scores)[1]


@register_operation_score
class DiscretisationScore(_PerChoiceScore):
    """Score of the supernet with the candidate alone on its edge."""

    name = "disc_zc"
    paper = "a comparison in Zero-Cost-PT, Xiang et al., AAAI 2023"

    def change(self, mixture: Mixture, choice: Choice, candidate: str) -> Mixture:
        return mixture.select(choice.name, (candidate,))

    def rate(self, criterion: Criterion, scores: ComponentScores) -> list[float]:
        # ``convert_to_importances`` is made for scores after removal, where a good score means a superfluous candidate.
        # Here a good score is the candidate's own, so the direction is inverted.
        if isinstance(criterion, Aggregate):
            return convert_to_importances(criterion.compute_values(scores), higher_is_better=False)
        return convert_to_importances(scores[criterion.name], not criterion.higher_is_better)


@register_operation_score
class RandomScore(OperationScore):
    """Uniform random numbers in [0, 1) from the seed; those of a choice do not depend on which others are scored."""

    name = "random"
    proxies: ClassVar[str] = "none"

    def compute_importances(self, task: ScoringTask) -> Importances:
        importances = {}
        for choice in task.choices:
            generator = torch.Generator().manual_seed(derive_seed(task.seed, "operations", choice.name))
            row = torch.rand(len(choice.selectable), generator=generator, dtype=torch.float64)
            importances[choice.name] = row.tolist()
        return importances


def average_scores(
    evaluator: CriterionEvaluator, mixtures: Sequence[Mixture], batches: Sequence[Batch]
) -> dict[str, list[float]]:
    """Compute the mean scores of mixtures over batches, by the proxy's name.

    If one of the scores of a mixture is not finite, neither is the mean.
    """
    tables = [evaluator.score_components(mixtures, batch) for batch in batches]
    return {name: torch.tensor([t[name] for t in tables], dtype=torch.float64).mean(0).tolist() for name in tables[0]}
