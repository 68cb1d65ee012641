"""Zero-cost proxies: scores of a network from one mini-batch, without training; and aggregates of proxies."""

from zcpt.proxies._forward import run_network
from zcpt.proxies._intercept import hook_modules, intercept
from zcpt.proxies._norms import norm_mode
from zcpt.proxies._registry import (
    ArchitectureProxy,
    LayerProxy,
    Need,
    NormMode,
    Proxy,
    WeightInit,
    check_attributes,
    get_proxy,
    list_proxies,
    register_proxy,
)
from zcpt.proxies._weights import clone_tensors, draw_weights
from zcpt.proxies.accuracy import Accuracy
from zcpt.proxies.aggregate import (
    Aggregate,
    Criterion,
    get_aggregate,
    get_aggregate_class,
    get_components,
    get_criterion,
    list_aggregates,
    register_aggregate,
)
from zcpt.proxies.auto import AUTO, Use, resolve_auto
from zcpt.proxies.az_nas import Expressivity, Progressivity, Trainability
from zcpt.proxies.gradient import Fisher, GradNorm, Grasp, PlainSaliency, Snip
from zcpt.proxies.gradsign import GradSign, MeanGradSign
from zcpt.proxies.jacobian import EpeNas, JacobCov
from zcpt.proxies.knas import Knas
from zcpt.proxies.meco import Meco, OptimisedMeco
from zcpt.proxies.naswot import BatchNaswot, Naswot, OfficialNaswot, agreement_kernel, log_determinant
from zcpt.proxies.near import Near
from zcpt.proxies.size import L2Norm, Macs, Params
from zcpt.proxies.swap import RegularisedSwap, Swap
from zcpt.proxies.synflow import LogSynflow, Synflow, SynflowBN
from zcpt.proxies.tcet import LayerNwot, SnrSnip, SnrSynflow, TcetSnip, TcetSynflow
from zcpt.proxies.te_nas import LinearRegions, Ntk
from zcpt.proxies.zen import Zen
from zcpt.proxies.zico import PaperZico, Zico

__all__ = [
    "AUTO",
    "Accuracy",
    "Aggregate",
    "ArchitectureProxy",
    "BatchNaswot",
    "Criterion",
    "EpeNas",
    "Expressivity",
    "Fisher",
    "GradNorm",
    "GradSign",
    "Grasp",
    "JacobCov",
    "Knas",
    "L2Norm",
    "LayerNwot",
    "LayerProxy",
    "LinearRegions",
    "LogSynflow",
    "Macs",
    "MeanGradSign",
    "Meco",
    "Naswot",
    "Near",
    "Need",
    "NormMode",
    "Ntk",
    "OfficialNaswot",
    "OptimisedMeco",
    "PaperZico",
    "Params",
    "PlainSaliency",
    "Progressivity",
    "Proxy",
    "RegularisedSwap",
    "Snip",
    "SnrSnip",
    "SnrSynflow",
    "Swap",
    "Synflow",
    "SynflowBN",
    "TcetSnip",
    "TcetSynflow",
    "Trainability",
    "Use",
    "WeightInit",
    "Zen",
    "Zico",
    "agreement_kernel",
    "check_attributes",
    "clone_tensors",
    "draw_weights",
    "get_aggregate",
    "get_aggregate_class",
    "get_components",
    "get_criterion",
    "get_proxy",
    "hook_modules",
    "intercept",
    "list_aggregates",
    "list_proxies",
    "log_determinant",
    "norm_mode",
    "register_aggregate",
    "register_proxy",
    "resolve_auto",
    "run_network",
]
