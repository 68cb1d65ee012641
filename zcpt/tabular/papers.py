"""The tables and figures that ``zcpt reproduce`` measures again, and the numbers that were published in them.

Those of Zero-Cost-PT are named by what they show, except Table 1: the numbers of the others could not be checked.
"""

from __future__ import annotations

from collections.abc import Iterable

from zcpt.tabular import published
from zcpt.tabular.reproduction import Entry, Measurement, Published

_DATA_SETS = ("cifar10", "cifar100", "imagenet16-120")
PAPERS = {
    "Zero-Cost-PT": "Zero-Cost Operation Scoring in Differentiable Architecture Search, AAAI 2023",
    "Zero-Cost Proxies": "Zero-Cost Proxies for Lightweight NAS, ICLR 2021",
    "T-CET": "Exploiting Network Compressibility and Topology in Zero-Cost Neural Architecture Search, AutoML 2023",
}
"""Names of the papers -> their titles."""

_OPERATIONS = Measurement(
    "nasbench201-operations",
    "operations",
    "nasbench201",
    "cifar10",
    "--methods zc_pt,disc_zc --proxies naswot,synflow --seeds 0,1,2,3",
    full="--batch-size 256",
    small="--batch-size 64",
    scaled="mini-batches of 64 images in place of 256, for less time and memory",
    minutes=4.4,
    needs_gpu=False,
)
_TE_NAS = Measurement(
    "nasbench201-operations-te-nas",
    "operations",
    "nasbench201",
    "cifar10",
    "--methods te_nas",
    full="--batch-size 64 --seeds 0,1,2,3",
    small="--batch-size 16 --channels 4 --layers 1 --seeds 0,1",
    scaled="TE-NAS on supernets of 4 channels and one cell a stage with 16 images: it needs gradients of each",
)
_ZICO_PROXIES = ("naswot", "zico", "synflow")


def _measure_1shot1(space: str) -> Measurement:
    return Measurement(
        f"{space}-operations",
        "operations",
        space,
        "cifar10",
        "--methods zc_pt,disc_zc --proxies naswot --seeds 0,1,2,3",
        full="--batch-size 128",
        small="--batch-size 64",
        scaled="mini-batches of 64 images in place of 128",
        minutes=1.0 if space.endswith("-1") else None,
        needs_gpu=False,
    )


def _measure_proxies(data_set: str, minutes: float | None) -> Measurement:
    return Measurement(
        f"nasbench201-{data_set}-proxies",
        "proxies",
        "nasbench201",
        data_set,
        "--proxies grad_norm,snip,grasp,fisher,synflow,jacob_cov,vote,tcet_synflow",
        full="--samples 0 --batch-size 64",
        small="--samples 1000 --layers 1 --batch-size 32",
        scaled="1,000 of 15,625 cells, as networks of one cell a stage in place of five, and 32 images in place of 64",
        minutes=minutes,
    )


# Seconds of a network by all of these proxies, at 1,000 networks in two processes. grasp is known for CIFAR-10 only.
_NASBENCH201 = {name: _measure_proxies(name, 9.0 if name == "cifar10" else None) for name in _DATA_SETS}


def _measure_search(data_set: str, proxy: str, minutes: float) -> Measurement:
    return Measurement(
        f"nasbench201-{data_set}-search-{proxy}",
        "search",
        "nasbench201",
        data_set,
        f"--proxy {proxy}",
        full="--proposals 10 --validation-batches 100 --seeds 0,1,2,3,4",
        small="--proposals 1 --seeds 0,1,2,3",
        scaled="one proposal in place of ten that are validated, and four seeds in place of five",
        minutes=minutes,
    )


# Seconds of one proposal by each proxy, times four.
_SEARCHES = {
    (data_set, proxy): _measure_search(data_set, proxy, minutes)
    for data_set, known in zip(_DATA_SETS, ((0.6, 5.5, 0.2), (1.0, 7.1, 0.3), (0.3, 1.7, 0.3)), strict=True)
    for proxy, minutes in zip(_ZICO_PROXIES, known, strict=True)
}
_FIXED_ORDER = Measurement(
    "nasbench201-cifar10-search-fixed",
    "search",
    "nasbench201",
    "cifar10",
    "--preset paper --order fixed --proposals 1 --seeds 0,1,2,3",
    full="--batch-size 256",
    small="--batch-size 64",
    scaled="mini-batches of 64 images in place of 256",
    needs_gpu=False,
)
_DARTS_SEARCH = Measurement(
    "darts-search",
    "search",
    "darts",
    "cifar10",
    "--preset paper --metric valid",
    full="--proposals 10 --validation-batches 100 --seeds 0,1,2,3",
    small="--proposals 1 --seeds 0",
    scaled="one proposal in place of ten that are validated, on a CPU",
)
_WARMUPS = (1000, 3000, 15625)
_SCORES = Measurement(
    "nasbench201-cifar100-scores",
    "proxies",
    "nasbench201",
    "cifar100",
    "--proxies synflow --samples 0 --resamples 0",
    full="--batch-size 64",
    small="--layers 1 --batch-size 32",
    scaled="scores by synflow of networks of one cell a stage in place of five",
    minutes=3.0,
    needs_gpu=False,
)


def _measure_trials(name: str, variants: str, small: str, scaled: str) -> Measurement:
    return Measurement(
        f"nasbench201-cifar100-trials-{name}",
        "trials",
        "nasbench201",
        "cifar100",
        "--target 73.2 --trials 300",
        full="--seeds 50",
        small=small,
        scaled=scaled,
        variants=variants,
        scores=_SCORES.name,
    )


def _format_warmups(algorithm: str) -> str:
    """Return the lines of an algorithm alone and with each warm-up."""
    warmups = "".join(
        f"{algorithm}+warmup-{size}: {{algorithm: {algorithm}, proxy: synflow, warmup: {size}}}\n" for size in _WARMUPS
    )
    return f"{algorithm}: {{algorithm: {algorithm}}}\n{warmups}"


_TRIALS = _measure_trials(
    "evolution",
    _format_warmups("random")
    + _format_warmups("evolution")
    + "evolution+move: {algorithm: evolution, proxy: synflow, move: true}\n"
    + _format_warmups("reinforce")
    + "reinforce+move-10: {algorithm: reinforce, proxy: synflow, move: true, move_samples: 10}\n"
    + "reinforce+move-100: {algorithm: reinforce, proxy: synflow, move: true, move_samples: 100}\n",
    "--seeds 10",
    "10 seeds in place of 50",
)
_PREDICTOR = _measure_trials(
    "predictor",
    "predictor: {algorithm: predictor, trials: 150}\n"
    "predictor+warmup-512: {algorithm: predictor, trials: 150, proxy: synflow, warmup: 512}\n",
    "--seeds 3",
    "three seeds of the predictor, which trains a network on the CPU in every round",
)
_REDUCED = Measurement(
    "nasbench201-cifar10-reduced",
    "proxies",
    "nasbench201",
    "cifar10",
    "--proxies train:econas,train:econas+,synflow,jacob_cov,snip,grad_norm,grasp,vote --batch-size 64",
    full="--samples 300",
)
_TCET_DARTS = Measurement(
    "darts-proxies",
    "proxies",
    "darts",
    "cifar10",
    "--proxies tcet_synflow --metric valid",
    full="--samples 1000 --batch-size 64",
    small="--samples 150 --channels 8 --layers 5 --batch-size 16",
    scaled="150 DARTS cells as networks of 8 channels and 5 cells with 16 images",
    minutes=0.5,
)


def _list_selections() -> Iterable[Published]:
    """Yield accuracy and rank of the architectures of the best operations."""
    for row, (accuracy, rank) in published.SELECTIONS.items():
        measurement = _TE_NAS.name if row == "te-nas" else _OPERATIONS.name
        path = f"results/{row}/chosen/*"
        yield Published(row, "accuracy", accuracy, "Zero-Cost-PT", measurement, f"{path}/accuracy")
        yield Published(row, "rank", rank, "Zero-Cost-PT", measurement, f"{path}/rank", digits=0)


def _list_agreements(space: str, measurements: dict[str, str]) -> Iterable[Published]:
    """Yield the published agreements of the scores that have a measurement."""
    for figure in published.AGREEMENTS:
        if figure.space == space and figure.score in measurements:
            row = f"{figure.score}, {figure.seeds} published seed{'s' * (figure.seeds > 1)}"
            for reference, value in (("best-acc", figure.best_acc), ("avg-acc", figure.avg_acc)):
                if value is not None:
                    path = f"results/{figure.score}/agreement/{reference}/spearman"
                    yield Published(
                        row, reference, f"{value:g}", figure.source, measurements[figure.score], path, digits=3
                    )


def _list_correlations(source: str, proxies: Iterable[str], measurements: dict[str, str]) -> Iterable[Published]:
    """Yield the published correlations of a source for the data sets that have a measurement."""
    for figure in published.CORRELATIONS:
        key = "darts" if figure.space == "darts" else figure.data_set
        if figure.source == source and figure.proxy in proxies and key in measurements and figure.spearman is not None:
            path = f"results/{figure.proxy}/spearman"
            yield Published(figure.proxy, key, f"{figure.spearman:g}", source, measurements[key], path, digits=3)


def _list_votes() -> Iterable[Published]:
    """Yield the vote's Kendall correlations: of a share c of concordant pairs, tau = 2c - 1."""
    for data_set, share in published.CONCORDANT_PAIRS.items():
        name, tau = _NASBENCH201[data_set].name, f"{2 * share - 1:.3f}"
        yield Published("vote", f"{data_set}, Kendall", tau, "ZCP figure", name, "results/vote/kendall", digits=3)


def _list_best_networks() -> Iterable[Published]:
    """Yield how proxies rank the best networks."""
    columns = {
        "Spearman in the best 10 %": "in_best/spearman",
        "Kendall in the best 10 %": "in_best/kendall",
        "best 10 % found": "best_found",
        "best 5 % in 64": "of_64",
    }
    measurement = _NASBENCH201["cifar10"].name
    for proxy, values in published.BEST_NETWORKS.items():
        for (column, path), value in zip(columns.items(), values, strict=True):
            digits = 0 if path == "of_64" else 3
            yield Published(proxy, column, value, "epsinas", measurement, f"results/{proxy}/{path}", digits)


def _list_curves() -> Iterable[Published]:
    """Yield points of the curves of trials."""
    for row, value in published.TRIALS.items():
        path = f"results/{row}/optimistic/mean/-1"
        yield Published(row, "accuracy after 300 trials", value, "ZCP figure", _TRIALS.name, path)
    for row, value in published.TRIALS_NEEDED.items():
        measurement = _PREDICTOR if row.startswith("predictor") else _TRIALS
        path = f"results/{row}/reached/optimistic"
        yield Published(row, "trials to 73.2", value, "ZCP figure", measurement.name, path, digits=0)


def _list_searches() -> Iterable[Published]:
    """Yield the searches by third-party code with each proxy."""
    for figure in published.SEARCHES:
        for proxy in _ZICO_PROXIES:
            if figure.source == "ZiCo" and f", {proxy}," in figure.method:
                measurement = _SEARCHES[figure.data_set, proxy].name
                path = "results/accuracy"
                yield Published(proxy, figure.data_set, figure.accuracy, figure.source, measurement, path)


def _make_1shot1_entry(number: int) -> Entry:
    measurement = _measure_1shot1(space := f"nasbench1shot1-{number}")
    return Entry(
        f"zcpt-1shot1-{number}",
        "Zero-Cost-PT",
        f"agreement of operation scores with trained accuracies on NAS-Bench-1Shot1, space {number}",
        (measurement,),
        tuple(_list_agreements(space, {"zc-pt naswot": measurement.name})),
        "The paper has the same numbers for disc-zc as for zc-pt.",
    )


_OPERATION_SCORES = dict.fromkeys(("zc-pt naswot", "zc-pt synflow", "disc-zc naswot"), _OPERATIONS.name)
_OPERATION_SCORES |= {"disc-zc synflow": _OPERATIONS.name, "avg-acc": _OPERATIONS.name, "te-nas": _TE_NAS.name}
_ZCP_TABLE = ("grad_norm", "snip", "grasp", "fisher", "synflow", "jacob_cov")
_PROXY_MEASUREMENTS = {data_set: measurement.name for data_set, measurement in _NASBENCH201.items()}

_LIST = (
    Entry(
        "zcpt-table-1",
        "Zero-Cost-PT",
        "accuracy and rank of the NAS-Bench-201 cell with the best operation of every edge, by each score",
        (_OPERATIONS, _TE_NAS),
        tuple(_list_selections()),
        "Published numbers are of one seed. Scores that need a trained supernet are not measured.",
    ),
    Entry(
        "zcpt-correlations",
        "Zero-Cost-PT",
        "agreement of operation scores with trained accuracies on NAS-Bench-201, in the undecided supernet",
        (_OPERATIONS, _TE_NAS),
        tuple(_list_agreements("nasbench201", _OPERATION_SCORES)),
        "Spearman's correlation over the candidates of an edge, averaged over the edges. Scores that need a trained "
        "supernet are not measured.",
    ),
    *map(_make_1shot1_entry, (1, 2, 3)),
    Entry(
        "zcpt-searches",
        "Zero-Cost-PT",
        "CIFAR-10 accuracy of the cells that single proposals in fixed order find on NAS-Bench-201",
        (_FIXED_ORDER,),
        tuple(
            Published("zc-pt naswot", "accuracy", f.accuracy, f.source, _FIXED_ORDER.name, "results/accuracy")
            for f in published.SEARCHES
            if f.method.startswith("Zero-Cost-PT, naswot")
        ),
    ),
    Entry(
        "zcpt-proxies",
        "Zero-Cost-PT",
        "accuracy of the cells that Zero-Cost-PT finds on NAS-Bench-201 with several proxies",
        tuple(_SEARCHES.values()),
        tuple(_list_searches()),
        "The published searches are by third-party code, whose authors had not seen the official one.",
    ),
    Entry(
        "zcpt-darts-time",
        "Zero-Cost-PT",
        "seconds of a search on the DARTS space",
        (_DARTS_SEARCH,),
        (Published("search", "seconds", "1500", "abstract", _DARTS_SEARCH.name, "results/seconds", digits=0),),
        "Published: 25 minutes on one GPU, of a model that is not named here.",
    ),
    Entry(
        "zcp-table-1",
        "Zero-Cost Proxies",
        "rank correlation of proxies with trained accuracies on NAS-Bench-201",
        tuple(_NASBENCH201.values()),
        (*_list_correlations("ZCN", _ZCP_TABLE, _PROXY_MEASUREMENTS), *_list_votes()),
        "Spearman's correlation, except for the vote, whose share c of concordant pairs was published: tau = 2c - 1.",
    ),
    Entry(
        "zcp-best-networks",
        "Zero-Cost Proxies",
        "how proxies rank the best cells of NAS-Bench-201 on CIFAR-10",
        (_NASBENCH201["cifar10"],),
        tuple(_list_best_networks()),
        "Published of all 15,625 cells, of which 64 are 0.4 %. Of a sample of 1,000 they are 6 %.",
    ),
    Entry(
        "zcp-figure-1",
        "Zero-Cost Proxies",
        "rank correlation of short trainings and of proxies with trained accuracies on NAS-Bench-201, CIFAR-10",
        (_REDUCED,),
        tuple(
            Published(row, "Spearman", value, "ZCP figure", _REDUCED.name, f"results/{row}/spearman", digits=3)
            for row, value in published.SHORT_TRAININGS.items()
        ),
        "econas is r8c4 after 20 epochs, the setting of EcoNAS (CVPR 2020) in this paper; econas+ is r16c8 after 15.",
    ),
    Entry(
        "zcp-figure-2",
        "Zero-Cost Proxies",
        "accuracies that trials find on NAS-Bench-201 with CIFAR-100, with warm-up and move by synflow",
        (_SCORES, _TRIALS, _PREDICTOR),
        tuple(_list_curves()),
        "Highest test accuracy so far, in the mean of the seeds. Published numbers are read off the curves.",
    ),
    Entry(
        "tcet-correlations",
        "T-CET",
        "rank correlation of T-CET with trained accuracies on NAS-Bench-201 and the DARTS space",
        (*_NASBENCH201.values(), _TCET_DARTS),
        tuple(_list_correlations("L-SWAG", ("tcet_synflow",), {**_PROXY_MEASUREMENTS, "darts": _TCET_DARTS.name})),
        "Published by an independent evaluation of 1,000 networks; accuracies of DARTS cells are NAS-Bench-301's "
        "predictions.",
    ),
)
ENTRIES: dict[str, Entry] = {entry.name: entry for entry in _LIST}
"""Tables and figures by name."""
