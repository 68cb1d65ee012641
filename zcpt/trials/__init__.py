"""Multi-trial search: algorithms that measure one architecture after another, guided by zero-cost proxies."""

from zcpt.trials.algorithm import (
    ALGORITHMS,
    Algorithm,
    ScoreArchitectures,
    Settings,
    Suggestion,
    build_settings,
    list_algorithms,
    register_algorithm,
)
from zcpt.trials.candidates import Candidates
from zcpt.trials.evolution import Evolution, EvolutionSettings
from zcpt.trials.hierarchy import Hierarchy, HierarchySettings
from zcpt.trials.local import LocalSearch, LocalSettings
from zcpt.trials.random import RandomSearch, RandomSettings
from zcpt.trials.reinforce import Reinforce, ReinforceSettings

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "Candidates",
    "Evolution",
    "EvolutionSettings",
    "Hierarchy",
    "HierarchySettings",
    "LocalSearch",
    "LocalSettings",
    "RandomSearch",
    "RandomSettings",
    "Reinforce",
    "ReinforceSettings",
    "ScoreArchitectures",
    "Settings",
    "Suggestion",
    "build_settings",
    "list_algorithms",
    "register_algorithm",
]
