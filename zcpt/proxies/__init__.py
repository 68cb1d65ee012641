"""Zero-cost proxies: a number for a network from one mini-batch, without training; and aggregates of several."""

from zcpt.proxies._registry import Proxy, get_proxy, list_proxies, register_proxy
from zcpt.proxies.aggregate import (
    Aggregate,
    Criterion,
    get_aggregate,
    get_criterion,
    list_aggregates,
    parts_of,
    register_aggregate,
)
from zcpt.proxies.auto import AUTO, Use, pick
from zcpt.proxies.naswot import Naswot, OfficialNaswot

__all__ = [
    "AUTO",
    "Aggregate",
    "Criterion",
    "Naswot",
    "OfficialNaswot",
    "Proxy",
    "Use",
    "get_aggregate",
    "get_criterion",
    "get_proxy",
    "list_aggregates",
    "list_proxies",
    "parts_of",
    "pick",
    "register_aggregate",
    "register_proxy",
]
