"""Zero-cost proxies: a number for a network from one mini-batch, without training."""

from zcpt.proxies._layers import LayerProxy
from zcpt.proxies._registry import Need, Proxy, get_proxy, list_proxies, register_proxy
from zcpt.proxies.gradient import Fisher, GradNorm, Grasp, Plain, Snip
from zcpt.proxies.jacobian import EpeNas, JacobCov
from zcpt.proxies.naswot import BatchNaswot, Naswot, OfficialNaswot
from zcpt.proxies.size import L2Norm, Macs, Params
from zcpt.proxies.synflow import LogSynflow, Synflow, SynflowBN
from zcpt.proxies.tcet import LayerNwot, SnrSnip, SnrSynflow, TcetSnip, TcetSynflow

__all__ = [
    "BatchNaswot",
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
    "get_proxy",
    "list_proxies",
    "register_proxy",
]
