"""Operation scores of a supernet whose weights, and whose architecture parameters, are trained.

The shares of a trained supernet's candidates are the weights of its mixture. zcpt trains nothing itself: ``train``
makes such supernets (``zcpt train-supernet``), and hands over the function that trains them further.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tqdm import tqdm

from zcpt.architecture import Choice
from zcpt.baselines._registry import Importances, OperationScore, ScoringTask, register_operation_score
from zcpt.baselines.per_choice import DiscretisationScore, PerturbationScore
from zcpt.batches import Batch
from zcpt.errors import ConfigError
from zcpt.mixture import Mixture
from zcpt.proxies import Accuracy
from zcpt.scoring import Evaluator
from zcpt.supernet import Mixed, Scorable, Sum, Supernet

Tune = Callable[[Mixture], tuple[Scorable, Mixture]]
"""Function that trains a copy of the supernet further, with the decisions of a mixture.

It returns the copy and its mixture, in which open choices have their new shares."""


def measure_accuracies(net: Scorable, mixtures: Sequence[Mixture], batches: Sequence[Batch]) -> list[float]:
    """Return the accuracy in percent over all images of the batches, for each mixture; BatchNorm by the batch."""
    evaluator = Evaluator(net, Accuracy())
    images = sum(len(batch.labels) for batch in batches)
    hits = [0.0] * len(mixtures)
    for batch in batches:
        accuracies = evaluator.score_mixtures(mixtures, batch).tolist()
        hits = [hit + len(batch.labels) * accuracy for hit, accuracy in zip(hits, accuracies, strict=True)]
    return [hit / images for hit in hits]


@register_operation_score
class ShareScore(OperationScore):
    """Share of the candidate in the mixture of a trained supernet: the softmax of alpha.

    An input of a node in DARTS has none: as published, it has the largest share of an operation on it, 'none' aside.
    """

    name = "darts"
    proxies: ClassVar[str] = "none"
    paper = "DARTS, Liu et al., ICLR 2019"
    needs_training = True

    def compute_importances(self, task: ScoringTask) -> Importances:
        operations = _find_operations(task.net) if isinstance(task.net, Supernet) else {}
        importances = {}
        for choice in task.choices:
            inputs = operations.get(choice.name, [])
            if _is_even(choice, task.mixture) and any(inputs):
                importances[choice.name] = [
                    max(_list_shares(task.mixture.choices[name], task.mixture)) if name else 0.0 for name in inputs
                ]
            else:
                importances[choice.name] = _list_shares(choice, task.mixture)
        if all(len(set(row)) == 1 for row in importances.values()):
            raise ConfigError(
                "operation score 'darts' compares trained shares, and all candidates have equal ones: pass the mixture "
                "of a trained supernet ('zcpt train-supernet')."
            )
        return importances


def _list_shares(choice: Choice, mixture: Mixture) -> list[float]:
    row = dict(zip(choice.candidates, mixture.weights[choice.name], strict=True))
    return [row[name] for name in choice.selectable]


def _is_even(choice: Choice, mixture: Mixture) -> bool:
    return len(set(mixture.weights[choice.name])) == 1


def _find_operations(net: Supernet) -> dict[str, list[str]]:
    """Return the choice of the operation of each candidate, for choices of inputs; '' where it has none."""
    mixed = {step.out: step.choice for step in net.program if isinstance(step, Mixed)}
    return {
        step.choice: [mixed.get(source, "") for source in step.sources]
        for step in net.program
        if isinstance(step, Sum) and step.choice
    }


class _AccuracyScore(OperationScore):
    """An operation score that changes one candidate of one choice at a time and measures the supernet's accuracy."""

    proxies: ClassVar[str] = "none"
    needs_training = True

    @abstractmethod
    def measure(self, task: ScoringTask, choice: Choice) -> list[float]:
        """Return the importances of the candidates of a choice."""

    def compute_importances(self, task: ScoringTask) -> Importances:
        bar = tqdm(task.choices, self.name, leave=False, disable=None)
        return {choice.name: self.measure(task, choice) for choice in bar}


@register_operation_score
class MaskedAccuracyScore(_AccuracyScore):
    """Minus the accuracy of the trained supernet without the candidate, in percent."""

    name = "darts_pt"
    paper = "DARTS-PT, Wang et al., ICLR 2021"

    def measure(self, task: ScoringTask, choice: Choice) -> list[float]:
        mixtures = [task.mixture.without(choice.name, candidate) for candidate in choice.selectable]
        return [-accuracy for accuracy in measure_accuracies(task.net, mixtures, task.batches)]


@register_operation_score
@dataclass(frozen=True)
class DiscretisationAccuracyScore(_AccuracyScore):
    """Accuracy of the trained supernet with the candidate alone on its edge, after further training."""

    name: ClassVar[str] = "disc_acc"
    paper: ClassVar[str] = "a comparison in DARTS-PT, Wang et al., ICLR 2021"

    tune: Tune | None = None
    """Function that trains the supernet further after each trial decision; None measures it as it is."""

    def measure(self, task: ScoringTask, choice: Choice) -> list[float]:
        return [self._measure_alone(task, choice, candidate) for candidate in choice.selectable]

    def _measure_alone(self, task: ScoringTask, choice: Choice, candidate: str) -> float:
        net, mixture = task.net, task.mixture.select(choice.name, (candidate,))
        if self.tune is not None:
            net, mixture = self.tune(mixture)
        return measure_accuracies(net, [mixture], task.batches)[0]


@register_operation_score
class TrainedPerturbationScore(PerturbationScore):
    """Drop of a trained supernet's score when the candidate is removed."""

    name = "zc_pt_post"
    needs_training = True


@register_operation_score
class TrainedDiscretisationScore(DiscretisationScore):
    """Score of a trained supernet with the candidate alone on its edge."""

    name = "disc_zc_post"
    needs_training = True
