"""From a supernet and a mini-batch to scores, and from scores to the importance of candidates."""

from zcpt.scoring.evaluate import Evaluator, evaluate
from zcpt.scoring.importance import importance, most_important
from zcpt.scoring.panel import Panel, Table, judged, network_values, noted
from zcpt.scoring.score import score, score_layers

__all__ = [
    "Evaluator",
    "Panel",
    "Table",
    "evaluate",
    "importance",
    "judged",
    "most_important",
    "network_values",
    "noted",
    "score",
    "score_layers",
]
