"""Operation scores to compare Zero-Cost-PT with: ``score_operations(method, net, batches)``.

Each method gives, for every choice, the importance of each candidate; larger means keep. These need no training:

    zc_pt         drop of the supernet's score when the candidate is removed, before any decision (Zero-Cost-PT)
    disc_zc       score of the supernet with this candidate alone on its edge
    te_nas        TE-NAS' pruning: position of the candidate in the order of removal
    random        random numbers from the seed

These score a trained supernet, in the mixture of its trained shares:

    darts         share of the candidate: the softmax of alpha
    darts_pt      minus the accuracy without the candidate
    disc_acc      accuracy with the candidate alone on its edge, after further training
    zc_pt_post    zc_pt on a trained supernet
    disc_zc_post  disc_zc on a trained supernet

zcpt trains nothing itself: ``train`` makes trained supernets, and ``DiscretisationAccuracyScore`` takes the function
that trains one further. Methods of your own are subclasses of ``OperationScore``.
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
from zcpt.baselines.trained import (
    DiscretisationAccuracyScore,
    MaskedAccuracyScore,
    ShareScore,
    TrainedDiscretisationScore,
    TrainedPerturbationScore,
    Tune,
    measure_accuracies,
)

__all__ = [
    "DiscretisationAccuracyScore",
    "DiscretisationScore",
    "MaskedAccuracyScore",
    "OperationScore",
    "PerturbationScore",
    "RandomScore",
    "ScoringTask",
    "ShareScore",
    "TeNasPruning",
    "TrainedDiscretisationScore",
    "TrainedPerturbationScore",
    "Tune",
    "get_operation_score",
    "list_operation_scores",
    "measure_accuracies",
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
