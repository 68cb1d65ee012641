"""Zero-Cost-PT: differentiable architecture search without training the supernet.

import zcpt

space = zcpt.get_space("darts")
result = zcpt.search(space, data_set, proposals=10, seed=0, run_dir="runs/a")
network = space.network(result.architecture, channels=36, layers=20, num_classes=10)
"""

from typing import TYPE_CHECKING

from zcpt import _startup  # first, to answer Ctrl-C while the rest is imported
from zcpt._version import __version__
from zcpt.architecture import Architecture, Choice
from zcpt.batches import Batch, Batches, DatasetBatches
from zcpt.cost import Block, Cost
from zcpt.errors import (
    CallbackError,
    ConfigError,
    DataError,
    InfeasibleError,
    LostError,
    ProxyError,
    SpaceError,
    StorageError,
    ZcptError,
)
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
from zcpt.scoring import score, score_layers, score_mixtures
from zcpt.search import Callback, SearchConfig, SearchResult, replay, search
from zcpt.space import NetworkConfig, SearchSpace, WidthDepth
from zcpt.space_registry import get_space, list_spaces, register_space
from zcpt.supernet import Supernet
from zcpt.supernet_space import SupernetSpace

__all__ = [
    "Aggregate",
    "Architecture",
    "Batch",
    "Batches",
    "Block",
    "Callback",
    "CallbackError",
    "Choice",
    "ConfigError",
    "Cost",
    "DataError",
    "DatasetBatches",
    "InfeasibleError",
    "LostError",
    "Mixture",
    "NetworkConfig",
    "Proxy",
    "ProxyError",
    "SearchConfig",
    "SearchResult",
    "SearchSpace",
    "SpaceError",
    "StorageError",
    "Supernet",
    "SupernetSpace",
    "WidthDepth",
    "ZcptError",
    "__version__",
    "get_aggregate",
    "get_proxy",
    "get_space",
    "list_aggregates",
    "list_proxies",
    "list_spaces",
    "load",
    "register_aggregate",
    "register_proxy",
    "register_space",
    "replay",
    "run_trials",
    "score",
    "score_layers",
    "score_mixtures",
    "search",
    "select",
]

if TYPE_CHECKING:
    from train.predict import load
    from zcpt.compat import select
    from zcpt.trials import run_trials
else:

    def __getattr__(name: str) -> object:
        """Import on first use what needs more libraries, spaces or training; and return the names of version 0.1."""
        if name == "select":
            from zcpt.compat import select

            return select
        if name == "run_trials":
            from zcpt.trials import run_trials

            return run_trials
        if name == "load":
            _startup.check_packages()
            from train.predict import load

            return load
        from zcpt._deprecated import DEPRECATED, load_deprecated

        if name in DEPRECATED:
            return load_deprecated(name)
        raise AttributeError(f"module 'zcpt' has no attribute '{name}'")
