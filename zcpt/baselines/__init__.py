"""Operation scores to compare Zero-Cost-PT with: ``score_operations(method, net, batches)``.

Each method gives, for every choice, the importance of each candidate; larger means keep. None of these trains anything:

    zc_pt      drop of the supernet's score when the candidate is removed, before any decision (Zero-Cost-PT)
    disc_zc    score of the supernet with this candidate alone on its edge
    te_nas     TE-NAS' pruning: position of the candidate in the order of removal
    random     random numbers from the seed

Scores from a trained supernet, such as DARTS' alpha or the accuracy that DARTS-PT measures without the candidate, can
be added as subclasses of ``OperationScore``. Their constructor takes the function that trains, as zcpt trains nothing.
"""

import warnings
from typing import Any

from zcpt.baselines._registry import (
    OperationScore,
    ScoringTask,
    get_operation_score,
    list_operation_scores,
    register_operation_score,
    score_operations,
)
from zcpt.baselines.per_choice import DiscretisationScore, PerturbationScore, RandomScore
from zcpt.baselines.te_nas import TeNasPruning

__all__ = [
    "DiscretisationScore",
    "OperationScore",
    "PerturbationScore",
    "RandomScore",
    "ScoringTask",
    "TeNasPruning",
    "get_operation_score",
    "list_operation_scores",
    "register_operation_score",
    "score_operations",
]


def __getattr__(name: str) -> Any:
    """Return ``score_operations`` for its old name ``operation_scores``, which the next version removes."""
    if name == "operation_scores":
        warnings.warn(
            "zcpt.baselines.operation_scores is now zcpt.baselines.score_operations.", DeprecationWarning, stacklevel=2
        )
        return score_operations
    raise AttributeError(f"module 'zcpt.baselines' has no attribute '{name}'")
