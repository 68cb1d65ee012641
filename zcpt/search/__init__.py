"""The search: stage 1 proposes N architectures, stage 2 validates them."""

from zcpt.search.callbacks import Callback
from zcpt.search.config import PRESETS, SearchConfig, SearchSeeds, configure
from zcpt.search.context import SearchContext
from zcpt.search.decision import Decision
from zcpt.search.orders import ORDERS, count_evaluations
from zcpt.search.plan import SearchPlan, check_image_count, plan_search
from zcpt.search.replay import Replay, replay
from zcpt.search.result import SearchResult, ValidatedArchitecture
from zcpt.search.run import execute_search, run_search, search
from zcpt.search.supernets import FreshSupernets, SupernetSource, draw_start_mixture
from zcpt.search.validate import Validator, find_best

__all__ = [
    "ORDERS",
    "PRESETS",
    "Callback",
    "Decision",
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
    "check_image_count",
    "configure",
    "count_evaluations",
    "draw_start_mixture",
    "execute_search",
    "find_best",
    "plan_search",
    "replay",
    "run_search",
    "search",
]
