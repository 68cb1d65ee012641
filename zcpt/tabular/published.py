"""Published figures to compare ours with. Protocols differ from source to source, and so do the figures."""

from __future__ import annotations

import re
from typing import NamedTuple

SOURCES = {
    "ZiCo": "Li et al., ICLR 2023",
    "VKDNW": "readme of its code (CVPR 2025)",
    "ZCN": "notebook of *Zero-Cost Proxies for Lightweight NAS* (ICLR 2021), which printed absolute values",
    "MONET": "computed from that project's score files",
    "AZ-NAS": "a notebook of its code (CVPR 2024)",
    "L-SWAG": "its paper (CVPR 2025), 1,000 networks",
    "MeCo": "notes on the paper (NeurIPS 2023)",
    "NEAR": "notes on the paper (ICLR 2025)",
    "Suite-Zero": "computed from the scores of NAS-Bench-Suite-Zero (NeurIPS 2022), 9,445 cells without parts that "
    "nothing reaches",
    "GRAF": "a notebook of its code (ICML 2024), 11,221 cells with NAS-Bench-301's surrogate",
    "Zero-Cost-PT": "notebooks and logs of its code (AAAI 2023)",
    "abstract": "abstract of *Zero-Cost Operation Scoring in Differentiable Architecture Search* (AAAI 2023)",
    "ZCP figure": "figures and code of *Zero-Cost Proxies for Lightweight NAS* (ICLR 2021), some read by eye",
    "epsinas": "a notebook of its code, from scores that the authors of *Zero-Cost Proxies* released",
}
ABSOLUTE = frozenset({"ZCN"})
"""Sources that give absolute values of correlations."""


class PublishedCorrelation(NamedTuple):
    """Rank correlations of a proxy with trained accuracy; None where the source does not give one."""

    space: str
    data_set: str
    proxy: str
    spearman: float | None
    kendall: float | None
    source: str


_NB201: dict[str, list[tuple[str, tuple[str, str, str]]]] = {
    # proxy: source, 'spearman/kendall' on CIFAR-10, CIFAR-100, ImageNet16-120
    "params": [("ZiCo", (".75/.57", ".73/.55", ".69/.52")), ("MONET", (".711/.534", ".725/.551", ".679/.508"))],
    "macs": [("ZiCo", (".73/.54", ".71/.51", ".67/.49")), ("VKDNW", (".799/.623", ".763/.586", ".718/.545"))],
    "grad_norm": [("ZiCo", (".63/.46", ".63/.47", ".58/.43")), ("ZCN", (".594/", ".637/", ".578/"))],
    "snip": [("ZiCo", (".63/.46", ".63/.46", ".58/.43")), ("ZCN", (".596/", ".637/", ".578/"))],
    "grasp": [("ZiCo", (".54/.37", ".51/.36", ".56/.40")), ("ZCN", (".514/", ".547/", ".549/"))],
    "fisher": [("ZiCo", (".55/.40", ".55/.41", ".50/.37")), ("ZCN", (".360/", ".385/", ".327/"))],
    "synflow": [("ZiCo", (".73/.54", ".76/.57", ".75/.56")), ("ZCN", (".737/", ".763/", ".751/"))],
    "jacob_cov": [("VKDNW", (".800/.616", ".820/.639", ".779/.602")), ("ZCN", (".731/", ".704/", ".701/"))],
    "naswot-batch": [  # all three use the statistics of the batch
        ("ZiCo", (".77/.58", ".80/.62", ".78/.60")),
        ("VKDNW", (".762/.571", ".799/.607", ".794/.605")),
        ("MONET", (".767/.575", ".801/.613", ".766/.580")),
    ],
    "zen": [("ZiCo", (".38/.29", ".36/.28", ".40/.29")), ("VKDNW", (".103/.102", ".072/.079", ".109/.091"))],
    "gradsign": [("ZiCo", (".77/.58", ".79/.59", ".78/.59"))],
    "knas": [("ZiCo", (".20/.14", ".35/.24", ".42/.30"))],
    "ntk": [("ZiCo", (".44/.33", ".43/.33", ".63/.46"))],
    "te_nas": [("VKDNW", (".722/.536", ".723/.537", ".709/.523")), ("L-SWAG", (".70/", ".67/", ".64/"))],
    "zico": [("ZiCo", (".80/.61", ".81/.61", ".79/.60")), ("VKDNW", (".802/.607", ".809/.614", ".779/.587"))],
    "tcet_synflow": [("L-SWAG", (".77/", ".80/", ".81/"))],
    "meco": [("MeCo", (".894/", ".883/", ".845/"))],
    "near": [("NEAR", (".88/.70", ".87/.69", ".84/.66"))],
    "epe_nas": [("Suite-Zero", (".787/.589", "/", ".319/.216"))],
    "l2_norm": [("Suite-Zero", (".720/.527", "/", ".737/.544"))],
    "plain": [("Suite-Zero", ("-.367/-.244", "/", "-.340/"))],
    "az_nas": [("AZ-NAS", (".9127/.7409", "/", "/")), ("VKDNW", (".892/.712", ".880/.696", ".859/.673"))],
}
_NB301: dict[str, dict[str, float]] = {
    "GRAF": {
        "params": 0.459,
        "macs": 0.422,
        "l2_norm": 0.457,
        "grad_norm": -0.035,
        "snip": -0.040,
        "grasp": 0.340,
        "fisher": -0.272,
        "plain": -0.315,
        "synflow": 0.176,
        "jacob_cov": -0.058,
        "naswot-batch": 0.473,
        "epe_nas": 0.002,
        "zen": 0.434,
    },
    "L-SWAG": {"tcet_synflow": 0.42, "te_nas": 0.37, "az_nas": 0.70},
    "MeCo": {"meco": 0.70, "meco_opt": 0.71},
}
_DATA_SETS = ("cifar10", "cifar100", "imagenet16-120")


def _parse_number(text: str) -> float | None:
    return float(text) if text else None


CORRELATIONS = [
    PublishedCorrelation("nasbench201", data_set, proxy, _parse_number(rho), _parse_number(tau), source)
    for proxy, rows in _NB201.items()
    for source, cells in rows
    for data_set, (rho, tau) in zip(_DATA_SETS, (cell.split("/") for cell in cells), strict=True)
    if rho or tau
] + [
    PublishedCorrelation("darts", "cifar10", proxy, rho, None, source)
    for source, figures in _NB301.items()
    for proxy, rho in figures.items()
]


class PublishedAgreement(NamedTuple):
    """Spearman's correlation of an operation score with best-acc and avg-acc, in the undecided supernet.

    It is the mean over the edges.
    """

    space: str
    score: str
    best_acc: float
    avg_acc: float | None
    seeds: int = 1
    source: str = "Zero-Cost-PT"
    data_set: str = "cifar10"


AGREEMENTS = [
    # The authors' notebooks give some scores twice: of seed 1 with both references, and of four seeds with best-acc.
    PublishedAgreement("nasbench201", "zc-pt naswot", 0.77, 0.83),
    PublishedAgreement("nasbench201", "zc-pt naswot", 0.758, None, seeds=4),
    PublishedAgreement("nasbench201", "zc-pt synflow", 0.63, 0.93),
    PublishedAgreement("nasbench201", "disc-zc naswot", 0.10, 0.03),
    PublishedAgreement("nasbench201", "disc-zc naswot", 0.279, None, seeds=4),
    PublishedAgreement("nasbench201", "disc-zc synflow", 0.60, 0.92),
    PublishedAgreement("nasbench201", "te-nas", 0.44, 0.30),
    PublishedAgreement("nasbench201", "darts-pt", 0.42, 0.67),
    PublishedAgreement("nasbench201", "darts-pt", 0.429, None, seeds=4),
    PublishedAgreement("nasbench201", "darts", 0.20, 0.32),
    PublishedAgreement("nasbench201", "disc-acc", -0.32, -0.48),
    PublishedAgreement("nasbench201", "disc-acc", -0.386, None, seeds=4),
    PublishedAgreement("nasbench201", "zc-pt-post naswot", 0.58, 0.68),
    PublishedAgreement("nasbench201", "disc-zc-post naswot", -0.25, -0.03),
    PublishedAgreement("nasbench201", "avg-acc", 0.65, 1.0),
    PublishedAgreement("nasbench1shot1-1", "zc-pt naswot", 0.75, 0.625),
    PublishedAgreement("nasbench1shot1-1", "darts", 0.50, 0.625),
    PublishedAgreement("nasbench1shot1-2", "zc-pt naswot", 0.375, 0.625),
    PublishedAgreement("nasbench1shot1-2", "darts", 0.375, 0.50),
    PublishedAgreement("nasbench1shot1-3", "zc-pt naswot", 0.60, 0.70),
    PublishedAgreement("nasbench1shot1-3", "darts", 0.60, 0.80),
]


class PublishedSearch(NamedTuple):
    """Test accuracy in percent of the architectures that searches found."""

    space: str
    data_set: str
    method: str
    accuracy: str
    source: str


SEARCHES = [
    PublishedSearch(
        "nasbench201", "cifar10", "Zero-Cost-PT, naswot, N=1, fixed order, 4 seeds", "94.00 ± .47", "Zero-Cost-PT"
    ),
    PublishedSearch(
        "nasbench201", "cifar10", "disc-zc, naswot, N=1, fixed order, 4 seeds", "92.49 ± 1.50", "Zero-Cost-PT"
    ),
    PublishedSearch("nasbench201", "cifar10", "TE-NAS, N=1, fixed order, 4 seeds", "92.53 ± .91", "Zero-Cost-PT"),
    PublishedSearch("nasbench201", "cifar10", "DARTS-PT, one supernet", "80.57", "Zero-Cost-PT"),
    *(
        PublishedSearch("nasbench201", data_set, f"Zero-Cost-PT by third-party code, {proxy}, 5 runs", accuracy, "ZiCo")
        for proxy, accuracies in {
            "naswot": ("93.42 ± .07", "70.77 ± .51", "45.11 ± .26"),
            "zico": ("94.15 ± .22", "72.77 ± .66", "46.39 ± .23"),
            "synflow": ("87.68 ± .16", "58.92 ± .17", "32.20 ± .00"),
        }.items()
        for data_set, accuracy in zip(_DATA_SETS, accuracies, strict=True)
    ),
]


# Numbers that only 'zcpt reproduce' shows, as text with the digits that were published.
SELECTIONS: dict[str, tuple[str, str]] = {
    "zc-pt naswot": ("94.19", "14"),
    "zc-pt synflow": ("93.76", "166"),
    "disc-zc naswot": ("77.04", "14274"),
    "disc-zc synflow": ("93.76", "166"),
    "te-nas": ("92.81", "1817"),
    "best-acc": ("94.37", "1"),
    "avg-acc": ("93.76", "166"),
}
"""Score -> CIFAR-10 accuracy and rank of the NAS-Bench-201 cell with its best operation on every edge: Zero-Cost-PT."""
CONCORDANT_PAIRS: dict[str, float] = {"cifar10": 0.8171, "cifar100": 0.8324, "imagenet16-120": 0.8131}
"""Data set -> share of pairs of NAS-Bench-201 cells that a vote of proxies ranks as accuracy does: ZCP figure."""
BEST_NETWORKS: dict[str, tuple[str, str, str, str]] = {
    "synflow": (".18", ".12", ".458", "29"),
    "jacob_cov": (".15", ".10", ".247", "11"),
    "snip": ("-.36", "-.21", ".307", "1"),
    "grad_norm": ("-.36", "-.21", ".303", "1"),
    "grasp": ("-.35", "-.21", ".308", "3"),
    "fisher": ("-.38", "-.24", ".050", "0"),
}
"""Proxy -> Spearman and Kendall in the best 10 % of NAS-Bench-201 on CIFAR-10, share of these that are among the best
10 % by proxy, and how many of the 64 best by proxy are among the best 5 %: epsinas."""
SHORT_TRAININGS: dict[str, str] = {
    "train:econas": ".61",
    "train:econas+": ".80",
    "synflow": ".74",
    "jacob_cov": ".73",
    "snip": ".58",
    "grad_norm": ".58",
    "grasp": ".48",
}
"""Training or proxy -> Spearman's correlation with accuracy, on NAS-Bench-201 and CIFAR-10: ZCP figure."""
TRIALS: dict[str, str] = {
    "random": "72.05",
    "random+warmup-1000": "72.8",
    "random+warmup-3000": "73.15",
    "random+warmup-15625": "73.2",
    "reinforce": "72.3",
    "reinforce+move-10": "73.0",
    "reinforce+move-100": "73.15",
    "reinforce+warmup-1000": "73.15",
    "reinforce+warmup-3000": "73.2",
    "reinforce+warmup-15625": "73.1",
}
"""Variant -> highest CIFAR-100 accuracy on NAS-Bench-201 after 300 trials: ZCP figure."""
TRIALS_NEEDED: dict[str, str] = {
    "evolution": "195",
    "evolution+warmup-3000": "90",
    "evolution+move": "85",
    "predictor": "115",
    "predictor+warmup-512": "50",
}
"""Variant -> trials until that accuracy is 73.2: ZCP figure."""


class GroundTruth(NamedTuple):
    """Accuracies of a benchmark that results are compared with."""

    space: str
    data_set: str
    metric: str

    def matches(self, figure: PublishedCorrelation | PublishedAgreement | PublishedSearch) -> bool:
        """Return whether a published figure is about the same space and data set, after full training."""
        metrics = ("valid",) if self.space == "darts" else ("test", "best-test")
        return (figure.space, figure.data_set) == (self.space, self.data_set) and self.metric in metrics


def find_correlations(truth: GroundTruth, proxy: str) -> list[PublishedCorrelation]:
    """Return the published correlations of a proxy; hyphens, underscores and spaces in names are ignored."""
    name = _normalize(proxy)
    return [figure for figure in CORRELATIONS if truth.matches(figure) and _normalize(figure.proxy) == name]


def find_agreements(truth: GroundTruth, score: str) -> list[PublishedAgreement]:
    """Return the published agreements of an operation score; hyphens, underscores and spaces in names are ignored."""
    name = _normalize(score)
    return [figure for figure in AGREEMENTS if truth.matches(figure) and _normalize(figure.score) == name]


def find_searches(truth: GroundTruth) -> list[PublishedSearch]:
    """Return the published searches."""
    return [figure for figure in SEARCHES if truth.matches(figure)]


def _normalize(name: str) -> str:
    return re.sub("[-_ ]", "", name)
