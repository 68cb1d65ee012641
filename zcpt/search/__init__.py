"""The search: stage 1 proposes N architectures, stage 2 validates them."""

from zcpt.search.config import PRESETS, SearchConfig, configure
from zcpt.search.events import Decision, Listener
from zcpt.search.orders import ORDERS
from zcpt.search.replay import Replay, replay
from zcpt.search.result import Candidate, SearchResult
from zcpt.search.run import search

__all__ = [
    "ORDERS",
    "PRESETS",
    "Candidate",
    "Decision",
    "Listener",
    "Replay",
    "SearchConfig",
    "SearchResult",
    "configure",
    "replay",
    "search",
]
