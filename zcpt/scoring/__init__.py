"""Scores of a network on a mini-batch, and the importances of candidates that follow from them."""

from zcpt.scoring.criterion import (
    ComponentScores,
    CriterionEvaluator,
    aggregate_scores,
    check_scores_operations,
    compute_importances,
    get_component_scores,
)
from zcpt.scoring.evaluator import Evaluator, resolve_engine, score_mixtures
from zcpt.scoring.importance import argmax_importance, convert_to_importances
from zcpt.scoring.networks import IndexedArchitecture, NetworkScorer
from zcpt.scoring.score import score, score_layers

__all__ = [
    "ComponentScores",
    "CriterionEvaluator",
    "Evaluator",
    "IndexedArchitecture",
    "NetworkScorer",
    "aggregate_scores",
    "argmax_importance",
    "check_scores_operations",
    "compute_importances",
    "convert_to_importances",
    "get_component_scores",
    "resolve_engine",
    "score",
    "score_layers",
    "score_mixtures",
]
