"""The search: stage 1 proposes N architectures, stage 2 validates them."""

from zcpt.search.budgets import BudgetChecker, FeasibleSet
from zcpt.search.callbacks import Callback, CallbackGuard, CallbackList, add_listeners, check_callbacks
from zcpt.search.config import PRESETS, RENAMED_SETTINGS, SearchConfig, SearchSeeds, configure, upgrade_settings
from zcpt.search.context import SearchContext
from zcpt.search.decision import Decision
from zcpt.search.finalists import check_finalists, describe_finalist_value
from zcpt.search.orders import ORDERS, count_evaluations, simulate_rounds
from zcpt.search.plan import SearchPlan, check_image_count, plan_search
from zcpt.search.replay import Replay, replay
from zcpt.search.result import Finalist, SearchResult, ValidatedArchitecture
from zcpt.search.run import execute_search, run_search, search
from zcpt.search.run_folder import GROWING, configure_from, is_finished, read_run_config, read_run_data
from zcpt.search.supernets import FreshSupernets, SupernetSource, draw_mixture
from zcpt.search.validate import Validator, find_best

__all__ = [
    "GROWING",
    "ORDERS",
    "PRESETS",
    "RENAMED_SETTINGS",
    "BudgetChecker",
    "Callback",
    "CallbackGuard",
    "CallbackList",
    "Decision",
    "FeasibleSet",
    "Finalist",
    "FreshSupernets",
    "Replay",
    "SearchConfig",
    "SearchContext",
    "SearchPlan",
    "SearchResult",
    "SearchSeeds",
    "SupernetSource",
    "ValidatedArchitecture",
    "Validator",
    "add_listeners",
    "check_callbacks",
    "check_finalists",
    "check_image_count",
    "configure",
    "configure_from",
    "count_evaluations",
    "describe_finalist_value",
    "draw_mixture",
    "execute_search",
    "find_best",
    "is_finished",
    "plan_search",
    "read_run_config",
    "read_run_data",
    "replay",
    "run_search",
    "search",
    "simulate_rounds",
    "upgrade_settings",
]
