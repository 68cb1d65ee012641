"""From a supernet and a mini-batch to scores, and from scores to the importance of candidates."""

from zcpt.scoring.criterion import CriterionEvaluator, Table, aggregate_scores, component_scores, compute_importances
from zcpt.scoring.evaluator import Evaluator, score_mixtures
from zcpt.scoring.importance import importance, most_important
from zcpt.scoring.score import score, score_layers

__all__ = [
    "CriterionEvaluator",
    "Evaluator",
    "Table",
    "aggregate_scores",
    "component_scores",
    "compute_importances",
    "importance",
    "most_important",
    "score",
    "score_layers",
    "score_mixtures",
]
