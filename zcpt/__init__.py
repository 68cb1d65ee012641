"""Zero-Cost-PT: differentiable architecture search without training the supernet.

import zcpt

space = zcpt.get_space("darts")
result = zcpt.search(space, data_set, proposals=10, seed=0, run_dir="runs/a")
network = space.network(result.architecture, channels=36, layers=20, num_classes=10)
"""

__version__ = "0.1.0"

from typing import TYPE_CHECKING

from zcpt.batches import Batch, Batches, DatasetBatches
from zcpt.cost import Block, Cost
from zcpt.errors import ConfigError, DataError, InfeasibleError, LostError, ProxyError, SpaceError, ZcptError
from zcpt.mixture import Mixture
from zcpt.proxies import (
    Aggregate,
    Proxy,
    get_aggregate,
    get_proxy,
    list_aggregates,
    list_proxies,
    register_aggregate,
    register_proxy,
)
from zcpt.scoring import evaluate, score, score_layers
from zcpt.search import Listener, SearchConfig, SearchResult, replay, search
from zcpt.space import Architecture, Choice, SearchSpace, Shape, Size
from zcpt.spaces import get_space, list_spaces, register_space
from zcpt.supernet import Supernet
from zcpt.supernet_space import SupernetSpace

__all__ = [
    "Aggregate",
    "Architecture",
    "Batch",
    "Batches",
    "Block",
    "Choice",
    "ConfigError",
    "Cost",
    "DataError",
    "DatasetBatches",
    "InfeasibleError",
    "Listener",
    "LostError",
    "Mixture",
    "Proxy",
    "ProxyError",
    "SearchConfig",
    "SearchResult",
    "SearchSpace",
    "Shape",
    "Size",
    "SpaceError",
    "Supernet",
    "SupernetSpace",
    "ZcptError",
    "evaluate",
    "get_aggregate",
    "get_proxy",
    "get_space",
    "list_aggregates",
    "list_proxies",
    "list_spaces",
    "register_aggregate",
    "register_proxy",
    "register_space",
    "replay",
    "score",
    "score_layers",
    "search",
    "select",
]

if TYPE_CHECKING:
    from zcpt.compat import select
else:

    def __getattr__(name: str) -> object:
        """Import ``select`` when it is asked for: it needs search spaces, which ``import zcpt`` leaves alone."""
        if name == "select":
            from zcpt.compat import select

            return select
        raise AttributeError(f"module 'zcpt' has no attribute '{name}'")
