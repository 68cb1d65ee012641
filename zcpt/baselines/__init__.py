"""Ways to score the operations of a supernet, to compare Zero-Cost-PT with: ``operation_scores(method, net, batches)``.

Each gives, for every choice, the importance of each candidate; larger is to be kept. Those here need no training:

    zc_pt      what removing the candidate costs, at the start of a search (Zero-Cost-PT's own score)
    disc_zc    what the supernet is worth with this candidate alone on its edge
    te_nas     TE-NAS' pruning: which candidates are removed last
    random     numbers drawn from the seed

Scores that come from a trained supernet, such as DARTS' alpha and DARTS-PT's accuracy without the candidate, belong
here too: a class of ``OperationScore`` whose constructor is handed the function that trains, as zcpt trains nothing.
"""

from zcpt.baselines._registry import (
    OperationScore,
    get_operation_score,
    list_operation_scores,
    operation_scores,
    register_operation_score,
)
from zcpt.baselines.at_once import Discretisation, Perturbation, Random
from zcpt.baselines.te_nas import TeNas

__all__ = [
    "Discretisation",
    "OperationScore",
    "Perturbation",
    "Random",
    "TeNas",
    "get_operation_score",
    "list_operation_scores",
    "operation_scores",
    "register_operation_score",
]
