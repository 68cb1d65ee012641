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
from zcpt.trials.callbacks import TrialsCallback
from zcpt.trials.candidates import Candidates
from zcpt.trials.config import TrialsConfig, configure_trials
from zcpt.trials.evolution import Evolution, EvolutionSettings
from zcpt.trials.hierarchy import Hierarchy, HierarchySettings
from zcpt.trials.local import LocalSearch, LocalSettings
from zcpt.trials.monitor import TrialsProgress, TrialsTensorBoard
from zcpt.trials.plan import PROXY, TrialsPlan, plan_trials
from zcpt.trials.predictor import Predictor, PredictorSettings
from zcpt.trials.random import RandomSearch, RandomSettings
from zcpt.trials.reinforce import Reinforce, ReinforceSettings
from zcpt.trials.replay import TrialsReplay, replay_trials
from zcpt.trials.result import Trial, TrialsResult, find_best_trial
from zcpt.trials.run import execute_plan, run_trials
from zcpt.trials.run_folder import configure_trials_from, is_run_of_trials, read_trials_config
from zcpt.trials.scores import NetworkScores, ProxyScores, ScoreSource, ScoreTable
from zcpt.values import Measured, Measurement, StagedValue, Value

__all__ = [
    "ALGORITHMS",
    "PROXY",
    "Algorithm",
    "Candidates",
    "Evolution",
    "EvolutionSettings",
    "Hierarchy",
    "HierarchySettings",
    "LocalSearch",
    "LocalSettings",
    "Measured",
    "Measurement",
    "NetworkScores",
    "Predictor",
    "PredictorSettings",
    "ProxyScores",
    "RandomSearch",
    "RandomSettings",
    "Reinforce",
    "ReinforceSettings",
    "ScoreArchitectures",
    "ScoreSource",
    "ScoreTable",
    "Settings",
    "StagedValue",
    "Suggestion",
    "Trial",
    "TrialsCallback",
    "TrialsConfig",
    "TrialsPlan",
    "TrialsProgress",
    "TrialsReplay",
    "TrialsResult",
    "TrialsTensorBoard",
    "Value",
    "build_settings",
    "configure_trials",
    "configure_trials_from",
    "execute_plan",
    "find_best_trial",
    "is_run_of_trials",
    "list_algorithms",
    "plan_trials",
    "read_trials_config",
    "register_algorithm",
    "replay_trials",
    "run_trials",
]
