"""Zero-cost proxies: a number for a network from one mini-batch, without training; and aggregates of several."""

from zcpt.proxies._layers import LayerProxy
from zcpt.proxies._registry import Need, Proxy, get_proxy, list_proxies, register_proxy
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
from zcpt.proxies.gradient import Fisher, GradNorm, Grasp, Plain, Snip
from zcpt.proxies.jacobian import EpeNas, JacobCov
from zcpt.proxies.naswot import BatchNaswot, Naswot, OfficialNaswot
from zcpt.proxies.size import L2Norm, Macs, Params
from zcpt.proxies.synflow import LogSynflow, Synflow, SynflowBN
from zcpt.proxies.tcet import LayerNwot, SnrSnip, SnrSynflow, TcetSnip, TcetSynflow

__all__ = [
    "AUTO",
    "Aggregate",
    "BatchNaswot",
    "Criterion",
    "EpeNas",
    "Fisher",
    "GradNorm",
    "Grasp",
    "JacobCov",
    "L2Norm",
    "LayerNwot",
    "LayerProxy",
    "LogSynflow",
    "Macs",
    "Naswot",
    "Need",
    "OfficialNaswot",
    "Params",
    "Plain",
    "Proxy",
    "Snip",
    "SnrSnip",
    "SnrSynflow",
    "Synflow",
    "SynflowBN",
    "TcetSnip",
    "TcetSynflow",
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
