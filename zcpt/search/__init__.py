"""The search: stage 1 proposes N architectures, stage 2 validates them."""

from zcpt.search.callbacks import Callback
from zcpt.search.config import PRESETS, SearchConfig, configure
from zcpt.search.decision import Decision
from zcpt.search.orders import ORDERS
from zcpt.search.replay import Replay, replay
from zcpt.search.result import Candidate, SearchResult
from zcpt.search.run import search

__all__ = [
    "ORDERS",
    "PRESETS",
    "Callback",
    "Candidate",
    "Decision",
    "Replay",
    "SearchConfig",
    "SearchResult",
    "configure",
    "replay",
    "search",
]
